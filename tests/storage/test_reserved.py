"""Reserved disk space: what one attempt has reserved no other gets, and it ends with its process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import until
from tests.volume import Volume, mounted
from vidqueue.errors import VidqueueError, WaitingError
from vidqueue.storage.disk_space import MEBIBYTE
from vidqueue.storage.reserved import ReservedSpace


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    yield from mounted(tmp_path / "small")


def workspace(volume: Volume, name: str) -> Path:
    folder = volume.folder / name
    folder.mkdir()
    return folder


def test_two_large_ones_do_not_get_the_same_space(volume: Volume) -> None:
    free = volume.free()
    with ReservedSpace(workspace(volume, "a"), 20) as first, ReservedSpace(workspace(volume, "b"), 20) as second:
        first.hold(200 * MEBIBYTE)
        assert free - volume.free() >= 200 * MEBIBYTE
        with pytest.raises(WaitingError, match="needs up to 150 MiB") as waits:
            second.hold(150 * MEBIBYTE)
        assert (waits.value.reason, waits.value.for_jobs) == ("no_space", True)
        first.hold(100 * MEBIBYTE)
        second.hold(150 * MEBIBYTE)
        with pytest.raises(WaitingError):
            first.hold(160 * MEBIBYTE)
        assert volume.free() < free - 240 * MEBIBYTE, "what could not grow stays as it was"
    until(lambda: volume.free() > free - MEBIBYTE)
    assert [list(folder.iterdir()) for folder in volume.folder.iterdir()] == [[], []]


def test_what_does_not_fit_beside_the_low_water_mark_is_refused(volume: Volume) -> None:
    free = volume.free()
    with ReservedSpace(workspace(volume, "a"), 200) as alone:
        with pytest.raises(VidqueueError, match="above the low-water mark") as refused:
            alone.hold(150 * MEBIBYTE)
        assert refused.value.code == "no_space"
        assert "shorter" in refused.value.hint
    assert volume.free() > free - MEBIBYTE


HOLDER = """
import sys, time
from pathlib import Path
from vidqueue.storage.reserved import ReservedSpace
space = ReservedSpace(Path(sys.argv[1]), 0)
space.hold(200 << 20)
print("held", flush=True)
time.sleep(600)
"""


def test_it_ends_with_its_process(volume: Volume) -> None:
    free = volume.free()
    command = [sys.executable, "-c", HOLDER, str(workspace(volume, "a"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert volume.free() < free - 200 * MEBIBYTE + MEBIBYTE
        holder.send_signal(signal.SIGKILL)
    until(lambda: volume.free() > free - MEBIBYTE)
