"""The doctor, the database commands, serve's refusals, and bars on a real terminal."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import CommandLine
from tests.cli.screens import on_a_terminal
from tests.daemon import Daemon, until
from tests.postgres import own_postgres
from vidqueue.db.embedded import server as embedded


def test_the_doctor_examines_everything_and_leaves_no_database_behind(alone: CommandLine) -> None:
    ran = alone("doctor", "--json")
    checks = {check["name"]: check for check in ran.lines}
    machine = {
        "data folder",
        "processors",
        "address",
        "secrets",
        "disk",
        "inputs",
        "gpu",
        "torch",
        "opencv",
        "ffmpeg",
        "formats",
        "encoders",
        "jail",
        "peers",
    }
    assert set(checks) == machine | {"jail", "database", "migrations"}
    assert {check["level"] for check in checks.values()} <= {"ok", "warning", "error"}
    assert all(check["advice"] for check in checks.values() if check["level"] != "ok")
    assert checks["database"]["level"] == "ok", checks["database"]
    assert ran.code == (1 if "error" in {check["level"] for check in checks.values()} else 0)
    assert not (alone.folder / "unused").exists()


def test_the_doctor_asks_the_database_of_a_running_daemon(vidqueue: CommandLine, daemon: Daemon) -> None:
    checks = {check["name"]: check for check in vidqueue("doctor", "--json", "--data-dir", str(daemon.data_dir)).lines}
    assert checks["migrations"] == {"name": "migrations", "level": "ok", "found": "up to date", "advice": ""}
    assert checks["invariants"]["level"] == "ok", checks["invariants"]


def test_the_doctor_calls_a_database_that_does_not_answer_an_error(alone: CommandLine) -> None:
    ran = alone("doctor", variables={"VIDQUEUE_DATABASE__URL": "postgresql://me:pass1@127.0.0.1:9/x"})
    assert ran.code == 1
    assert "error    database     The database does not answer" in ran.out
    assert "pass1" not in ran.out + ran.err


def test_the_doctor_counts_its_checks(alone: CommandLine) -> None:
    ran = alone("doctor")
    levels = [line.split()[0] for line in ran.out.splitlines() if not line.startswith(" ")]
    assert f"{len(levels)} checks: {levels.count('ok')} ok" in ran.err


def test_the_doctor_tells_its_daemon_from_another_program_on_the_port(
    vidqueue: CommandLine, alone: CommandLine, daemon: Daemon
) -> None:
    ours = {one["name"]: one for one in vidqueue("doctor", "--json", "--data-dir", str(daemon.data_dir)).lines}
    assert daemon.url in ours["address"]["found"]
    port = daemon.url.rsplit(":", 1)[1]
    theirs = {one["name"]: one for one in alone("doctor", "--json", variables={"VIDQUEUE_API__PORT": port}).lines}
    assert theirs["address"]["level"] == "error"
    assert "in use" in theirs["address"]["found"]


@pytest.mark.parametrize("password", ["p@ss", "pa/ss", "p%ss", "p@s/s"])
def test_a_password_that_is_not_encoded_is_explained_and_not_shown(alone: CommandLine, password: str) -> None:
    ran = alone("db", "migrate", variables={"VIDQUEUE_DATABASE__URL": f"postgresql://me:{password}1234@db.invalid/x"})
    assert ran.code == 69
    assert "write % as %25, @ as %40" in ran.err
    assert password[2:] + "1234" not in ran.err


@pytest.mark.long
def test_a_file_with_a_password_that_others_can_read_is_a_warning(alone: CommandLine) -> None:
    for mode, level in ((0o644, "warning"), (0o600, "ok")):
        config = alone.folder / "vidqueue.toml"
        config.write_text('[database]\nurl = "postgresql://me:secret@127.0.0.1:9/x"\n')
        config.chmod(mode)
        checks = {check["name"]: check for check in alone("doctor", "--json", "--config", str(config)).lines}
        assert checks["secrets"]["level"] == level, checks["secrets"]


def test_commands_find_the_database_of_a_daemon_that_has_its_address_from_systemd(
    alone: CommandLine, tmp_path: Path
) -> None:
    """As under a service with LoadCredential=, which commands in a terminal do not have."""
    with own_postgres() as postgres:
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials" / "database_url").write_text(postgres.url)
        running = Daemon(tmp_path / "data", CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"))
        running.prepared = False
        running.start()
        try:
            assert alone("db", "url", "--data-dir", str(running.data_dir)).out.strip() == postgres.url
            checks = {one["name"]: one for one in alone("doctor", "--json", "--data-dir", str(running.data_dir)).lines}
            assert "your server" in checks["database"]["found"]
        finally:
            assert running.stop() == 0
    # Of a daemon that has ended nothing is taken, and no other database is made: a backup of it would be empty.
    folder = ("--data-dir", str(running.data_dir))
    for words in (
        ("db", "url"),
        ("db", "dump", "x.tar"),
        ("keys", "list"),
        ("db", "migrate"),
        ("doctor", "--invariants"),
    ):
        ran = alone(*words, *folder)
        assert (ran.code, ran.out) == (78, ""), words
        assert "belongs to a database whose address this command does not know" in ran.err
    checks = {one["name"]: one for one in alone("doctor", "--json", *folder).lines}
    assert "VIDQUEUE_DATABASE__URL_FILE" in checks["database"]["advice"]
    assert not embedded.exists(running.data_dir)
    assert alone("serve", *folder).code == 78
    assert not embedded.exists(running.data_dir)


def test_commands_refuse_a_database_that_is_not_that_of_the_data_folder(alone: CommandLine, daemon: Daemon) -> None:
    (alone.folder / "data").mkdir()
    (alone.folder / "data" / "database_id").write_text("another")
    theirs = {"VIDQUEUE_DATABASE__URL": daemon.database_url, "VIDQUEUE_DATA_DIR": str(alone.folder / "data")}
    ran = alone("db", "dump", "x.tar", variables=theirs)
    assert (ran.code, (alone.folder / "x.tar").exists()) == (78, False)
    assert "belongs to another database than this one" in ran.err


@pytest.mark.parametrize(
    "words", [("db", "dump", "x.tar"), ("db", "restore", "/dev/null"), ("db", "reader", "them"), ("keys", "list")]
)
def test_a_database_that_does_not_answer_is_said_in_words_by_every_command(
    alone: CommandLine, words: tuple[str, ...]
) -> None:
    ran = alone(*words, variables={"VIDQUEUE_DATABASE__URL": "postgresql://me:pass1@127.0.0.1:9/x"})
    assert ran.code == (1 if "restore" in words else 69)
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err
    assert "?" not in ran.err


def test_machines_of_one_name_are_reported(vidqueue: CommandLine, daemon: Daemon) -> None:
    daemon.sql("""
        INSERT INTO vidqueue.lanes (node, host, name, device, takes, queue, state, process)
        SELECT gen_random_uuid(), host, 'cpu9', 'cpu', '{cpu}', 'lane:other', 'online', 'boot/ns/1/1'
        FROM vidqueue.lanes LIMIT 1""")
    try:
        checks = {one["name"]: one for one in vidqueue("doctor", "--json", "--data-dir", str(daemon.data_dir)).lines}
    finally:
        daemon.sql("DELETE FROM vidqueue.lanes WHERE queue = 'lane:other'")
    assert checks["host names"]["level"] == "warning"


def test_db_migrate_starts_the_embedded_server_for_its_time_only(alone: CommandLine) -> None:
    first = alone("db", "migrate", "--json")
    assert first.code == 0, first.err
    assert "0001_foundation" in first.json["applied"]
    assert not (alone.folder / "unused" / "postgres" / "postmaster.pid").exists()
    assert alone("db", "migrate").out == "The database is up to date.\n"


def test_db_migrate_leaves_the_server_of_a_running_daemon_running(vidqueue: CommandLine, daemon: Daemon) -> None:
    ran = vidqueue("db", "migrate", "--json", "--data-dir", str(daemon.data_dir))
    assert ran.json == {"applied": []}
    address = vidqueue("db", "url", "--data-dir", str(daemon.data_dir)).out.strip()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM vidqueue.migrations").fetchone() == (True,)


def test_db_migrate_on_a_server_that_does_not_answer_is_69(alone: CommandLine) -> None:
    ran = alone("db", "migrate", variables={"VIDQUEUE_DATABASE__URL": "postgresql://me:secret@127.0.0.1:9/x"})
    assert ran.code == 69
    assert "secret" not in ran.err


def test_serve_refuses_a_data_folder_in_use_with_75(vidqueue: CommandLine, daemon: Daemon) -> None:
    ran = vidqueue("serve", "--data-dir", str(daemon.data_dir), "--port", "0")
    assert ran.code == 75


def test_bars_are_drawn_on_a_terminal(vidqueue: CommandLine) -> None:
    shown = on_a_terminal(vidqueue, "submit", "zoo", "--act", "work", "--seconds", "0.5", "--wait")
    assert "━" in shown
    assert "\x1b[32msucceeded" in shown


def test_a_lane_says_that_its_job_is_suspended(vidqueue: CommandLine, daemon: Daemon) -> None:
    job = daemon.submit(act="doze", seconds=60)
    until(lambda: daemon.job(job)["state"] == "running")
    assert "suspended" not in vidqueue("lanes").out
    assert vidqueue("suspend", job).code == 0
    (line,) = [line for line in vidqueue("lanes").out.splitlines() if job in line]
    assert line.endswith("suspended")
    (lane,) = [lane for lane in vidqueue("lanes", "--json").lines if (lane["job"] or {}).get("id") == job]
    assert (lane["job"]["suspended_by"], lane["job"]["suspended_at"]) == ("person", daemon.job(job)["suspended_at"])
    freed = vidqueue("lanes", "free", lane["name"])
    assert (freed.code, freed.out.endswith(" frees its memory after its job\n")) == (0, True), freed
    assert vidqueue("cancel", job).code == 0
    daemon.ended(job)
    assert vidqueue("lanes", "free", lane["name"]).out.endswith(" frees its memory now\n")


def test_windows_are_confirmed_without_the_state_of_before(vidqueue: CommandLine) -> None:
    ran = vidqueue("lanes", "windows", "cpu0", "--always")
    assert (ran.code, ran.out.endswith(" works at any time\n")) == (0, True), ran
    ran = vidqueue("lanes", "windows", "cpu0", "25:00-26:00")
    assert ran.code == 2
    assert "'25:00-26:00' has a time that no clock shows" in ran.err
    assert "--open" not in ran.err
