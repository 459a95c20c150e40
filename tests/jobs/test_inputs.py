"""References to local paths: whatever stands there, the answer is a file or a clear refusal."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from vidqueue.errors import VidqueueError
from vidqueue.processors.media import Kind
from vidqueue.services import Services

ANY: Kind = "any"
REFUSALS = {"input_not_found", "input_forbidden", "input_not_a_file"}


def odd_paths(folder: Path) -> list[str]:
    """Paths that cannot be followed, each for another reason."""
    (folder / "loop").symlink_to(folder / "loop")
    chain = folder / "chain0"
    chain.write_bytes(b"x")
    for number in range(1, 1500):
        (folder / f"chain{number}").symlink_to(folder / f"chain{number - 1}")
    return [
        f"{folder}/a\0b", f"{folder}/{'x' * 300}", f"{folder}/" + "d/" * 3000 + "x", f"{folder}/loop",
        f"{folder}/chain1499", f"{folder}/\udcff", f"{folder}/\ud800", str(folder), f"{folder}/chain0/below", "/",
    ]  # fmt: skip


async def test_a_path_that_cannot_be_followed_is_refused(services: Services, tmp_path: Path) -> None:
    for path in odd_paths(tmp_path):
        with pytest.raises(VidqueueError) as caught:
            await services.inputs.check(path, owner="local")
        assert caught.value.code in REFUSALS, path[:80]
    odd = {(f"{tmp_path}/loop", ANY), (f"{tmp_path}/a\0b", ANY)}
    assert (await services.inputs.check_many(odd, owner="local")).keys() == odd


async def test_a_thousand_paths_are_not_followed_all_at_once(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their answers would come in one turn of the event loop, which has other clients."""
    real, now, most = services.inputs.roots.find, 0, 0

    async def find(*args: Any) -> Path:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        try:
            return await real(*args)
        finally:
            now -= 1

    monkeypatch.setattr(services.inputs.roots, "find", find)
    wanted = {(f"{tmp_path}/{number}", ANY) for number in range(1000)}
    assert (await services.inputs.check_many(wanted, owner="local")).keys() == wanted
    assert 8 <= most <= 64


async def test_a_link_that_becomes_a_file_while_it_is_followed_is_no_fault_of_ours(
    services: Services, tmp_path: Path
) -> None:
    """`realpath` sees a link and then reads a file as one: EINVAL."""
    target, name, stop = tmp_path / "target", tmp_path / "name", threading.Event()
    target.write_bytes(b"a clip")

    def exchange() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            aside = tmp_path / f"aside{number % 2}"
            if number % 2:
                aside.symlink_to(target)
            else:
                aside.write_bytes(b"another clip")
            aside.replace(name)

    exchanging = threading.Thread(target=exchange)
    exchanging.start()
    try:
        for _ in range(4000):
            with suppress(VidqueueError):
                await services.inputs.roots.find(str(name))
    finally:
        stop.set()
        exchanging.join()
