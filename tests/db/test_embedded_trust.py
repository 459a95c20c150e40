"""The embedded server's user and socket folder: made once however many ask, and never another user's."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from vidqueue.db.embedded import server
from vidqueue.db.embedded.programs import EmbeddedError

as_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("useradd"), reason="needs root and useradd")
# Says that it is ready, and asks when all of them are.
ASK = """
import sys
from vidqueue.db.embedded.system_user import system_user
print("ready", flush=True)
sys.stdin.readline()
print(*system_user(sys.argv[1]))
"""


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"vq-{uuid4().hex[:12]}"
    yield chosen
    subprocess.run(["userdel", chosen], capture_output=True, check=False)


@as_root
def test_processes_that_start_at_once_get_the_same_user(name: str) -> None:
    command = [sys.executable, "-c", ASK, name]
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    asking = [subprocess.Popen(command, text=True, **streams) for _ in range(8)]
    for one in asking:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in asking:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    told = [one.communicate(timeout=60) for one in asking]
    assert {one.returncode for one in asking} == {0}, told
    entry = pwd.getpwnam(name)
    assert {out.strip() for out, _ in told} == {f"{entry.pw_uid} {entry.pw_gid}"}


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A data folder whose path is too long for a socket, and where its sockets go."""
    data_dir = tmp_path / ("long" * 25)
    data_dir.mkdir()
    sockets = server._socket_folder(data_dir / server.FOLDER)
    assert sockets.parent == Path(tempfile.gettempdir())
    yield data_dir, sockets
    if sockets.is_symlink():
        sockets.unlink()
    shutil.rmtree(sockets, ignore_errors=True)


def test_a_socket_folder_of_ours_is_used_and_the_server_must_be_of_the_right_user(deep: tuple[Path, Path]) -> None:
    data_dir, sockets = deep
    (data_dir / server.FOLDER).mkdir(mode=0o700)
    sockets.mkdir(mode=0o700)
    assert server.url_of(data_dir).endswith(
        f"?host={sockets}&port=5432&requirepeer={pwd.getpwuid(os.geteuid()).pw_name}"
    )


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o750, 0o701])
def test_a_socket_folder_that_others_can_enter_is_refused(deep: tuple[Path, Path], mode: int) -> None:
    data_dir, sockets = deep
    sockets.mkdir()
    sockets.chmod(mode)
    with pytest.raises(EmbeddedError, match="open to other users"):
        server.url_of(data_dir)


def test_a_link_in_its_place_is_refused(deep: tuple[Path, Path]) -> None:
    data_dir, sockets = deep
    sockets.symlink_to(data_dir)
    with pytest.raises(EmbeddedError, match="is not a folder"):
        server.url_of(data_dir)


@as_root
def test_a_socket_folder_of_another_user_is_refused(deep: tuple[Path, Path]) -> None:
    data_dir, sockets = deep
    sockets.mkdir(mode=0o700)
    os.chown(sockets, 65534, 65534)
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        server.url_of(data_dir)


async def test_a_server_with_a_folder_of_its_own_in_the_temporary_folder_can_be_reached(
    deep: tuple[Path, Path],
) -> None:
    import psycopg

    data_dir, _ = deep
    async with server.running(data_dir):
        with psycopg.connect(server.url_of(data_dir)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        wrong = server.url_of(data_dir).replace("requirepeer=", "requirepeer=not-")
        with pytest.raises(psycopg.OperationalError, match="requirepeer"):
            psycopg.connect(wrong)
