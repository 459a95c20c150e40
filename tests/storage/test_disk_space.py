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
        pieces = watched(reservations.counted(body(SIZE), announced))
        return await storage.receive(pieces, limit=2 * SIZE)

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

    async def fill() -> None:
        with refused.open("wb", buffering=0) as file:
            async for piece in reservations.counted(body(4 * SIZE), None):
                file.write(piece)

    with pytest.raises(VidqueueError, match="not enough free disk space"):
        await fill()
    second = asyncio.ensure_future(anext(reservations.counted(body(SIZE), None)))
    assert await asyncio.wait([second], timeout=0.2) == (set(), {second})
    refused.unlink()
    assert len(await second) == MEBIBYTE


async def test_an_upload_ends_when_others_take_the_room(volume: Volume) -> None:
    reservations = Reservations(volume.folder, LOW_WATER_MIB, Storage(volume.folder).threads)
    pieces = reservations.counted(body(4 * SIZE), None)
    await anext(pieces)
    volume.fill(leaving=LOW_WATER_MIB * MEBIBYTE)
    with pytest.raises(VidqueueError, match="not enough free disk space"):
        async for _ in pieces:
            pass
    volume.make_room()
    assert reservations._unwritten == {}
