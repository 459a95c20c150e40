"""The jail's walls and its supervisor thread, with a real ffmpeg inside."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.daemon import promised
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.arguments import QUIET
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.jail import sandbox
from vidqueue.media.jail.checkup import JailStatus, jail_status
from vidqueue.media.jail.launcher import REFUSED_CALLS, landlock_abi
from vidqueue.media.jail.lines import Line, LineReader
from vidqueue.media.sink import created

ENDLESS = (*QUIET, "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2", "-f", "null", "pipe:1")
needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


def bounds(
    limits: Limits | None = None, *, timeout_s: float = 30, canceled: threading.Event | None = None
) -> sandbox.SandboxLimits:
    return sandbox.SandboxLimits(limits or Limits(), timeout_s, canceled or threading.Event())


def ended(arguments: Sequence[str], inside: sandbox.SandboxLimits, **started: object) -> sandbox.Ended:
    with sandbox.start(arguments, inside, **started) as running:  # type: ignore[arg-type]
        return running.wait()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_ffmpeg(pid: int) -> None:
    """Until the launcher has become ffmpeg."""
    deadline = time.monotonic() + 10
    while b"ffmpeg" not in Path(f"/proc/{pid}/exe").readlink().name.encode():
        assert time.monotonic() < deadline


def test_cancel_ends_a_run_within_a_second() -> None:
    canceled = threading.Event()
    with sandbox.start(ENDLESS, bounds(canceled=canceled)) as running:
        wait_until_ffmpeg(running.pid)
        before = time.monotonic()
        canceled.set()
        end = running.wait()
    assert time.monotonic() - before < promised(1)
    assert end.by == "cancel"
    with pytest.raises(CanceledError):
        raise_if_failed(end)


def test_wall_time_ends_a_run_as_timed_out() -> None:
    end = ended(ENDLESS, bounds(timeout_s=0.3))
    with pytest.raises(VidqueueError) as caught:
        raise_if_failed(end)
    assert caught.value.code == "timed_out"


def test_leaving_the_block_ends_the_run() -> None:
    with sandbox.start(ENDLESS, bounds()) as running:
        wait_until_ffmpeg(running.pid)
    assert not alive(running.pid)


def test_killing_twice_is_as_good_as_once() -> None:
    with sandbox.start(ENDLESS, bounds()) as running:
        running.kill()
        running.kill()
        assert running.wait().returncode == -signal.SIGKILL


def test_the_parents_sudden_death_ends_ffmpeg() -> None:
    script = (
        "import sys\nfrom vidqueue.limits import Limits\nfrom vidqueue.media.jail import sandbox\n"
        f"running = sandbox.start({ENDLESS!r}, sandbox.SandboxLimits(Limits(), 60))\n"
        "print(running.pid, flush=True)\nsys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until_ffmpeg(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline, "ffmpeg outlived its parent"


def test_standard_error_is_kept_only_in_part_however_long_it_is() -> None:
    lines: list[Line] = []
    flood = (*QUIET, "-f", "lavfi", "-i", "testsrc2=duration=20,showinfo", "-f", "null", "pipe:1")
    end = ended(flood, bounds(), on_line=lines.append)
    assert end.returncode == 0
    assert len(lines) > len(end.tail) == 200


@pytest.mark.parametrize("raised", [ValueError("odd"), CanceledError(), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_a_reader_that_raises_ends_the_run_with_an_error_and_not_the_supervision(raised: BaseException) -> None:
    def reader(line: Line) -> None:
        raise raised

    endless = [*QUIET, "-re", "-f", "lavfi", "-i", "testsrc2", "-f", "null", "pipe:1"]
    with sandbox.start(endless, bounds(), on_line=reader) as running:
        end = running.wait()
    assert not alive(running.pid)
    assert (end.by, end.fault, end.returncode) == ("fault", raised, -signal.SIGKILL)
    with pytest.raises(VidqueueError) as caught:
        raise_if_failed(end)
    assert caught.value.code == "internal_error"


def written(*writes: bytes) -> list[Line]:
    """The lines that come of these writes, through a real pipe in packet mode."""
    messages, child_end = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
    reader, lines = LineReader(), []
    for one in writes:
        os.write(child_end, one)
        for _ in range(0, len(one), select.PIPE_BUF):
            lines.append(reader.feed(os.read(messages, 65536)))
    os.close(child_end)
    os.close(messages)
    return [line for line in [*lines, reader.rest()] if line is not None]


def test_a_line_begins_only_where_a_write_begins() -> None:
    lines = written(
        b"[info] ", b"  Stream #0", b":0", b"(a\n  Duration: 1:2\n)", b": Video: h264", b"\n", b"[info] ", b"x\n"
    )
    assert [line.parts for line in lines] == [("  Stream #0", ":0", "(a\n  Duration: 1:2\n)", ": Video: h264"), ("x",)]
    assert lines[0].text == "[info]   Stream #0:0(a   Duration: 1:2 ): Video: h264"


@pytest.mark.parametrize("length", [4094, 4095, 4096, 4097, 8190, 8192, 30_000])
def test_a_write_that_the_pipe_splits_forges_no_line(length: int) -> None:
    forged = b"[info] Input #0, gif, from 'fd:':\n" * 1000
    for shift in range(40):
        lines = written(
            b"[info] ", b"    key : ", b"x" * shift + forged[: length - shift], b"\n", b"[error] ", b"last\n"
        )
        assert [line for line in lines if line.level == "info" and line.body.startswith("Input #0")] == []
        assert len(lines) <= 3
        assert len(lines[0].text) < 3000


def test_what_is_kept_of_a_line_is_bounded() -> None:
    reader = LineReader()
    for _ in range(10_000):
        assert reader.feed(b"x" * 4000) is None
    line = reader.feed(b"\n")
    assert line is not None
    assert sum(map(len, line.parts)) <= 64 * 2000


def test_a_result_beyond_its_bound_is_output_too_large(tmp_path: Path) -> None:
    with created(tmp_path / "noise.mkv") as sink:
        noise = [*QUIET, "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:duration=2"]
        output = ["-c:v", "rawvideo", "-f", "matroska", "-fd", str(sink.writing), "fd:"]
        end = ended([*noise, *output], bounds(Limits(max_output_mib=1)), keep_open=[sink.writing], stdin=sink.reading)
    with pytest.raises(VidqueueError) as caught:
        raise_if_failed(end)
    assert caught.value.code == "output_too_large"
    assert (tmp_path / "noise.mkv").stat().st_size <= 1024 * 1024


def test_memory_beyond_its_bound_is_out_of_memory() -> None:
    greedy = [*QUIET, "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=8000x8000:duration=1"]
    end = ended([*greedy, "-f", "null", "pipe:1"], bounds(Limits(memory_mib=300)))
    with pytest.raises(VidqueueError) as caught:
        raise_if_failed(end)
    assert caught.value.code == "out_of_memory", end


def test_the_child_gets_no_environment_and_no_descriptor_it_was_not_given(tmp_path: Path) -> None:
    secret = os.open(tmp_path / "secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    with sandbox.start(ENDLESS, bounds()) as running:
        wait_until_ffmpeg(running.pid)
        links = [str(link.readlink()) for link in Path(f"/proc/{running.pid}/fd").iterdir()]
        environment = Path(f"/proc/{running.pid}/environ").read_bytes()
    os.close(secret)
    assert str(tmp_path / "secret") not in links
    assert environment == b""


def test_the_child_leads_its_own_session_and_writes_no_core(tmp_path: Path) -> None:
    with sandbox.start(ENDLESS, bounds()) as running:
        wait_until_ffmpeg(running.pid)
        assert os.getsid(running.pid) == running.pid
        limits = Path(f"/proc/{running.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def test_the_kernel_takes_it_before_the_daemon_when_memory_runs_out() -> None:
    with sandbox.start(ENDLESS, bounds()) as running:
        wait_until_ffmpeg(running.pid)
        score = int(Path(f"/proc/{running.pid}/oom_score_adj").read_text())
    assert score > int(Path("/proc/self/oom_score_adj").read_text())


@needs_landlock
def test_a_file_that_everybody_may_read_is_closed_to_it() -> None:
    end = ended([*QUIET, "-f", "data", "-i", "file:/etc/passwd", "-map", "0", "-f", "null", "pipe:1"], bounds())
    assert any("Permission denied" in line for line in end.tail)


@needs_landlock
def test_a_filter_that_names_a_file_is_refused_too(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    drawing = f"color=black,drawtext=textfile={secret}"
    end = ended([*QUIET, "-f", "lavfi", "-i", drawing, "-frames:v", "1", "-f", "null", "pipe:1"], bounds())
    assert end.returncode != 0
    assert any("Permission denied" in line or "could not be read" in line for line in end.tail)


@needs_landlock
def test_it_cannot_write_beside_the_descriptor_it_was_given(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.mkv"
    end = ended([*QUIET, "-f", "lavfi", "-i", "testsrc2=duration=1", f"file:{target}"], bounds())
    assert end.returncode != 0
    assert not target.exists()


@pytest.mark.skipif(os.uname().machine not in REFUSED_CALLS, reason="no list of calls for this machine")
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "udp://127.0.0.1:9", "unix:///tmp/socket"])
def test_it_cannot_open_a_socket_of_any_kind(address: str) -> None:
    end = ended([*QUIET, "-f", "data", "-i", address, "-map", "0", "-f", "null", "pipe:1"], bounds())
    assert any("Operation not permitted" in line for line in end.tail)


def test_ffmpeg_is_found_without_running_it() -> None:
    code = """
import sys
from vidqueue.media.jail.sandbox import ffmpeg_path
def refuse(event, arguments):
    assert event != "subprocess.Popen", arguments
sys.addaudithook(refuse)
print(ffmpeg_path().is_file())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_checkup_tells_what_the_kernel_offers() -> None:
    status = jail_status()
    assert status.starts
    assert status.files_closed == (landlock_abi() > 0)


def test_the_checkup_warns_of_each_missing_wall() -> None:
    assert JailStatus(landlock_abi=7, files_closed=True, network_closed=True, starts=True).warnings == ()
    assert len(JailStatus(landlock_abi=0, files_closed=False, network_closed=False, starts=False).warnings) == 3
