"""Jobs that are named by a piece of their id, and many at once by what they are, after a question."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon

LATER = ("--run-at", "2099-01-01T00:00")


def _waiting(vidqueue: CommandLine, number: int, *words: str) -> list[str]:
    return [vidqueue("submit", "zoo", *LATER, *words).out.strip() for _ in range(number)]


def test_the_beginning_or_the_end_of_an_id_is_enough(vidqueue: CommandLine, daemon: Daemon) -> None:
    first, second = _waiting(vidqueue, 2)
    assert vidqueue("status", first[-6:]).out.startswith(first)
    assert vidqueue("status", f"…{second[-6:]}").out.startswith(second)
    assert vidqueue("status", first[:30], "--json").json["id"] == first
    assert vidqueue("cancel", second[-8:]).out.startswith(second)
    assert daemon.job(second)["state"] == "canceled"
    # An id begins with the time: of these digits the last one changes every few hours.
    ambiguous = vidqueue("cancel", first[:6])
    assert ambiguous.code == 2
    assert "Give more of the id" in ambiguous.err
    nobody = vidqueue("logs", "00000000")
    assert (nobody.code, "begins or ends with" in nobody.err) == (4, True)


def test_a_piece_of_the_id_of_a_batch_is_enough_too(vidqueue: CommandLine, daemon: Daemon) -> None:
    jobs = {"jobs": [{"processor": "zoo", "run_at": "2099-01-01T00:00:00Z"}] * 2}
    made = daemon.http.post("/v1/batches", json=jobs).json()
    piece = made["id"][-8:]
    assert vidqueue("batch", "status", piece).out.startswith(made["id"])
    changed = vidqueue("priority", "7", "--batch", piece, "--yes")
    assert (changed.code, len(changed.out.splitlines())) == (0, 2), changed.err
    assert vidqueue("batch", "cancel", piece).code == 0
    for words in (("cancel", "--batch", "nonsense", "--yes"), ("batch", "status", "00000000")):
        nobody = vidqueue(*words)
        assert (nobody.code, f"There is no batch {words[2]!r}." in nobody.err) == (4, True), nobody.err
    after = vidqueue("submit", "zoo", "--after", "nonsense")
    assert (after.code, "There is no job 'nonsense'." in after.err) == (4, True), after.err


def test_many_jobs_are_acted_on_only_after_a_yes(vidqueue: CommandLine, daemon: Daemon) -> None:
    mine = _waiting(vidqueue, 7, "--tag", "bulk")
    (other,) = _waiting(vidqueue, 1)
    refused = vidqueue("cancel", "--tag", "bulk")
    assert refused.code == 2
    assert "Cancel 7 jobs? Nobody can be asked here." in refused.err
    assert "and 2 more" in refused.err
    assert {daemon.job(job_id)["state"] for job_id in mine} == {"queued"}
    done = vidqueue("cancel", "--tag", "bulk", "--yes")
    assert (done.code, len(done.out.splitlines())) == (0, 7)
    assert {daemon.job(job_id)["state"] for job_id in mine} == {"canceled"}
    assert daemon.job(other)["state"] == "queued"
    # Only those for which it makes sense: nothing is left to cancel.
    again = vidqueue("cancel", "--tag", "bulk", "--yes")
    assert (again.code, again.out, "No job fits" in again.err) == (0, "", True)
    deleted = vidqueue("delete", "--tag", "bulk", "--state", "canceled", "--yes", "--json")
    assert [line["deleted"] for line in deleted.lines] == [True] * 7
    assert vidqueue("cancel", other, "--all").code == 2
    assert vidqueue("delete").code == 2


def test_states_for_which_a_command_makes_no_sense_are_refused(vidqueue: CommandLine, daemon: Daemon) -> None:
    (waiting,) = _waiting(vidqueue, 1, "--tag", "senseless")
    for words, said in (
        (
            ("suspend", "--all", "--state", "queued"),
            "Suspend applies to jobs that are running, not to jobs that are queued.",
        ),
        (
            ("retry", "--state", "succeeded"),
            "Retry applies to jobs that are failed or canceled, not",
        ),
        (("cancel", "--tag", "senseless", "--state", "failed"), "Cancel applies to jobs that are queued or running"),
    ):
        ran = vidqueue(*words, "--yes")
        assert (ran.code, ran.out) == (2, ""), ran
        assert said in ran.err
    assert vidqueue("cancel", waiting).code == 0


def test_an_enhance_that_asks_for_nothing_is_told_at_once(vidqueue: CommandLine) -> None:
    files = ("vq:files/01a216a4-9c3a-70f8-99b6-c8a3fb9342ff", "vq:files/01a216a4-c0f6-71d1-b33c-a204380ef0bc")
    said = "warning: Nothing is enhanced, because none of denoise, sharpen,"
    # Once for all files, before the daemon refuses what it does not have.
    for given in (files[:1], files):
        assert vidqueue("submit", "enhance", *given).err.count(said) == 1
        assert said not in vidqueue("submit", "enhance", *given, "--denoise", "0.5").err


def test_durations_are_taken_wherever_a_flag_is_one(vidqueue: CommandLine, daemon: Daemon) -> None:
    for given, seconds in (("15s", 15), ("2m", 120), ("1.5h", 5400), ("90", 90)):
        submitted = vidqueue("submit", "zoo", *LATER, "--timeout", given, "--stall-timeout", given, "--json").json["id"]
        kept = daemon.sql(f"SELECT timeout_s, stall_timeout_s FROM vidqueue.jobs WHERE id = '{submitted}'")
        assert kept == [{"timeout_s": seconds, "stall_timeout_s": seconds}]
        (vidqueue.folder / "jobs.ndjson").write_text('{"processor": "zoo", "run_at": "2099-01-01T00:00:00Z"}\n')
        batch = vidqueue("batch", "jobs.ndjson", "--timeout", given).out.strip()
        kept = daemon.sql(f"SELECT timeout_s FROM vidqueue.jobs WHERE batch_id = '{batch}'")
        assert kept == [{"timeout_s": seconds}]
    refused = vidqueue("submit", "zoo", "--timeout", "soon")
    assert (refused.code, "'soon' is not a duration" in refused.err) == (2, True)
    assert vidqueue("submit", "zoo", "--timeout", "0s").code == 2
    assert vidqueue("cancel", "--all", "--state", "queued", "--yes").code == 0


def test_the_question_is_asked_on_a_terminal_and_no_means_no(vidqueue: CommandLine, daemon: Daemon) -> None:
    mine = _waiting(vidqueue, 2, "--tag", "asked")
    for answer, code, state in ((b"n\n", 130, "queued"), (b"y\n", 0, "canceled")):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            vidqueue.command("cancel", "--tag", "asked"), cwd=vidqueue.folder, env=vidqueue.variables,
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as running:  # fmt: skip
            os.write(ours, answer)
            _, said = running.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert running.returncode == code, said
        assert b"Cancel 2 jobs? [y/N]" in said
        assert {daemon.job(job_id)["state"] for job_id in mine} == {state}
