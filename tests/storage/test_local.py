"""Bytes are whole or not there."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factory import eventually
from vidqueue.errors import VidqueueError
from vidqueue.storage.descriptors import try_lock
from vidqueue.storage.local import Storage
from vidqueue.storage.workspaces import Workspaces


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


async def chunks(*parts: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if then:
        raise then


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_stream_is_stored_whole_with_its_digest(storage: Storage) -> None:
    stored = await storage.receive(chunks(b"abc", b"", b"defg"), limit=7)
    path = storage.path(stored.id)
    assert path.read_bytes() == b"abcdefg"
    assert (stored.size, stored.sha256) == (7, hashlib.sha256(b"abcdefg").hexdigest())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("parts", "limit", "code"), [((b"12345", b"6"), 5, "payload_too_large"), ((b"",), 5, "input_empty")]
)
async def test_a_refused_stream_leaves_nothing(
    storage: Storage, tmp_path: Path, parts: tuple[bytes, ...], limit: int, code: str
) -> None:
    with pytest.raises(VidqueueError) as caught:
        await storage.receive(chunks(*parts), limit=limit)
    assert caught.value.code == code
    assert everything(tmp_path) == []


async def test_a_stream_that_breaks_off_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        await storage.receive(chunks(b"half", then=ConnectionError()), limit=100)
    assert everything(tmp_path) == []


async def test_a_workspace_takes_what_is_left_over_with_it(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "parts" / "deep").mkdir(parents=True)
    async with Workspaces(storage) as workspaces:
        folder = await workspaces.begin("job")
        workspaces.leftovers += [tmp_path / "parts", tmp_path / "missing"]
    assert not folder.exists()
    assert not (tmp_path / "parts").exists()


async def test_an_empty_workspace_becomes_the_next_one(storage: Storage, tmp_path: Path) -> None:
    async with Workspaces(storage) as workspaces:
        first = await workspaces.begin("first")
        inode = first.stat().st_ino
        workspaces.leftovers.append(tmp_path / "missing")
        second = await workspaces.begin("second")
        assert (first.exists(), second.stat().st_ino) == (False, inode)
    assert not second.exists()


async def test_an_empty_workspace_is_renewed_under_a_name_that_nobody_knows(storage: Storage, tmp_path: Path) -> None:
    async with Workspaces(storage) as workspaces:
        first = await workspaces.begin("first")
        inode = first.stat().st_ino
        workspaces.renew(tmp_path / "missing")
        second = await workspaces.begin("second")
        assert (first.exists(), second.stat().st_ino, second.name == "second") == (False, inode, False)
        third = await workspaces.begin("third")
        assert (third.name, third.stat().st_ino) == ("third", inode)
        workspaces.renew()
    assert list(third.parent.iterdir()) == []


@pytest.mark.parametrize("renewed", [False, True], ids=["", "renewed"])
@pytest.mark.parametrize("change", ["fill", "chmod", "replace", "parts", "remove", "taken"])
async def test_a_workspace_that_is_not_as_it_was_is_not_used_again(
    storage: Storage, tmp_path: Path, change: str, renewed: bool
) -> None:
    async with Workspaces(storage) as workspaces:
        first = await workspaces.begin("first")
        # Held, because a removed inode is given out again.
        inode, held = first.stat().st_ino, os.open(first, os.O_RDONLY)
        parts, elsewhere = tmp_path / "parts", tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        match change:
            case "fill":
                (first / "left").mkdir()
                os.mkfifo(first / "left" / "pipe")
            case "chmod":
                first.chmod(0o755)
            case "replace":
                first.rmdir()
                first.symlink_to(elsewhere)
            case "parts":
                parts.mkdir()
                workspaces.leftovers.append(parts)
            case "remove":
                first.rmdir()
            case "taken":
                (storage.workspace_path("second") / "left").mkdir(parents=True)
        if renewed and change != "taken":
            workspaces.renew(*workspaces.leftovers)
        second = await workspaces.begin("second")
        os.close(held)
        assert ([*second.iterdir()], second.stat().st_mode & 0o777, second.is_symlink()) == ([], 0o700, False)
        assert second.stat().st_ino != inode
        assert not first.is_dir()
        assert not parts.exists()
        assert elsewhere.is_dir()


async def test_an_output_is_moved_not_copied_and_a_link_is_refused(storage: Storage, tmp_path: Path) -> None:
    async with Workspaces(storage) as workspaces:
        folder = await workspaces.begin("job")
        path = folder / "output.mp4"
        path.write_bytes(b"video")
        inode = path.stat().st_ino
        stored = storage.adopt(path, folder)
        assert storage.path(stored.id).stat().st_ino == inode
        link = folder / "link"
        link.symlink_to("/etc/passwd")
        os.mkfifo(folder / "pipe")
        (folder / "folder").mkdir()
        (tmp_path / "elsewhere").write_bytes(b"somebody else's")
        for bad in (link, folder / "pipe", folder / "folder", tmp_path / "elsewhere", folder / "missing"):
            with pytest.raises(VidqueueError) as caught:
                storage.adopt(bad, folder)
            assert caught.value.code == "bad_output"
        assert (tmp_path / "elsewhere").exists()
    assert list(storage.stored_ids()) == [stored.id]
    assert not folder.exists()


def test_two_names_of_one_file_are_two_outputs(storage: Storage, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "poster.jpg").write_bytes(b"picture")
    (folder / "first.jpg").hardlink_to(folder / "poster.jpg")
    made = [storage.adopt(folder / name, folder) for name in ("poster.jpg", "first.jpg")]
    assert [storage.path(one.id).read_bytes() for one in made] == [b"picture"] * 2
    storage.release(made[0].id)
    with try_lock(storage.path(made[0].id)) as locked:
        assert not locked, "the row of the other name is not written yet"
    storage.release(made[1].id)
    with try_lock(storage.path(made[0].id)) as locked:
        assert locked


def test_scratch_is_cleared_and_published_files_stay(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "incoming" / "half").write_bytes(b"x")
    (tmp_path / "work" / "old" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "out").write_bytes(b"x")
    stored = storage.adopt(tmp_path / "work" / "out", tmp_path / "work")
    storage.clear_scratch()
    # A young upload may be under way; an old one was left by a crash.
    assert {path.name for path in everything(tmp_path)} == {"half", str(stored.id)}
    os.utime(tmp_path / "incoming" / "half", (0, 0))
    storage.clear_scratch()
    assert [path.name for path in everything(tmp_path)] == [str(stored.id)]
    assert storage.old(storage.stored_ids()) == set()


def test_the_folders_are_closed_to_others(storage: Storage, tmp_path: Path) -> None:
    del storage
    os.umask(0o022)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("files", "incoming", "work")} == {0o700}


# Root may write anywhere, so it becomes nobody, in a folder whose parents nobody may enter.
LOCKED = """
import asyncio, os, sys
from pathlib import Path
from vidqueue.storage.local import Storage
from vidqueue.storage.workspaces import Workspaces

os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.chown(".", 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

def unpack(folder):
    inner = folder / "unpacked" / "deep"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (folder / "link").symlink_to(Path("outside").absolute())
    inner.chmod(0o000)
    inner.parent.chmod(0o555)
    folder.chmod(0o555)

storage = Storage(Path("."))
Path("outside").mkdir(mode=0o555)
async def used():
    async with Workspaces(storage) as workspaces:
        folder = await workspaces.begin("ended")
        unpack(folder)
asyncio.run(used())
print(os.listdir("work"))
Path("work/left").mkdir()
unpack(Path("work/left"))
storage.clear_scratch()
print(os.listdir("work"), oct(os.stat("outside").st_mode)[-3:])
"""
# What cannot be removed at all: a folder of another user.
FOREIGN = """
import os, sys
from pathlib import Path
from vidqueue.storage.local import Storage

os.chdir(sys.argv[1])
storage = Storage(Path("."))
Path("work/theirs").mkdir()
Path("work/theirs/file").write_text("x")
for folder in (".", "work", "incoming", "fetching"):
    os.chown(folder, 65534, 65534)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
Path("work/ours").mkdir()
storage.clear_scratch()
print(os.listdir("work"))
"""


def _as_nobody(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_folders_that_a_processor_closed_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    assert _as_nobody(LOCKED, tmp_path).splitlines() == ["[]", "[] 555"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_scratch_that_cannot_be_removed_is_told_of_and_stops_nothing(tmp_path: Path) -> None:
    told = _as_nobody(FOREIGN, tmp_path)
    assert "scratch_not_removed" in told
    assert told.splitlines()[-1] == "['theirs']"


async def test_a_tree_deeper_than_python_can_walk_is_removed(storage: Storage) -> None:
    async with Workspaces(storage) as workspaces:
        workspace = await workspaces.begin("deep")
        inner = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(1500):
            os.mkdir("d", dir_fd=inner)
            deeper = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=inner)
            os.close(inner)
            inner = deeper
        os.close(inner)

    # A tree that takes long is removed while the lane goes on.
    async def removed() -> bool:
        return not workspace.exists()

    await eventually(removed)


async def test_a_failed_sync_leaves_neither_bytes_nor_a_lock(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with Workspaces(storage) as workspaces:
        workspace = await workspaces.begin("one")
        (workspace / "result").write_bytes(b"done")
        with monkeypatch.context() as full:
            full.setattr("vidqueue.storage.local.os.fsync", fails)
            with pytest.raises(VidqueueError, match="full"):
                storage.adopt(workspace / "result", workspace)
    assert list(storage.stored_ids()) == []
    assert storage._locked == {}
