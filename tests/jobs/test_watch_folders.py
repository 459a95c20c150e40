"""Watch folders: every content once, whatever restarts; files that grow wait; outputs are copied whole."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.factory import Queue
from tests.jobs.test_dependencies import _succeed
from vidqueue.db.tables import new_jobs
from vidqueue.db.tables import watch_folders as table
from vidqueue.errors import VidqueueError
from vidqueue.jobs import watch_folders
from vidqueue.jobs.watch_folders import Watcher
from vidqueue.ops import failpoints
from vidqueue.services import Services
from vidqueue.settings.entries import WatchFolderSettings


class Watched:
    """A folder, and watchers of it that go by one clock."""

    def __init__(self, services: Services, queue: Queue, tmp_path: Path) -> None:
        self.services, self.queue = services, queue
        self.folder, self.outputs = tmp_path / "in", tmp_path / "out"
        self.folder.mkdir()
        self.now = 1000.0
        self.watcher = self.another()

    def another(self, **more: Any) -> Watcher:
        given: dict[str, Any] = {"name": "inbox", "path": self.folder, "outputs": self.outputs, "settle_s": 10}
        given |= {"job": {"processor": "zoo", "input": {"act": "read"}}}
        folder = WatchFolderSettings(**(given | more))
        watch_folders.check(folder)
        services = self.services
        return Watcher(folder, services.database, services.inputs, services.storage, lambda: None, lambda: self.now)

    def put(self, name: str, content: bytes = b"a film") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    async def look(self, seconds: float = 0) -> None:
        self.now += seconds
        await self.watcher.look()

    async def settled(self) -> None:
        await self.look()
        await self.look(10)

    async def jobs(self) -> list[str]:
        found = await self.queue.sql("SELECT input ->> 'media' AS media FROM vidqueue.jobs ORDER BY id")
        return [os.path.relpath(one["media"], self.folder) for one in found]

    async def rows(self) -> list[tuple[str, str | None]]:
        return [(one.path, one.error) for one in await watch_folders.newest(self.services.database, "inbox")]


@pytest.fixture
def watched(services: Services, queue: Queue, tmp_path: Path) -> Watched:
    return Watched(services, queue, tmp_path)


async def test_a_file_becomes_a_job_once_it_no_longer_changes(watched: Watched) -> None:
    path = watched.put("a.mp4")
    watched.put("empty.mp4", b"")
    watched.put("b.mp4.part")
    watched.put(".hidden.mp4")
    watched.put("below/c.mp4")
    (watched.folder / "link.mp4").symlink_to(path)
    await watched.look()
    assert await watched.jobs() == []
    # It grows, and keeps growing.
    for content in (b"a longer film", b"a much longer film"):
        path.write_bytes(content)
        await watched.look(10)
        assert await watched.jobs() == []
    await watched.look(9)
    assert await watched.jobs() == []
    await watched.look(1)
    assert await watched.jobs() == ["a.mp4"]
    (job,) = await watched.queue.sql("SELECT title, owner, processor FROM vidqueue.jobs")
    assert job == {"title": "a.mp4", "owner": "local", "processor": "zoo"}


async def test_a_content_is_processed_once_over_restarts_renames_and_touches(watched: Watched) -> None:
    path = watched.put("a.mp4")
    await watched.settled()
    watched.watcher = watched.another()
    os.utime(path, ns=(1, 1))
    watched.put("copy.mp4")
    await watched.settled()
    path.rename(watched.folder / "renamed.mp4")
    await watched.settled()
    assert await watched.jobs() == ["a.mp4"]
    # The same name with another content is another file.
    watched.put("copy.mp4", b"another film")
    await watched.settled()
    assert await watched.jobs() == ["a.mp4", "copy.mp4"]
    # And what was removed and comes back is known.
    (watched.folder / "renamed.mp4").unlink()
    await watched.settled()
    watched.put("renamed.mp4")
    await watched.settled()
    assert await watched.jobs() == ["a.mp4", "copy.mp4"]


async def test_what_is_known_is_not_read_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.put("a.mp4")
    await watched.settled()

    async def read_again(*_: object) -> None:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(watch_folders, "digest", read_again)
    watched.watcher = watched.another()
    await watched.settled()


async def test_two_daemons_make_one_job(watched: Watched) -> None:
    for number in range(5):
        watched.put(f"{number}.mp4", f"film {number}".encode())
    both = [watched.another(), watched.another()]
    for _ in range(2):
        await asyncio.gather(*(one.look() for one in both))
        watched.now += 10
    assert sorted(await watched.jobs()) == [f"{number}.mp4" for number in range(5)]


@pytest.mark.parametrize("point", ["submit.before_commit", "submit.committed"])
async def test_a_crash_at_the_commit_loses_no_file_and_doubles_none(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    watched.put("a.mp4")
    await watched.look()

    async def dies(reached: str) -> None:
        if reached == point:
            raise RuntimeError("the daemon died")

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "reach", dies)
        with pytest.raises(RuntimeError):
            await watched.look(10)
    watched.watcher = watched.another()
    await watched.settled()
    assert await watched.jobs() == ["a.mp4"]


async def test_a_file_that_is_refused_is_told_and_does_not_hold_up_others(watched: Watched) -> None:
    watched.put("a.mp4", b"#EXTM3U\nhttp://example.com/a.ts\n")
    watched.put("b.mp4")
    await watched.settled()
    assert await watched.jobs() == ["b.mp4"]
    refused = dict(await watched.rows())["a.mp4"]
    assert refused is not None
    assert refused.startswith("input_is_a_playlist: ")


async def test_a_file_waits_while_its_owner_may_not_submit(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.put("a.mp4")

    async def refuses(*_: object) -> None:
        raise VidqueueError("limit_reached", "Too many jobs wait.")

    with monkeypatch.context() as patched:
        patched.setattr(new_jobs, "enqueue", refuses)
        await watched.look()
        with pytest.raises(VidqueueError, match="Too many"):
            await watched.look(10)
    assert await watched.rows() == []
    await watched.look()
    assert await watched.jobs() == ["a.mp4"]


async def test_folders_below_and_patterns(watched: Watched) -> None:
    watched.watcher = watched.another(recursive=True, include=["*.mp4", "*.mov"], outputs=watched.folder / "done")
    for name in ("a.mp4", "x/y/b.mov", "c.txt", "done/d.mp4"):
        watched.put(name, name.encode())
    (watched.folder / os.fsdecode(b"\xff.mp4")).write_bytes(b"no text")
    await watched.settled()
    assert sorted(await watched.jobs()) == ["a.mp4", "x/y/b.mov"]


async def test_outputs_are_copied_once_and_never_over_another_file(watched: Watched) -> None:
    watched.watcher = watched.another(recursive=True)
    watched.put("x/a.mp4")
    await watched.settled()
    ref = await watched.queue.dispatch(await watched.queue.lane(node=watched.services.storage.node))
    await watched.watcher.deliver()
    assert not watched.outputs.exists()
    await _succeed(watched.services.database, watched.services.storage, ref)
    (watched.outputs / "x").mkdir(parents=True)
    mine = watched.outputs / "x" / "a"
    mine.write_text("somebody's own")
    await watched.watcher.deliver()
    (copied,) = [path for path in (watched.outputs / "x").iterdir() if path != mine]
    assert (copied.read_text(), mine.read_text()) == ("done", "somebody's own")
    # The daemon died after the copy, and before it was noted.
    await watched.queue.sql("UPDATE vidqueue.watched_files SET delivered_at = NULL")
    await watched.another(recursive=True).deliver()
    assert sorted((watched.outputs / "x").iterdir()) == sorted([mine, copied])
    (row,) = await watch_folders.newest(watched.services.database, "inbox")
    assert (row.state, row.delivered_at is not None) == ("succeeded", True)


async def test_ten_thousand_files_are_looked_through_and_taken_as_they_come(watched: Watched) -> None:
    sql = "INSERT INTO vidqueue.watched_paths SELECT 'inbox', %s, %s, %s, repeat('0', 64)"
    known = [watched.put(f"{number:05}.mp4") for number in range(10_000)]
    async with watched.services.database.transaction() as connection, connection.cursor() as cursor:
        facts = [(path.name, path.stat()) for path in known]
        await cursor.executemany(sql, [(name, one.st_size, one.st_mtime_ns) for name, one in facts])
        assert len(await table.known_paths(connection, "inbox")) == 10_000
    filling = [watched.put(f"new {number}.mp4", f"film {number}".encode()) for number in range(3)]
    await watched.look()
    filling.append(watched.put("late.mp4", b"late"))
    await watched.look(10)
    assert len(await watched.jobs()) == 3
    await watched.look(10)
    assert sorted(await watched.jobs()) == sorted(path.name for path in filling)


async def test_a_folder_that_is_away_is_waited_for(watched: Watched) -> None:
    watched.folder.rmdir()
    with pytest.raises(OSError, match="in"):
        await watched.look()
    watched.folder.mkdir()
    watched.put("a.mp4")
    await watched.settled()
    assert await watched.jobs() == ["a.mp4"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"job": {"processor": "gone"}}, "no processor"),
        ({"job": {"processor": "zoo", "input": {"act": "fly"}}}, "act"),
        ({"job": {"processor": "zoo", "colour": "red"}}, "colour|[Ee]xtra"),
        ({"parameter": "nothing"}, "nothing|parameters"),
    ],
)
def test_a_template_that_is_not_valid_is_refused_at_the_start(
    watched: Watched, wrong: dict[str, Any], reason: str
) -> None:
    with pytest.raises(VidqueueError, match=reason) as caught:
        watched.another(**wrong)
    assert "watch_folders: inbox: " in caught.value.message


def test_a_folder_cannot_be_its_own_outputs(watched: Watched) -> None:
    with pytest.raises(ValueError, match="would become jobs"):
        watched.another(outputs=watched.folder)
