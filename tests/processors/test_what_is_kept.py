"""The table of docs/media.md that says what each container keeps, compared with real results, cell by cell."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.media.clips import run_ffmpeg
from tests.processors.comparison import Seen, seen
from tests.processors.test_cases import CASES, CODED, captioned, captions, ffmpeg, picture_subtitles, spherical
from tests.processors.work import Work
from vidqueue.job import OutputDraft

PAGE = Path(__file__).parents[2] / "docs" / "media.md"
CONTAINERS = ("mp4", "mov", "mkv", "webm", "gif", "webp")
SOUNDS = (
    "-f", "lavfi", "-i", "anoisesrc=d=0.4:a=0.3:r=48000,aformat=channel_layouts=5.1",
    "-f", "lavfi", "-i", "anoisesrc=d=0.4:a=0.3:r=48000,aformat=channel_layouts=stereo",
)  # fmt: skip
UNEVEN = (
    "-vf", "setsar=4/3,settb=1/1000,setpts=PTS+eq(mod(N\\,3)\\,1)*15", "-fps_mode", "passthrough",
    "-enc_time_base", "1/1000",
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A file, and what ffmpeg says of it."""

    path: Path

    @property
    def seen(self) -> Seen:
        return seen(self.path)

    @property
    def banner(self) -> str:
        return run_ffmpeg("-i", self.path, "-map", "0:v:0", "-c", "copy", "-f", "null", "-").stderr.decode()

    def codec(self, kind: str, place: int = 0) -> str | None:
        streams = [text for _, _, text in self.seen.of_kind(kind) if "(attached pic)" not in text]
        return re.split(r"\W", streams[place], maxsplit=1)[0] if len(streams) > place else None

    def said(self, name: str) -> list[str]:
        """What tags of this name say, of the file and of its streams."""
        text = run_ffmpeg(
            "-i", self.path, "-map", "0", "-c", "copy", "-t", "0", "-f", "ffmetadata", "-"
        ).stdout.decode()
        return re.findall(rf"^{name}=(.*)$", text, re.M | re.I)


def _film(folder: Path) -> Path:
    """Everything that MKV holds beside pictures, which have uneven times and wide pixels."""
    picture_subtitles(folder / "text.sup")
    (folder / "text.srt").write_text("1\n00:00:00,000 --> 00:00:00,300\nHello\n")
    (folder / "chapters").write_text(
        ";FFMETADATA1\ntitle=Film\nlocation=+1+2/\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=One\n"
    )
    (folder / "font.ttf").write_bytes(b"\0\1\0\0" + bytes(64))
    ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1", str(folder / "cover.png"))
    path = folder / "film.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25:duration=0.4",
        "-f", "lavfi", "-i", "testsrc2=size=80x60:rate=25:duration=0.3", *SOUNDS,
        "-i", str(folder / "text.srt"), "-i", str(folder / "text.sup"), "-i", str(folder / "chapters"),
        *(word for number in range(6) for word in ("-map", str(number))), "-map_metadata", "6",
        "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a:0", "aac", "-c:a:1", "libopus", "-c:s:0", "srt",
        "-c:s:1", "copy",
        "-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=eng", "-metadata:s:a:1", "title=Commentary",
        "-disposition:a:1", "comment", "-attach", str(folder / "font.ttf"), "-metadata:s:t:0", "mimetype=font/ttf",
        "-attach", str(folder / "cover.png"), "-metadata:s:t:1", "mimetype=image/png",
        "-metadata:s:t:1", "filename=cover.png",
        *UNEVEN, str(path),
    )  # fmt: skip
    return path


def _camera(folder: Path) -> Path:
    """A quarter turn, a timecode, and a track of data."""
    (folder / "data").write_bytes(bytes(range(200)))
    upright, path = folder / "upright.mov", folder / "camera.mov"
    source = ("-f", "lavfi", "-i", "testsrc=size=160x90:rate=25:duration=0.4")
    ffmpeg(*source, "-f", "data", "-i", str(folder / "data"), "-map", "0", "-map", "1", *CODED[:-2], "-c:d", "copy",
           "-tag:d", "gpmd", "-timecode", "10:00:00:00", str(upright))  # fmt: skip
    ffmpeg("-display_rotation", "90", "-i", str(upright), "-map", "0:v", "-map", "0:1", "-c", "copy", str(path))
    return path


def _interlaced(folder: Path) -> Path:
    path = folder / "fields.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=160x96:rate=25:duration=0.4,setfield=tff", "-flags", "+ilme+ildct",
           "-x264-params", "tff=1", *CODED[:-2], str(path))  # fmt: skip
    return path


SOURCES: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "film": (_film, {}),
    "camera": (_camera, {}),
    "hdr": (lambda _: CASES / "hdr10.mp4", {}),
    "deep": (lambda _: CASES / "hdr10.mp4", {"codec": "h265"}),
    "sphere": (spherical, {}),
    "alpha": (lambda _: CASES / "prores4444.mov", {}),
    "fields": (_interlaced, {}),
    "captions": (captioned, {}),
}

SOUND, TEXT = "[Ss]ound track", "[Ss]ubtitle track"


def _tracks(side: Side) -> object:
    names = {*side.said("title"), *side.said("name"), *side.said("handler_name")}
    languages = [language for _, language, _ in side.seen.of_kind("Audio")]
    return (languages, "Commentary" in names) if languages else None


def _surround(side: Side) -> object:
    return [text for _, _, text in side.seen.of_kind("Audio") if ", 5.1," in text] != []


def _videos(side: Side) -> object:
    return len([text for _, _, text in side.seen.of_kind("Video") if "(attached pic)" not in text]) > 1


def _covers(side: Side) -> object:
    return any("(attached pic)" in text for _, _, text in side.seen.of_kind("Video"))


def _data(side: Side) -> object:
    return any("tmcd" not in text for _, _, text in side.seen.of_kind("Data"))


def _times(side: Side) -> object:
    return [round(time - side.seen.times[0], 2) for time in side.seen.times]


def _transparent(side: Side) -> object:
    decoder = ("-c:v", "libvpx-vp9") if side.path.suffix == ".webm" else ()
    words = ("-frames:v", "1", "-vf", "format=rgba,alphaextract,format=gray", "-f", "rawvideo", "-")
    return "transparent" if min(run_ffmpeg(*decoder, "-i", side.path, *words).stdout) < 128 else "opaque"


# What a row is about: the source, what is looked at on both sides, and what a warning says of it.
ROWS: dict[str, tuple[str, Callable[[Side], object], str]] = {
    "sound (AAC)": ("film", lambda side: side.codec("Audio"), SOUND),
    "second sound track (Opus)": ("film", lambda side: side.codec("Audio", 1), SOUND),
    "surround sound": ("film", _surround, SOUND),
    "languages and titles of tracks": ("film", _tracks, SOUND),
    "marks of tracks (commentary)": (
        "film",
        lambda side: "(comment)" in str(side.seen.of_kind("Audio")),
        f"{SOUND}|not marked any more",
    ),
    "subtitles as text (SRT)": ("film", lambda side: side.codec("Subtitle"), TEXT),
    "subtitles as pictures (PGS)": ("film", lambda side: "pgs" in str(side.seen.of_kind("Subtitle")), TEXT),
    "chapters": ("film", lambda side: side.seen.chapters, "chapter"),
    "attached fonts": ("film", lambda side: len(side.seen.of_kind("Attachment")), "attached file"),
    "cover picture": ("film", _covers, "cover picture"),
    "second video track": ("film", _videos, "other video track"),
    "title": ("film", lambda side: side.seen.title, "Metadata is left out:.* title"),
    "place of the recording": ("film", lambda side: side.said("location")[:1], "Metadata is left out: location"),
    # WebM stores whole pixels of a screen.
    "shape of pixels": ("film", lambda side: round(side.seen.sar, 2), ""),
    "uneven times": ("film", _times, ""),
    "rotation": ("camera", lambda side: "turned" if "rotation of" in side.banner else "upright", ""),
    "timecode": ("camera", lambda side: side.said("timecode")[:1], "[Tt]imecode"),
    "data": ("camera", _data, "data track"),
    "HDR": ("hdr", lambda side: side.seen.colour[3] or "none", "HDR was converted"),
    "HDR with `codec: h265` (WebM: `av1`)": ("deep", lambda side: side.seen.colour[3] or "none", "HDR was converted"),
    "metadata of HDR10 with that codec": ("deep", lambda side: side.seen.side_data, "HDR was converted"),
    "360 degrees": ("sphere", lambda side: side.seen.side_data, "360"),
    "transparency": ("alpha", _transparent, "Transparent parts were blended"),
    "interlaced pictures": (
        "fields",
        lambda side: "fields" if re.search("(top|bottom) (coded )?first", side.banner) else "frames",
        "interlaced",
    ),
    "closed captions": ("captions", lambda side: captions(side.path) > 0, "closed captions"),
}


def fate(before: object, after: object, told: str, warnings: str) -> str:
    """What became of a thing, in the words of the table."""
    if before == after:
        return "kept"
    if after:
        return "converted"
    return "left out" if told and re.search(told, warnings) else "lost"


def table() -> dict[str, dict[str, str]]:
    """The cells of the table by row and container."""
    section = PAGE.read_text(encoding="utf-8").split("\n## What each container keeps\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    head, _, *rows = lines
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_the_table_has_a_row_for_each_thing_and_a_column_for_each_container() -> None:
    assert list(table()) == list(ROWS)
    assert {tuple(cells) for cells in table().values()} == {CONTAINERS}


def _made(source: str, container: str, path: Path, workspace: Path) -> OutputDraft:
    wishes = dict(SOURCES[source][1])
    if container in ("gif", "webp"):
        wishes.clear()
    elif wishes and container == "webm":
        wishes = {"codec": "av1"}
    return Work("transcode", path, workspace).run(container=container, **wishes)


@pytest.mark.parametrize(
    "source", [pytest.param(one, marks=[] if one in ("film", "camera") else [pytest.mark.long]) for one in SOURCES]
)
def test_each_container_keeps_what_the_table_says(source: str, tmp_path: Path) -> None:
    path, wanted = SOURCES[source][0](tmp_path), table()
    rows = {name: row for name, row in ROWS.items() if row[0] == source}
    for _, look, _ in rows.values():
        assert look(Side(path)), "the source has it"
    for container in CONTAINERS:
        output = _made(source, container, path, tmp_path / container)
        warnings = "\n".join(output.facts["warnings"])
        found = {
            name: fate(look(Side(path)), look(Side(output.path)), told, warnings)
            for name, (_, look, told) in rows.items()
        }
        assert found == {name: wanted[name][container] for name in rows}, container
