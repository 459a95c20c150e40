"""Rows and bytes are brought to agree, both ways, and nobody's bytes are taken while their row is being written."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.factory import Queue, eventually
from tests.jobs.stock import Stock
from vidqueue.db.tables import files
from vidqueue.db.tables.files import NewFile
from vidqueue.doctor.check import Check
from vidqueue.doctor.checks import examine_database
from vidqueue.jobs.reconcile import reconcile
from vidqueue.jobs.retention import keep_tidy
from vidqueue.settings.sections import RetentionSettings
from vidqueue.storage.local import Storage

# An API process that has renamed its upload and not yet written the row.
WRITER = """
import asyncio, sys
from pathlib import Path
from vidqueue.storage.local import Storage

async def upload():
    async def chunks():
        yield b"bytes"
    stored = await Storage(Path(sys.argv[1])).receive(chunks(), limit=100)
    print(stored.id, flush=True)
    sys.stdin.read()

asyncio.run(upload())
"""


@pytest.fixture
def stock(any_queue: Queue, tmp_path: Path) -> Stock:
    (tmp_path / "scratch").mkdir()
    return Stock(any_queue, Storage(tmp_path / "data"), tmp_path / "scratch")


def stray(stock: Stock, *, old: bool) -> Path:
    """Bytes that no row names and no process has in hand."""
    path = stock.scratch / "stray"
    path.write_bytes(b"x")
    stored = stock.storage.adopt(path, stock.scratch)
    stock.storage.release(stored.id)
    lies_at = stock.storage.path(stored.id)
    if old:
        os.utime(lies_at, (0, 0))
    return lies_at


async def run_sweep(stock: Stock) -> None:
    await reconcile(stock.queue.database, stock.storage)


async def missing(stock: Stock) -> int:
    async with stock.queue.database.transaction() as connection:
        return await files.lost(connection)


async def test_bytes_without_a_row_are_removed_and_others_stay(stock: Stock) -> None:
    old, young = stray(stock, old=True), stray(stock, old=False)
    upload = await stock.uploaded()
    os.utime(stock.storage.path(upload), (0, 0))
    output = await stock.output_of(await stock.finished())
    (stock.storage.path(output).parent / "README").write_text("not ours")
    await run_sweep(stock)
    assert not old.exists()
    assert young.exists()
    assert stock.storage.has(upload, 10)
    assert stock.storage.has(output, 10)


async def test_bytes_in_the_hands_of_another_process_stay_whatever_the_clock_says(stock: Stock, tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        line = await asyncio.to_thread(writer.stdout.readline)
        (path,) = (tmp_path / "data" / "files").glob("??/*")
        assert path.name == line.decode().strip()
        # As after a jump of the clock.
        os.utime(path, (0, 0))
        await run_sweep(stock)
        assert path.exists()
    finally:
        writer.kill()
        writer.communicate()
    await run_sweep(stock)
    assert not path.exists(), "its writer is dead and wrote no row"


async def test_an_output_whose_commit_waits_for_the_database_stays(stock: Stock) -> None:
    path = stock.scratch / "output"
    path.write_bytes(b"x")
    stored = stock.storage.adopt(path, stock.scratch)
    os.utime(stock.storage.path(stored.id), (0, 0))
    await run_sweep(stock)
    assert stock.storage.path(stored.id).exists()
    stock.storage.release(stored.id)
    await run_sweep(stock)
    assert not stock.storage.path(stored.id).exists()


async def test_an_upload_under_way_survives_a_jump_of_the_clock(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def chunks() -> object:
        yield b"first"
        monkeypatch.setattr(time, "time", lambda: 2e10)
        stock.storage.clear_scratch()
        yield b"second"

    stored = await stock.storage.receive(chunks(), limit=100)  # type: ignore[arg-type]
    await run_sweep(stock)
    assert stock.storage.path(stored.id).read_bytes() == b"firstsecond"
    stock.storage.release(stored.id)
    await run_sweep(stock)
    assert not stock.storage.path(stored.id).exists()


async def test_a_row_that_is_committed_while_the_sweep_looks_keeps_its_bytes(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stray(stock, old=True)
    real, asked = files.which_exist, 0

    async def late(connection: object, ids: object) -> object:
        nonlocal asked
        asked += 1
        known = await real(connection, ids)  # type: ignore[arg-type]
        if asked == 1:
            async with stock.queue.database.transaction() as other:
                await files.add(other, _row(stock, path))
        return known

    monkeypatch.setattr(files, "which_exist", late)
    await run_sweep(stock)
    assert path.exists()
    assert asked == 2


def _row(stock: Stock, path: Path) -> NewFile:
    return NewFile(
        id=UUID(path.name), owner="local", name="a", media_type="video/mp4", size=1, sha256="0" * 64,
        node=stock.storage.node,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["gone", "cut"])
async def test_rows_whose_bytes_are_gone_are_marked_until_they_are_back(stock: Stock, how: str) -> None:
    lost, whole = await stock.uploaded(), await stock.uploaded()
    path = stock.storage.path(lost)
    content = path.read_bytes()
    path.unlink() if how == "gone" else os.truncate(path, 3)
    for _ in range(2):
        await run_sweep(stock)
        assert await missing(stock) == 1
    async with stock.queue.database.transaction() as connection:
        marked = [await files.get(connection, file_id) for file_id in (lost, whole)]
    assert [file is not None and file.missing_at is not None for file in marked] == [True, False]
    path.write_bytes(content)
    await run_sweep(stock)
    assert await missing(stock) == 0


async def test_doctor_tells_how_many_files_lost_their_bytes(stock: Stock) -> None:
    async def told() -> Check:
        (check,) = [one for one in await examine_database(stock.queue.database.url, kind="any") if one.name == "files"]
        return check

    upload = await stock.uploaded()
    assert (await told()).level == "ok"
    stock.storage.delete(upload)
    await run_sweep(stock)
    check = await told()
    assert (check.level, check.found.split()[0]) == ("warning", "1")
    assert check.advice


async def test_more_rows_than_a_page_are_all_looked_at(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidqueue.jobs.reconcile.PAGE", 2)
    ids = [await stock.uploaded() for _ in range(5)]
    strays = [stray(stock, old=True) for _ in range(5)]
    for file_id in ids[::2]:
        stock.storage.delete(file_id)
    await run_sweep(stock)
    assert await missing(stock) == 3
    assert not any(path.exists() for path in strays)


async def test_the_bytes_of_another_folder_are_not_called_missing(stock: Stock, tmp_path: Path) -> None:
    upload = await stock.uploaded()
    await reconcile(stock.queue.database, Storage(tmp_path / "other"))
    assert await missing(stock) == 0
    stock.storage.delete(upload)
    await run_sweep(stock)
    assert await missing(stock) == 1


async def test_a_row_from_before_folders_had_names_is_claimed_where_its_bytes_lie(stock: Stock, tmp_path: Path) -> None:
    for made in ("long ago", "just now"):
        upload = await stock.uploaded()
        if made == "long ago":
            os.utime(stock.storage.path(upload), (0, 0))
    await stock.queue.sql("UPDATE vidqueue.files SET node = NULL")
    for storage in (Storage(tmp_path / "other"), stock.storage):
        await reconcile(stock.queue.database, storage)
    found = await stock.queue.sql("SELECT node, missing_at FROM vidqueue.files")
    assert found == [{"node": stock.storage.node, "missing_at": None}] * 2


async def test_a_job_that_waits_for_a_claimed_file_goes_to_its_folder(stock: Stock) -> None:
    upload = await stock.uploaded()
    await stock.queue.sql("UPDATE vidqueue.files SET node = NULL")
    job_id = await stock.queue.submit(input={"video": f"vq:files/{upload}"})
    await reconcile(stock.queue.database, stock.storage)
    assert await stock.queue.sql("SELECT node FROM vidqueue.jobs") == [{"node": stock.storage.node}]
    elsewhere = await stock.queue.lane("cpu0")
    assert await stock.queue.dispatch(elsewhere) is None
    ref = await stock.queue.dispatch(await stock.queue.lane("cpu1", node=stock.storage.node))
    assert ref is not None
    assert ref.job_id == job_id


async def test_a_file_that_cannot_be_read_stops_neither_the_sweep_nor_the_pruning(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable, lost, old = await stock.uploaded(), await stock.uploaded(), await stock.uploaded(days=999)
    strays = [stray(stock, old=True) for _ in range(2)]
    stock.storage.delete(lost)
    real = {name: getattr(stock.storage, name) for name in ("has", "delete")}

    def failing(name: str) -> Callable[..., Any]:
        def method(file_id: UUID, *more: int) -> Any:
            if file_id in (unreadable, UUID(strays[0].name)):
                raise OSError(errno.EIO, "Input/output error")
            return real[name](file_id, *more)

        return method

    for name in real:
        monkeypatch.setattr(stock.storage, name, failing(name))
    keeping = asyncio.create_task(keep_tidy(stock.queue.database, stock.storage, RetentionSettings()))
    try:
        await eventually(lambda: _gone(stock, old))
    finally:
        keeping.cancel()
    marked = await stock.queue.sql("SELECT id FROM vidqueue.files WHERE missing_at IS NOT NULL")
    assert [one["id"] for one in marked] == [lost]
    assert [path.exists() for path in strays] == [True, False]


async def _gone(stock: Stock, file_id: UUID) -> bool:
    return not await stock.queue.sql("SELECT id FROM vidqueue.files WHERE id = %s", file_id)


async def test_a_folder_that_cannot_be_listed_does_not_keep_the_rows_from_being_looked_at(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[UUID]:
        raise OSError(errno.EIO, "Input/output error")

    stock.storage.delete(await stock.uploaded())
    monkeypatch.setattr(stock.storage, "stored_ids", broken)
    await run_sweep(stock)
    assert await missing(stock) == 1


def test_two_processes_that_open_a_new_folder_at_once_agree_on_its_name(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from vidqueue.storage.local import Storage; "
    code += "sys.stdin.readline(); print(Storage(Path(sys.argv[1])).node)"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for one in both:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    names = {one.communicate()[0] for one in both}
    assert len(names) == 1
    assert names.pop().strip()
