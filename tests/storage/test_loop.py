"""The event loop, which renews all leases, goes on while storage works on many or large files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.daemon import promised
from tests.factory import eventually
from vidqueue.storage.local import Storage
from vidqueue.storage.workspaces import Workspaces

FILES = 40_000


class Longest:
    """The longest time for which the loop stood still."""

    def __init__(self) -> None:
        self.s = 0.0

    async def measure(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.005)
            self.s = max(self.s, time.monotonic() - begun)


@asynccontextmanager
async def measured() -> AsyncIterator[Longest]:
    longest = Longest()
    measuring = asyncio.create_task(longest.measure())
    try:
        yield longest
    finally:
        await asyncio.sleep(0.01)
        measuring.cancel()


def fill(folder: Path) -> None:
    for number in range(FILES):
        os.close(os.open(folder / str(number), os.O_WRONLY | os.O_CREAT))


async def test_a_workspace_of_many_files_is_removed_beside_the_loop(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    async with measured() as longest:
        async with Workspaces(storage) as workspaces:
            folder = await workspaces.begin("full")
            await asyncio.to_thread(fill, folder)
            longest.s = 0.0

        async def is_gone() -> bool:
            return not folder.exists()

        await eventually(is_gone)
    assert longest.s < promised(0.2)


async def test_a_canceled_upload_leaves_nothing_and_never_writes_into_another_file(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    arrived = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(1 << 20)
            arrived.set()

    for _ in range(10):
        arrived.clear()
        upload = asyncio.create_task(storage.receive(chunks(), limit=1 << 30))
        await arrived.wait()
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
        assert upload.cancelled()
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert storage._locked == {}
