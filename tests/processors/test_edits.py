"""Edit lists that show a file's parts with something between them left out: pictures and sound stay in step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.processors.comparison import unexplained
from tests.processors.test_cases import BOTH, box, clip
from tests.processors.work import Work, facts_of, outputs, video_of


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of MP4 that follow each other, as name and content."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def content_of(data: bytes, *names: bytes) -> bytes:
    for name in names:
        data = next(content for kind, content in boxes(data) if kind == name)
    return data


def with_edits(data: bytes, ticks: int) -> bytes:
    """A track of which the first half second is shown, and the one after a second."""
    own = int.from_bytes(content_of(data, b"mdia", b"mdhd")[12:16])
    shown = [(ticks // 2, 0), (ticks // 2, own)]
    listed = b"".join(length.to_bytes(4) + begin.to_bytes(4) + b"\0\1\0\0" for length, begin in shown)
    edits = box(b"edts", box(b"elst", bytes(4) + len(shown).to_bytes(4) + listed))
    kept = [(name, content) for name, content in boxes(data) if name != b"edts"]
    return b"".join(box(name, content) + (edits if name == b"tkhd" else b"") for name, content in kept)


def cut(folder: Path, *words: str) -> Path:
    path = clip(folder / "cut.mov", "-g", "1", "-bf", "0", *words, seconds=2)
    whole = path.read_bytes()
    ticks = int.from_bytes(content_of(whole, b"moov", b"mvhd")[12:16])
    parts = list(boxes(content_of(whole, b"moov")))
    moov = b"".join(box(name, with_edits(one, ticks) if name == b"trak" else one) for name, one in parts)
    # The index stands behind the pictures, so their places stay as they are.
    path.write_bytes(b"".join(box(name, moov if name == b"moov" else content) for name, content in boxes(whole)))
    return path


def test_what_an_edit_list_cuts_out_is_neither_seen_nor_heard(tmp_path: Path) -> None:
    for codec in ("pcm_s16le", "aac"):
        path = cut(tmp_path, "-c:a", codec)
        for processor in BOTH:
            output = Work(processor, path, tmp_path / f"{processor}-{codec}").run(quality="high")
            assert video_of(facts_of(output)).frames in (25, 26)
            assert unexplained(path, output.path, output.facts["warnings"]) == []
        sound = outputs("extract-audio", "media", path, tmp_path / f"sound-{codec}", format="m4a")["audio"]
        assert 0.95 < facts_of(sound).duration_s < 1.1
