"""The disk space of films: how much is expected, and what a daemon does where there is too little."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.daemon import Daemon, until
from tests.media.clips import run_ffmpeg
from tests.volume import Volume, mounted
from vidqueue.media.ffmpeg import Seen
from vidqueue.media.film import join
from vidqueue.media.film.space import Canvas, Needs, most_bytes
from vidqueue.processors.parts.film_space import FilmSpace
from vidqueue.storage.disk_space import MEBIBYTE
from vidqueue.storage.reserved import ReservedSpace

LOW_WATER_MIB = 50


def test_a_source_of_few_bytes_makes_a_small_piece() -> None:
    canvas = Canvas((1920, 1080), Fraction(30), "medium")
    assert most_bytes(900, [50_000], canvas) < most_bytes(900, [50_000_000], canvas) < 30 * 4_000_000
    assert most_bytes(900, [0.0], canvas) < 5_000_000, "a still"


def test_pieces_that_are_larger_than_expected_make_the_rest_larger() -> None:
    needs = Needs([100, 100, 200], copies=1, beside=10)
    assert needs.left() == 400 * 2 + 10
    assert needs.left(now=50) == 350 + 400 + 10
    assert needs.left(now=150, share=0.5) == 600 - 150 + 600 + 10
    needs.rendered(40)
    assert needs.left() == 300 + 340 + 10
    needs.rendered(360)
    assert needs.left() == 400 + 800 + 10
    needs.rendered(100)
    assert needs.left() == 500 + 10


def test_a_piece_that_is_larger_than_expected_is_known_for_it_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    monkeypatch.setattr(ReservedSpace, "hold", lambda _, size: held.append(size))
    piece = join.Rendered(tmp_path / "piece.mp4", 1000)
    piece.path.write_bytes(bytes(3000))
    with ReservedSpace(tmp_path, 0) as reserved:
        space = FilmSpace(reserved, later=7)
        monkeypatch.setattr(space, "_needs", Needs([10_000], copies=1, beside=0))
        seen = space.watched(piece, lambda _: None)
        seen(Seen(frame=10))
        seen(Seen(frame=100))
    assert held == [10_000 - 3000 + 10_000 + 7, 30_000 - 3000 + 30_000 + 7]


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    yield from mounted(tmp_path / "small")


@pytest.fixture
def daemon(volume: Volume, database_url: str) -> Iterator[Daemon]:
    """A daemon whose files lie on the small volume, and its database elsewhere."""
    variables = {"VIDQUEUE_DATABASE__URL": database_url, "VIDQUEUE_DISK__LOW_WATER_MIB": str(LOW_WATER_MIB)}
    started = Daemon(volume.folder, **variables, VIDQUEUE_INPUTS__ROOTS=f'["{volume.folder.parent}"]').start()
    yield started
    started.stop()


def test_a_film_that_finds_its_space_reserved_waits_and_one_that_cannot_fit_is_refused(
    daemon: Daemon, volume: Volume, tmp_path: Path
) -> None:
    clip = tmp_path / "noise.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=gray:s=320x180:r=25:d=2,noise=alls=60:allf=t", "-c:v", "libx264", "-preset",
               "ultrafast", "-pix_fmt", "yuv420p", clip)  # fmt: skip
    film = {"clips": [{"media": str(clip)}], "width": 1280, "height": 720, "effort": "fast"}
    other = daemon.data_dir / "work" / "other"
    other.mkdir()
    with ReservedSpace(other, LOW_WATER_MIB) as reserved:
        above_mark = volume.free() - int(LOW_WATER_MIB * MEBIBYTE * 1.1)
        reserved.hold(above_mark - 2 * MEBIBYTE)
        waiting = daemon.submit("export", **film, max_attempts=1)
        until(lambda: daemon.job(waiting)["wait_reason"] == "no_space", what="it waits")
        job = daemon.job(waiting)
        assert job["state"] == "queued", "no attempt was burned, and it had one"
        assert "Other jobs have reserved space" in job["message"]
    other.rmdir()
    daemon.sql(f"UPDATE vidqueue.jobs SET run_at = now() WHERE id = '{waiting}'")
    assert daemon.ended(waiting)["state"] == "succeeded"
    volume.fill(leaving=int(LOW_WATER_MIB * MEBIBYTE * 1.1) + 2 * MEBIBYTE)
    job = daemon.ended(daemon.submit("export", **film, quality="high", max_attempts=1))
    assert (job["state"], job["error"]["code"]) == ("failed", "no_space")
    assert "above the low-water mark" in job["error"]["message"]
    assert not any((daemon.data_dir / "work").iterdir())
    assert daemon.violations() == []
