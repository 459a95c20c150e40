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
