"""Tools for tests of a processor: a real context in this process, and clips to work on. No daemon, no database.

`Trial(Mirror, tmp_path / "work").run(video=sample_video(tmp_path / "in.mp4"))` returns the outputs by name.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.media.sample import make_sample
from vidqueue.processors import registry
from vidqueue.processors.base import Context, Processor
from vidqueue.processors.model_cache import ModelCache
from vidqueue.processors.outputs import check_files, check_name, check_names
from vidqueue.progress import LogLine, Progress

__all__ = ["Trial", "sample_video"]


class Trial:
    """Runs one processor as a lane's executor does: checked parameters, the jail, checked outputs.

    Attributes:
        context: the context that the processor gets; its methods work before a run, too.
        log: the lines of the log so far.
        reports: the progress that was reported so far.
        early: what was published during the run.
        previews: the pictures that were shown.
        canceled: an event; `canceled.set()` cancels the run, as from another thread.
    """

    def __init__(
        self,
        processor: type[Processor] | Processor,
        workspace: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        models_dir: Path | None = None,
        device: str = "cpu",
    ) -> None:
        """Prepare a run.

        Args:
            processor: what is tried.
            workspace: a folder for what it writes; made if missing.
            settings: values of the processor's section of the configuration.
            models_dir: the folder of weights; `models` in the workspace if not given.
            device: `cpu` or `cuda:0`.
        """
        kind = processor if isinstance(processor, type) else type(processor)
        workspace.mkdir(parents=True, exist_ok=True)
        workspace = workspace.resolve()
        self.processor = kind(kind.Settings.model_validate(dict(settings or {})))
        self.log: list[LogLine] = []
        self.reports: list[Progress] = []
        self.early: list[OutputDraft] = []
        self.previews: list[bytes] = []
        self.context = Context(
            inputs={},
            workspace=workspace,
            device=device,
            limits=Limits(),
            report=self.reports.append,
            write_log=self.log.append,
            models=ModelCache(models_dir or workspace / "models"),
            settings=self.processor.config,
            publish_output=self._publish,
            show_preview=self.previews.append,
        )

    @property
    def canceled(self) -> threading.Event:
        """An event that cancels the run once it is set; another value cannot be assigned."""
        return self.context.canceled

    def run(self, **params: Any) -> dict[str, OutputDraft]:
        """Run the processor with these parameters, in which media are paths of files; return its outputs by name.

        Raises:
            VidqueueError: what a job would fail with.
            CanceledError: `canceled` was set.
        """
        raw = {name: _plain(value) for name, value in params.items()}
        checked = registry.parse(self.processor, raw)
        inputs = {one.name: _local(one.reference) for one in self.processor.media(checked)}
        self.context.outputs.clear()
        self.early.clear()
        context = replace(self.context, inputs=inputs)
        outputs = context.published(self.processor.run(checked, context))
        check_names(outputs, [output.name for output in self.early])
        check_files(outputs, context.workspace)
        return {output.name: output for output in [*self.early, *outputs]}

    def _publish(self, draft: OutputDraft) -> None:
        check_name(draft.name, [one.name for one in self.early])
        check_files([draft], self.context.workspace)
        self.early.append(draft)


def sample_video(path: Path, *, seconds: float = 1, size: tuple[int, int] = (320, 180), fps: int = 25) -> Path:
    """Write a short clip with moving pictures and a beep at each second, and return its path.

    Args:
        path: a file that does not exist yet, ending in .mp4, .mov, .mkv or .webm.
        seconds: length.
        size: width and height in pixels.
        fps: pictures a second.
    """
    make_sample(path, seconds=seconds, size=size, fps=fps)
    return path


def _plain(value: Any) -> Any:
    """The value as a request would have it: a path becomes the text of it."""
    if isinstance(value, Path):
        return str(value.resolve())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _local(reference: str) -> Path:
    path = Path(reference)
    if not path.is_file():
        raise VidqueueError("input_not_found", f"There is no file at {reference}.")
    return path.resolve()
