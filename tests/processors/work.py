"""Running a processor right here, as an executor would, and keeping what it said."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.processors.base import Context
from vidqueue.processors.registry import find, parse
from vidqueue.progress import LogLine, Progress


@dataclass(slots=True)
class Work:
    """One attempt of one processor."""

    processor: str
    video: Path
    workspace: Path
    limits: Limits = field(default_factory=Limits)
    canceled: threading.Event = field(default_factory=threading.Event)
    progress: list[Progress] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)
    on_progress: Callable[[Progress], None] = lambda _: None
    device: str = "cpu"

    def run(self, **wishes: Any) -> OutputDraft:
        processor = find(self.processor)
        params = parse(processor, {"video": str(self.video), "effort": "fast", **wishes})
        self.workspace.mkdir(exist_ok=True)
        ctx = Context(
            {"video": self.video}, self.workspace, self.device, self.limits, self._report, self.log.append,
            canceled=self.canceled,
        )  # fmt: skip
        (output,) = ctx.published(processor.run(params, ctx))
        return output

    def _report(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.on_progress(progress)


def outputs(
    processor: str, field_name: str, path: Path, workspace: Path, *, said: list[str] | None = None, **wishes: Any
) -> dict[str, OutputDraft]:
    """What a processor makes of one file, by name; the lines of its log go into `said`."""
    one = find(processor)
    params = parse(one, {field_name: str(path), **wishes})
    workspace.mkdir(exist_ok=True)
    lines = said if said is not None else []
    ctx = Context(
        {field_name: path}, workspace, "cpu", Limits(), lambda _: None, lambda line: lines.append(line.text)
    )  # fmt: skip
    return {output.name: output for output in ctx.published(one.run(params, ctx))}


def facts_of(output: OutputDraft) -> MediaFacts:
    return MediaFacts.model_validate(
        {name: value for name, value in output.facts.items() if name in MediaFacts.model_fields}
    )


def video_of(facts: MediaFacts) -> VideoFacts:
    assert facts.video is not None
    return facts.video
