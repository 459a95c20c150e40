"""The jobs of the demo: both processors, four containers, and one job whose input is the output of another."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from vidqueue.cli.client import Client, Job
from vidqueue.cli.result import choose
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen, duration_text, size_text
from vidqueue.cli.transfer import Source, download

ENHANCE_FIRST = "cleaned and sharpened"


@dataclass(frozen=True, slots=True)
class Wish:
    """A job of the demo. Its input is the clip, or with `after` the output of the job with that title."""

    title: str
    processor: str
    params: dict[str, Any]
    after: str | None = None


WISHES = (
    Wish("small mp4", "transcode", {"quality": "low", "resolution": "240p", "effort": "fast"}),
    Wish("webm with vp9", "transcode", {"container": "webm", "codec": "vp9", "resolution": "240p", "effort": "fast"}),
    Wish("mkv with h265", "transcode", {"container": "mkv", "codec": "h265", "effort": "fast"}),
    Wish(ENHANCE_FIRST, "enhance", {"denoise": 0.4, "sharpen": 0.3, "effort": "fast"}),
    Wish("more colour", "enhance", {"saturation": 1.4, "contrast": 1.1, "effort": "fast"}),
    Wish("cleaned, then mov", "transcode", {"container": "mov", "effort": "fast"}, after=ENHANCE_FIRST),
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A downloaded result, and the daemon's description of it."""

    title: str
    path: Path
    output: dict[str, Any]

    @property
    def is_whole(self) -> bool:
        """Whether the file exists and has the expected size."""
        return self.path.is_file() and self.path.stat().st_size == self.output["size"]

    def row(self) -> tuple[str, ...]:
        """A line of the table of results."""
        facts = self.output["facts"] or {}
        video, audio = facts.get("video") or {}, facts.get("audio") or {}
        return (
            str(self.path),
            duration_text(facts.get("duration_s")),
            f"{video.get('width')}x{video.get('height')}",
            " + ".join(stream["codec"] for stream in (video, audio) if stream),
            size_text(self.output["size"]),
            str(self.output["sha256"])[:12],
        )


def submit_all(client: Client, clip: str) -> list[Job]:
    """Submit every job; `clip` is the reference of the clip."""
    by_title: dict[str, Job] = {}
    for wish in WISHES:
        video = f"vq:jobs/{by_title[wish.after]['id']}/video" if wish.after else clip
        request = {
            "processor": wish.processor,
            "input": {"video": video, **wish.params},
            "title": wish.title,
            "tags": ["demo"],
        }
        by_title[wish.title] = client.call("POST", "/v1/jobs", json=request)
    return list(by_title.values())


def deliver(client: Client, screen: Screen, job: Job, folder: Path) -> Delivered:
    """Download the result of a finished job into the folder, under a name that no file has yet."""
    output = choose(job, None)
    title = str(job["title"])
    path = _free_name(folder, title.replace(",", "").replace(" ", "-"), Path(output["filename"]).suffix)
    download(client, screen, Source(output["url"], output["size"], output["sha256"]), Target(str(path)), path)
    return Delivered(title, path, output)


def _free_name(folder: Path, stem: str, suffix: str) -> Path:
    """`stem.mp4`, or with results of an earlier demo in the folder `stem-2.mp4` and so on."""
    names = (f"{stem}{number}{suffix}" for number in chain([""], (f"-{one}" for one in count(2))))
    return next(folder / name for name in names if not os.path.lexists(folder / name))
