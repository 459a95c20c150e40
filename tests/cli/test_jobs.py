"""Jobs from the command line: submitted, watched, read, changed; against a real daemon and the zoo."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until

NO_SUCH_JOB = "01890000-0000-7000-8000-000000000000"


def test_submit_prints_the_id_alone_and_watch_sees_it_to_its_end(vidqueue: CommandLine, daemon: Daemon) -> None:
    ran = vidqueue("submit", "zoo", "--act", "work", "--seconds", "0.3")
    assert (ran.code, ran.err) == (0, "")
    job_id = ran.out.strip()
    watched = vidqueue("watch", job_id)
    assert watched.code == 0, watched.err
    assert watched.out == ""
    last = watched.err.splitlines()[-1]
    assert job_id in last
    assert "succeeded" in last
    assert daemon.job(job_id)["input"] == {"act": "work", "seconds": 0.3}, "only what was given is sent"


def test_what_is_said_of_a_job_arrives(vidqueue: CommandLine) -> None:
    job = vidqueue(
        "submit", "zoo", "--title", "a title", "--tag", "x", "--tag", "y", "--priority", "-7", "--lane", "cpu1",
        "--max-attempts", "2", "--timeout", "60", "--run-at", "2099-01-02T03:04:05+00:00", "--json",
    ).json  # fmt: skip
    assert (job["title"], job["tags"], job["priority"], job["lane"]) == ("a title", ["x", "y"], -7, "cpu1")
    assert (job["max_attempts"], job["run_at"]) == (2, "2099-01-02T03:04:05Z")
    assert vidqueue("cancel", job["id"]).code == 0


def test_a_job_comes_after_others_reads_their_output_by_a_piece_of_their_id_and_is_kept_for_a_time(
    vidqueue: CommandLine, daemon: Daemon
) -> None:
    first = vidqueue("submit", "zoo", "--seconds", "0.5").out.strip()
    job = vidqueue("submit", "zoo", "--after", first[-8:], "--keep", "30m", "--json").json
    assert (job["depends_on"], job["keep_s"]) == ([first], 1800)
    later = vidqueue("submit", "zoo", "--run-at", "2099-01-01T00:00").out.strip()
    unknown = vidqueue("submit", "zoo", "--act", "read", "--media", f"vq:jobs/{later[-8:]}")
    assert (unknown.code, "has none yet" in unknown.err) == (2, True)
    assert vidqueue("cancel", later).code == 0
    assert daemon.ended(job["id"])["kept_until"] is not None
    reader = vidqueue("submit", "zoo", "--act", "read", "--media", f"vq:jobs/{first[-8:]}", "--json").json
    assert reader["input"]["media"] == f"vq:jobs/{first}/text"
    (vidqueue.folder / "chain.csv").write_text(
        "processor,name,act,media,after\nzoo,a,,,\nzoo,b,read,vq:batch/a/text,\nzoo,,,,a;b\n"
    )
    ran = vidqueue("batch", "chain.csv", "--wait", "--json")
    assert (ran.code, ran.lines[-1]["counts"]["succeeded"]) == (0, 3), ran.err


def test_the_same_idempotency_key_makes_no_second_job(vidqueue: CommandLine) -> None:
    words = ("submit", "zoo", "--idempotency-key", "only-once")
    assert vidqueue(*words).out == vidqueue(*words).out
    other = vidqueue(*words, "--seconds", "1")
    assert (other.code, "idempotency_mismatch" in other.err) == (1, True)


def test_a_failed_job_ends_the_waiting_with_3_and_tells_why(vidqueue: CommandLine) -> None:
    ran = vidqueue("submit", "zoo", "--act", "refuse", "--wait")
    assert ran.code == 3
    assert "error: The zoo refuses this." in ran.err
    assert "code: unsupported_format" in ran.err
    job_id = ran.err.split("submitted ")[1].split()[0]
    assert vidqueue("watch", job_id).code == 3
    shown = vidqueue("status", job_id).out
    assert "unsupported_format: The zoo refuses this." in shown


def test_a_canceled_job_ends_the_watching_with_5(vidqueue: CommandLine, daemon: Daemon) -> None:
    job_id = vidqueue("submit", "zoo", "--act", "hang").out.strip()
    watching = vidqueue.start("watch", job_id, stderr=subprocess.PIPE)
    until(lambda: daemon.job(job_id)["state"] == "running", what="it runs")
    canceled = vidqueue("cancel", job_id)
    assert canceled.code == 0
    assert canceled.out.strip() in (f"{job_id}  running, is being canceled", f"{job_id}  canceled")
    _, err = watching.communicate(timeout=30)
    assert watching.returncode == 5, err.decode()


def test_ctrl_c_detaches_and_the_job_goes_on(vidqueue: CommandLine, daemon: Daemon) -> None:
    waiting = vidqueue.start("submit", "zoo", "--act", "hang", "--wait", stderr=subprocess.PIPE)
    assert waiting.stderr is not None
    first = waiting.stderr.readline().decode()
    job_id = first.split()[1]
    until(lambda: daemon.job(job_id)["state"] == "running", what="it runs")
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130, err.decode()
    assert f"vidqueue watch {job_id}" in err.decode()
    assert daemon.job(job_id)["state"] == "running"
    assert vidqueue("cancel", job_id).code == 0


@pytest.mark.usefixtures("idle")
def test_watching_without_ids_follows_what_waits_and_runs_and_then_ends(vidqueue: CommandLine, daemon: Daemon) -> None:
    ids = {daemon.submit(act="work", seconds=0.5) for _ in range(5)}
    ran = vidqueue("watch", "--json")
    assert ran.code == 0, ran.err
    last = {job["id"]: job["state"] for job in ran.lines}
    assert {job_id: last.get(job_id, "succeeded") for job_id in ids} == dict.fromkeys(ids, "succeeded")
    assert vidqueue("watch").err == "No job is waiting or running.\n"


def test_watching_survives_a_daemon_that_is_killed_and_comes_back(vidqueue: CommandLine, daemon: Daemon) -> None:
    # On a fixed port, as in real life; the daemon of the other tests takes a free one.
    other = Daemon(daemon.data_dir.parent / "restarted", VIDQUEUE_API__PORT=daemon_port())
    other.start()
    # At work until the daemon is killed, however long the program takes to start; done at once when it is back.
    job_id = other.submit(act="linger_once", seconds=60, marker=str(vidqueue.folder / "marker"))
    until((vidqueue.folder / "marker").exists)
    watching = vidqueue.start("watch", job_id, "--url", other.url, stderr=subprocess.PIPE)
    assert watching.stderr is not None
    assert job_id in watching.stderr.readline().decode()
    other.kill()
    other.start()
    _, err = watching.communicate(timeout=60)
    told = err.decode()
    assert watching.returncode == 0, told
    assert told.index("The daemon is away") < told.index("The daemon is back.") < told.index("succeeded")
    assert other.stop() == 0


def daemon_port() -> str:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def test_list_filters_pages_and_writes_one_object_a_line(vidqueue: CommandLine) -> None:
    ids = [vidqueue("submit", "zoo", "--tag", "paged", "--run-at", "2099-01-01T00:00").out.strip() for _ in range(3)]
    listed = vidqueue("list", "--tag", "paged", "--state", "queued", "--json")
    assert [job["id"] for job in listed.lines] == ids[::-1]
    assert [job["id"] for job in vidqueue("list", "--tag", "paged", "--limit", "2", "--json").lines] == ids[:0:-1]
    assert vidqueue("list", "--tag", "paged", "--processor", "enhance", "--json").out == ""
    shown = vidqueue("list", "--tag", "paged").out
    assert [line.split()[0] for line in shown.splitlines()] == ["ID", *ids[::-1]]
    assert "begins in " in shown
    assert vidqueue("cancel", *ids).code == 0


def test_all_follows_every_page(vidqueue: CommandLine, daemon: Daemon) -> None:
    body = {"processor": "zoo", "tags": ["many"], "run_at": "2099-01-01T00:00:00Z"}
    ids = [daemon.http.post("/v1/jobs", json=body).json()["id"] for _ in range(203)]
    assert [job["id"] for job in vidqueue("list", "--all", "--tag", "many", "--json").lines] == ids[::-1]
    assert vidqueue("cancel", *ids).code == 0


def test_priority_and_retry_change_the_job(vidqueue: CommandLine) -> None:
    job_id = vidqueue("submit", "zoo", "--run-at", "2099-01-01T00:00").out.strip()
    assert vidqueue("priority", job_id, "-20", "--json").json["priority"] == -20
    assert vidqueue("cancel", job_id, "--json").json["state"] == "canceled"
    assert vidqueue("retry", job_id, "--json").json["state"] in {"queued", "running", "succeeded"}
    assert vidqueue("watch", job_id).code == 0
    refused = vidqueue("retry", job_id)
    assert (refused.code, "code: conflict" in refused.err) == (1, True)


def test_delete_removes_a_finished_job(vidqueue: CommandLine) -> None:
    job_id = vidqueue("submit", "zoo", "--wait").out.strip()
    assert vidqueue("delete", job_id).out == f"{job_id}  deleted\n"
    assert vidqueue("status", job_id).code == 4


@pytest.mark.parametrize("command", ["status", "watch", "logs", "result", "cancel", "retry"])
def test_4_for_a_job_that_is_not_there(vidqueue: CommandLine, command: str) -> None:
    ran = vidqueue(command, NO_SUCH_JOB)
    assert ran.code == 4
    assert "code: not_found" in ran.err


def test_one_refusal_does_not_keep_the_other_jobs_from_being_canceled(vidqueue: CommandLine, daemon: Daemon) -> None:
    job_id = vidqueue("submit", "zoo", "--run-at", "2099-01-01T00:00").out.strip()
    assert vidqueue("cancel", NO_SUCH_JOB, job_id).code == 4
    assert daemon.job(job_id)["state"] == "canceled"


def test_logs_are_those_of_the_attempt_asked_for(vidqueue: CommandLine) -> None:
    ran = vidqueue("submit", "zoo", "--act", "print_secrets", "--wait", "--json")
    job_id = json.loads(ran.out.splitlines()[-1])["id"]
    lines = vidqueue("logs", job_id, "--json").lines
    assert {line["attempt"] for line in lines} == {1}
    assert vidqueue("logs", job_id, "--attempt", "1", "--follow").out.count("\n") == len(lines)
    assert vidqueue("logs", job_id, "--attempt", "2").code == 4


def test_processors_and_lanes_are_told(vidqueue: CommandLine) -> None:
    assert {"transcode", "enhance", "zoo"} <= {one["name"] for one in vidqueue("processors", "--json").lines}
    assert "--" not in vidqueue("processors", "enhance").out
    misspelt = vidqueue("processors", "enhanse")
    assert (misspelt.code, "Did you mean 'enhance'?" in misspelt.err) == (4, True)
    lanes = vidqueue("lanes", "--json").lines
    assert {lane["name"] for lane in lanes} >= {"cpu0", "cpu1"}
    assert "cpu1" in vidqueue("lanes").out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("list", "--tag", "never-used"), "No job fits."),
        (("bulk", "list"), "There are no bulk actions."),
        (("schedules", "list"), "There are no schedules."),
        (("webhooks", "list"), "There are no receivers."),
        (("watch-folders",), "The daemon has no watch folders."),
    ],
)
def test_an_empty_list_is_a_sentence(vidqueue: CommandLine, words: tuple[str, ...], sentence: str) -> None:
    ran = vidqueue(*words)
    assert (ran.code, ran.out, ran.err) == (0, "", f"{sentence}\n")
    assert (vidqueue(*words, "--json").out, vidqueue(*words, "--json").err) == ("", "")


def test_what_was_done_to_many_jobs_is_told_with_their_names(vidqueue: CommandLine) -> None:
    later = ("--run-at", "2099-01-01T00:00", "--tag", "named")
    ids = [vidqueue("submit", "zoo", "--title", name, *later).out.strip() for name in ("first", "second")]
    canceled = vidqueue("cancel", ids[0])
    assert canceled.out == f"{ids[0]}  canceled  first\n", canceled.err
    assert vidqueue("cancel", "--tag", "named", "--yes").out == f"{ids[1]}  canceled  second\n"
    deleted = vidqueue("delete", "--tag", "named", "--yes").out.splitlines()
    assert sorted(deleted) == [f"{ids[0]}  deleted  first", f"{ids[1]}  deleted  second"]
