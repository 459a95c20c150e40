"""Uploads in flight together leave the low-water mark free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.volume import Volume, mounted
from vidqueue.errors import VidqueueError
from vidqueue.storage.disk_space import MEBIBYTE, Reservations
from vidqueue.storage.local import Storage, Stored

LOW_WATER_MIB = 100
SIZE = 60 * MEBIBYTE


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    yield from mounted(tmp_path / "volume")


async def body(size: int) -> AsyncIterator[bytes]:
    """An upload that comes in pieces, in turn with the others."""
    for _ in range(0, size, MEBIBYTE):
        yield bytes(MEBIBYTE)
        await asyncio.sleep(0)


@pytest.mark.parametrize("announced", [SIZE, None])
async def test_six_uploads_in_flight_leave_the_low_water_mark_free(volume: Volume, announced: int | None) -> None:
    storage = Storage(volume.folder)
    reservations = Reservations(volume.folder, LOW_WATER_MIB, storage.threads)
    lowest = volume.free()

    async def watched(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        nonlocal lowest
        async for piece in pieces:
            lowest = min(lowest, volume.free())
            yield piece

    async def upload() -> Stored:
        async with reservations.counted(body(SIZE), announced) as pieces:
            return await storage.receive(watched(pieces), limit=2 * SIZE)

    done = await asyncio.gather(*(upload() for _ in range(6)), return_exceptions=True)
    refused = [one for one in done if isinstance(one, VidqueueError)]
    assert {one.code for one in refused} == {"no_space"}
    assert len(refused) < 6
    assert lowest >= LOW_WATER_MIB * MEBIBYTE
    for one in done:
        if isinstance(one, Stored):
            storage.release(one.id)
            storage.delete(one.id)
    if announced:
        # As many as there is room for, and not fewer because of those that were refused.
        assert len(refused) == 3
    # Whoever has ended, well or not, has given his reservation back.
    assert (await upload()).size == SIZE


async def test_an_upload_waits_for_the_room_of_one_that_was_refused(volume: Volume) -> None:
    reservations = Reservations(volume.folder, LOW_WATER_MIB, Storage(volume.folder).threads)
    refused = volume.folder / "refused"

    async def second() -> int:
        async with reservations.counted(body(SIZE), None) as pieces:
            return len(await anext(pieces))

    async def fill(pieces: AsyncIterator[bytes]) -> None:
        with refused.open("wb", buffering=0) as file:
            async for piece in pieces:
                file.write(piece)

    async with reservations.counted(body(4 * SIZE), None) as pieces:
        with pytest.raises(VidqueueError, match="not enough free disk space"):
            await fill(pieces)
        waits = asyncio.create_task(second())
        # However long the removal takes: more than this, on a slow disk.
        assert await asyncio.wait([waits], timeout=0.2) == (set(), {waits})
        refused.unlink()
        assert not waits.done()
    assert await waits == MEBIBYTE


async def test_an_upload_is_refused_once_no_other_gives_its_space_back(volume: Volume) -> None:
    reservations = Reservations(volume.folder, LOW_WATER_MIB, Storage(volume.folder).threads)
    async with reservations.counted(body(SIZE), SIZE) as pieces:
        await anext(pieces)
        with pytest.raises(VidqueueError, match="not enough free disk space"):
            async with reservations.counted(body(4 * SIZE), 4 * SIZE) as more:
                await anext(more)
        with pytest.raises(VidqueueError, match="not enough free disk space"):
            await reservations.require(3 * SIZE)
    await reservations.require(3 * SIZE)


async def test_an_upload_ends_when_others_take_the_room(volume: Volume) -> None:
    reservations = Reservations(volume.folder, LOW_WATER_MIB, Storage(volume.folder).threads)
    async with reservations.counted(body(4 * SIZE), None) as pieces:
        await anext(pieces)
        volume.fill(leaving=LOW_WATER_MIB * MEBIBYTE)
        with pytest.raises(VidqueueError, match="not enough free disk space"):
            async for _ in pieces:
                pass
    volume.make_room()
    assert reservations._unwritten == {}
