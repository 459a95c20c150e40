"""`vidqueue db dump` and `restore`: a backup of a working daemon comes to life elsewhere, or changes nothing."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine, Ran
from tests.cli.screens import on_a_terminal
from tests.daemon import Daemon, until

UPLOAD = b"the bytes of an upload" * 1000


@pytest.fixture(scope="module")
def work(daemon: Daemon) -> dict[str, Any]:
    """A finished job and an upload in the shared daemon."""
    uploaded = daemon.http.post("/v1/files", content=UPLOAD, headers={"X-Filename": "clip.bin"})
    assert uploaded.status_code == 201, uploaded.text
    # The same bytes under another name are not stored twice: both files are one on the disk.
    known = {"hash": f"sha256:{uploaded.json()['sha256']}", "name": "again.bin"}
    again = daemon.http.post("/v1/files/from-hash", json=known)
    assert again.status_code == 201, again.text
    job = daemon.ended(daemon.submit(act="work"))
    return {"job": job["id"], "upload": uploaded.json()["id"], "again": again.json()["id"]}


@pytest.fixture(scope="module")
def archive(daemon: Daemon, work: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup that was made while the daemon ran and a job was at work."""
    folder = tmp_path_factory.mktemp("backup")
    running = daemon.submit(act="work", seconds=60)
    work["running"] = running
    target = folder / "night.tar"
    ran = CommandLine(folder, daemon.url)("db", "dump", str(target), "--data-dir", str(daemon.data_dir), "--json")
    daemon.http.post(f"/v1/jobs/{running}/cancel")
    assert ran.code == 0, ran.err
    assert ran.json["files"] >= 2
    return target


@pytest.fixture
def restored(alone: CommandLine, archive: Path, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon on a new data folder into which the backup was restored."""
    ran = restore(alone, archive, tmp_path / "data")
    assert ran.code == 0, ran.err
    started = Daemon(tmp_path / "data").start()
    yield started
    assert started.stop() == 0


def restore(command_line: CommandLine, archive: Path, data_dir: Path) -> Ran:
    return command_line("db", "restore", str(archive), "--data-dir", str(data_dir), "--json")


def test_a_backup_of_a_daemon_at_work_comes_to_life_in_a_new_folder(
    restored: Daemon, daemon: Daemon, work: dict[str, Any]
) -> None:
    job = restored.job(work["job"])
    assert job["state"] == "succeeded"
    assert restored.http.get(job["outputs"][0]["url"]).text == "done\n"
    assert restored.http.get(f"/v1/files/{work['upload']}/content").content == UPLOAD
    assert restored.http.get(f"/v1/files/{work['again']}/content").content == UPLOAD
    # What ran when the backup was made runs again, and that was nobody's fault.
    restored.http.post(f"/v1/jobs/{work['running']}/cancel")
    assert restored.ended(work["running"])["state"] == "canceled"
    assert restored.ended(restored.submit(act="work"))["state"] == "succeeded"
    assert restored.violations() == []
    # The daemon that the backup was made of knows nothing of it.
    assert daemon.job(work["job"])["state"] == "succeeded"


@pytest.fixture
def running(daemon: Daemon) -> Iterator[str]:
    """A job that the daemon runs while the backup comes to life beside it."""
    job_id = daemon.submit(act="work", seconds=600, lane="cpu0")
    until(lambda: daemon.job(job_id)["state"] == "running")
    yield job_id
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")


def test_a_daemon_on_a_restored_copy_ends_no_process_of_the_daemon_in_service(
    daemon: Daemon, work: dict[str, Any], running: str, restored: Daemon
) -> None:
    restored.http.post(f"/v1/jobs/{work['running']}/cancel")
    # An executor of the copy is killed with its job, and with it whatever has the mark of its lane.
    doomed = restored.submit(act="ignore_cancel", lane="cpu0")
    until(lambda: restored.job(doomed)["state"] == "running")
    restored.http.post(f"/v1/jobs/{doomed}/cancel")
    assert restored.ended(doomed)["state"] == "canceled"
    assert "stray_processes_killed" not in restored.log.read_text()
    assert daemon.sql(f"SELECT outcome FROM vidqueue.attempts WHERE job_id = '{running}'") == [{"outcome": None}]


def test_an_archive_is_private_and_replaces_nothing_unasked(
    vidqueue: CommandLine, daemon: Daemon, archive: Path, tmp_path: Path
) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in archive.parent.iterdir()] == [archive.name]
    target = tmp_path / "mine.txt"
    target.write_text("mine")
    words = ["db", "dump", str(target), "--data-dir", str(daemon.data_dir), "--without-files"]
    ran = vidqueue(*words)
    assert ran.code == 2
    assert "mine.txt exists" in ran.err
    assert target.read_text() == "mine"
    missing = vidqueue("db", "dump", str(tmp_path / "no" / "night.tar"), "--data-dir", str(daemon.data_dir))
    assert (missing.code, f"There is no folder {tmp_path / 'no'}." in missing.err) == (2, True)
    assert vidqueue(*words, "--force").code == 0
    with tarfile.open(target) as written:
        assert written.getnames() == ["manifest.json", "database.dump"]


def test_a_backup_goes_through_pipes(
    vidqueue: CommandLine, daemon: Daemon, work: dict[str, Any], tmp_path: Path
) -> None:
    with vidqueue.start(
        "db", "dump", "-", "--data-dir", str(daemon.data_dir), stdout=-1
    ) as dumping, vidqueue.start(
        "db", "restore", "-", "--data-dir", str(tmp_path / "data"), stdin=dumping.stdout, stdout=-1
    ) as restoring:  # fmt: skip
        said, _ = restoring.communicate(timeout=120)
    assert (dumping.returncode, restoring.returncode) == (0, 0)
    assert b"Restored the backup of" in said
    assert (tmp_path / "data" / "files" / work["upload"][-2:] / work["upload"]).read_bytes() == UPLOAD


def test_a_database_in_use_and_a_folder_of_another_are_refused(
    vidqueue: CommandLine, daemon: Daemon, archive: Path, alone: CommandLine, tmp_path: Path
) -> None:
    busy = restore(vidqueue, archive, daemon.data_dir)
    assert busy.code == 75
    assert "A daemon runs on" in busy.err

    first = tmp_path / "data"
    assert restore(alone, archive, first).code == 0
    again = restore(alone, archive, first)
    assert again.code == 1
    assert "is not empty" in again.err

    other = tmp_path / "other"
    (other).mkdir()
    (other / "database_id").write_text("01234567-89ab-7def-8123-456789abcdef")
    (other / "files").mkdir()
    refused = restore(alone, archive, other)
    assert refused.code == 1
    assert "another installation" in refused.err


def test_files_that_came_after_the_backup_are_moved_and_not_removed(
    alone: CommandLine, archive: Path, tmp_path: Path
) -> None:
    newer = "01234567-89ab-7def-8123-4567890000aa"
    folder = tmp_path / "data" / "files" / newer[-2:]
    folder.mkdir(parents=True)
    (folder / newer).write_bytes(b"newer")
    ran = restore(alone, archive, tmp_path / "data")
    assert (ran.code, ran.json["newer"]) == (0, 1)
    (aside,) = (tmp_path / "data").glob("not-in-backup-*")
    assert (aside / newer).read_bytes() == b"newer"


def test_a_damaged_file_is_named_and_a_damaged_archive_is_refused(
    alone: CommandLine, archive: Path, work: dict[str, Any], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.tar"
    _rewrite(archive, damaged, {f"files/{work['upload']}": UPLOAD[:-1] + b"!"})
    ran = restore(alone, damaged, tmp_path / "one")
    assert (ran.code, ran.json["damaged"]) == (1, [work["upload"]])
    assert f"file {work['upload']} is damaged" in ran.err
    assert not (tmp_path / "one" / "files" / work["upload"][-2:] / work["upload"]).exists()

    cut = tmp_path / "cut.tar"
    cut.write_bytes(archive.read_bytes()[:30_000])
    assert restore(alone, cut, tmp_path / "two").code == 1
    # Whole or not at all: the same folder takes the archive that is whole.
    assert restore(alone, archive, tmp_path / "two").code == 0


@pytest.mark.parametrize("content", [b"", b"not a tar file" * 100, "tar", "later"])
def test_what_is_no_backup_is_said_to_be_none(alone: CommandLine, content: bytes | str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.tar"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        name = {"tar": "etc/passwd", "later": "manifest.json"}[content]
        _write(file, {name: json.dumps({"format": 99}).encode()})
    ran = restore(alone, file, tmp_path / "data")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ("format 99" if content == "later" else "not a backup of vidqueue") in ran.err


def test_what_is_refused_draws_no_bar(alone: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "wrong.tar").write_bytes(b"not a tar file" * 100)
    refused = ("db", "restore", str(tmp_path / "wrong.tar"), "--data-dir", str(tmp_path / "data"))
    shown = on_a_terminal(alone, *refused, code=1)
    assert "not a backup" in shown or "archive" in shown
    assert "━" not in shown


def test_a_password_never_is_an_argument(alone: CommandLine, tmp_path: Path) -> None:
    """psql is found first on PATH here, so a stand-in shows what it is given."""
    shown = tmp_path / "psql"
    shown.write_text('#!/bin/sh\necho "$@"\necho "$PGPASSWORD"\n')
    shown.chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "VIDQUEUE_DATABASE__URL": "postgresql://me:s3cret@db.example/queue?sslmode=require",
    }
    arguments, password = alone("db", "psql", variables=variables).out.splitlines()
    assert "s3cret" not in arguments
    assert {"user=me", "dbname=queue", "host=db.example", "sslmode=require"} <= set(arguments.split("=", 1)[1].split())
    assert password == "s3cret"


def _rewrite(archive: Path, target: Path, changed: dict[str, bytes]) -> None:
    with tarfile.open(archive) as source:
        contents = {one.name: source.extractfile(one).read() for one in source}  # type: ignore[union-attr]
    _write(target, contents | changed)


def _write(target: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(target, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
