"""Files that a Cog server uploads: what becomes of a prediction whose files were refused."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volume import Volume, mounted
from vidqueue.errors import VidqueueError
from vidqueue.processors.remote.uploads import RefusedUploadError, Uploads


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """A small file system for the workspace."""
    yield from mounted(tmp_path / "small")


def send(uploads: Uploads, size: int) -> None:
    headers = {"Content-Length": str(size)}
    uploads.receive("http://127.0.0.1/out.bin", "http://127.0.0.1/uploads", headers, io.BytesIO(b"x" * size))


def test_a_full_disk_is_the_cause_and_not_the_upload_that_the_server_reports(volume: Volume) -> None:
    uploads = Uploads("p", volume.folder / "uploads", 64 << 20)
    send(uploads, 1000)
    uploads.check()
    volume.fill(leaving=1 << 20)
    with pytest.raises(OSError, match="No space left") as full:
        send(uploads, 4 << 20)
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(VidqueueError) as refused:
        uploads.check()
    assert refused.value.code == "no_space"


def test_a_file_beyond_the_limit_is_the_cause(tmp_path: Path) -> None:
    uploads = Uploads("p", tmp_path / "uploads", 1000)
    with pytest.raises(RefusedUploadError):
        send(uploads, 1001)
    with pytest.raises(VidqueueError) as refused:
        uploads.check()
    assert refused.value.code == "output_too_large"
