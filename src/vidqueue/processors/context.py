"""The context of a run: what a processor gets for one attempt, and the tools that every processor needs."""

from __future__ import annotations

import mimetypes
import re
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.processors import programs
from vidqueue.processors.media import dotted
from vidqueue.processors.model_cache import ModelCache
from vidqueue.processors.outputs import check_returned
from vidqueue.processors.programs import ProgressParser, Ran
from vidqueue.progress import LogLine, Progress, eta_of_whole, is_preview, is_share, share_of

if TYPE_CHECKING:  # the API loads this module, and nothing of media with it
    from vidqueue.media.facts import MediaFacts
    from vidqueue.media.ffmpeg import Tally

_TEXT_TYPES = {".srt": "application/x-subrip", ".vtt": "text/vtt", ".md": "text/markdown", ".mkv": "video/x-matroska"}
# The tolerance for rounding errors of progress outside 0..1; larger deviations are reported as a mistake.
_ROUNDING = 0.01
# The part of the whole work that one step is, from 0 to 1.
Span = tuple[float, float]
_FILENAME = re.compile(r"[^/\0]{1,200}")


@dataclass(frozen=True, slots=True)
class Context:
    """The context of one attempt: everything that a processor may use in `run`.

    Attributes:
        inputs: local file of each media reference, by its place: `video`, or `clips.0.media`. A file that was stored
            under a name has the extension of that name.
        workspace: an empty folder, removed after the attempt.
        device: `cpu` or `cuda:0`; the lane's own GPU is always the first one its executor can see.
        canceled: set when the work shall stop, mostly because the job was canceled.
        interrupted: set before `canceled` if another attempt follows, as when the daemon stops: what another server
            does for the job may go on there, and the next attempt looks for it.
        models: keeps what is slow to load from one job to the next; `models.folder` is where weights live.
        settings: the values of the processor's section of the configuration.
        lane, attempt: names of the lane and of the attempt, `<job>-<number>`.
        peers: the address of each server that the daemon runs for this job, by the name in `Processor.peers_for`.
        cache_dir: a folder that is kept from job to job and shared by the lanes. Its users limit the size of what they
            keep there, and must work if it is None or was emptied.
        redact: hides a secret that the processor has read elsewhere, as from a file, from its log and its errors.
        publish_output, show_preview: what `publish` and `preview` call.
        outputs: outputs that were declared with `output` and not published yet.
        degraded: the parameters for which memory was insufficient before this run, each with the code of its error;
            they are added to the facts of every output.
    """

    inputs: Mapping[str, Path]
    workspace: Path
    device: str
    limits: Limits
    report: Callable[[Progress], None]
    write_log: Callable[[LogLine], None]
    models: ModelCache = field(default_factory=ModelCache)
    canceled: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    settings: Any = None
    lane: str = ""
    attempt: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)
    cache_dir: Path | None = None
    redact: Callable[[str], None] = lambda secret: None
    publish_output: Callable[[OutputDraft], None] = lambda draft: None
    show_preview: Callable[[bytes], None] = lambda picture: None
    outputs: list[OutputDraft] = field(default_factory=list)
    degraded: Sequence[dict[str, Any]] = ()
    _warned: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attempt", self.attempt or self.workspace.name)  # a trial names none

    def progress(self, progress: Progress | float, stage: str = "", message: str = "") -> None:
        """Report progress; raises if the job was canceled.

        Args:
            progress: a report, or the share of the work that is done (0..1). A number outside counts as the nearest
                one inside, with a warning in the log.
            stage: a short name of the current step, if `progress` is a share.
            message: a sentence for users, if `progress` is a share.

        Raises:
            CanceledError: the job was canceled.
        """
        self.check_canceled()
        self._report(progress if isinstance(progress, Progress) else Progress(progress, stage, message))

    def _report(self, told: Progress) -> None:
        share = share_of(told.fraction)
        if not is_share(told.fraction, _ROUNDING) and "share" not in self._warned:
            self._warned.add("share")
            said = str(told.fraction)[:40]
            self.log(f"Progress must be a number from 0 to 1; {said} was replaced by {share:g}.", "warning")
        self.report(told if share == told.fraction else replace(told, fraction=share))

    def log(self, text: str, level: str = "info") -> None:
        """Write a line into the attempt's log. `level` is debug, info, warning or error."""
        self.write_log(LogLine(text, level))

    def publish(self, draft: OutputDraft) -> None:
        """Publish an output while the work goes on. It is public at once, with an event; do not change it afterwards.

        The outputs of an attempt that does not succeed are withdrawn. What `run` returns comes in addition, and may be
        nothing if an output was published.
        """
        (draft,) = self.published([draft])
        self.outputs[:] = [one for one in self.outputs if one is not draft]
        self.publish_output(draft)

    def preview(self, jpeg: bytes) -> None:
        """Show a picture of the work so far: a JPEG of at most 64 KiB. More than one a second are passed over.

        Raises:
            ValueError: it is no such picture.
        """
        if not is_preview(jpeg):
            raise ValueError("a preview is a JPEG of at most 64 KiB")
        self.show_preview(jpeg)

    def check_canceled(self) -> None:
        """Raise if the job was canceled.

        Raises:
            CanceledError: the job was canceled.
        """
        if self.canceled.is_set():
            raise CanceledError

    def input(self, *place: str | int) -> Path:
        """The local file of the reference at a place, as in `ctx.input("clips", 0, "media")`.

        Raises:
            KeyError: it is not the place of a media parameter, or the parameter was left out.
        """
        name = dotted(place)
        if name not in self.inputs:
            given = ", ".join(self.inputs) or "none"
            said = (
                f"{name} is not media of this job (it has: {given}). A parameter of media has a type such as VideoInput"
            )
            raise KeyError(f"{said}; one that was left out has no file.")
        return self.inputs[name]

    def output(
        self, name: str, filename: str, *, media_type: str | None = None, facts: dict[str, Any] | None = None
    ) -> OutputDraft:
        """Promise an output: write the file to its `path`. A `run` that returns None publishes what it has promised.

        Args:
            name: by which people and other jobs name it, as in `vq:jobs/<id>/<name>`.
            filename: of the file, without a folder; its extension says the type.
            media_type: where the extension does not say it.
            facts: about the file, as JSON values; the dictionary may be filled later.
        """
        path = self.output_path(filename)
        guessed = _TEXT_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(filename)[0]
        draft = OutputDraft(
            name, path, media_type or guessed or "application/octet-stream", {} if facts is None else facts
        )
        self.outputs.append(draft)
        return draft

    def output_path(self, filename: str) -> Path:
        """The path at which to write an output file."""
        if not _FILENAME.fullmatch(filename) or filename in (".", ".."):
            raise VidqueueError(
                "bad_output",
                f"{filename!r} is not the name of a file without a folder.",
                hint='Name the file only, as in ctx.output("video", "out.mp4"); it is written into ctx.workspace.',
            )
        return self.workspace / filename

    def published(self, returned: Any) -> list[OutputDraft]:
        """Return the outputs to publish, given what `run` returned.

        Raises:
            VidqueueError: `bad_output`.
        """
        drafts = self.outputs if returned is None else [returned] if isinstance(returned, OutputDraft) else returned
        check_returned(drafts)
        for draft in drafts if self.degraded else ():
            draft.facts["degraded"] = list(self.degraded)
            draft.facts["warnings"] = [*draft.facts.get("warnings", ()), *map(_told_of, self.degraded)]
        return list(drafts)

    def temporary(self) -> Path:
        """A new empty folder, removed after the attempt."""
        return Path(tempfile.mkdtemp(prefix=".temporary-", dir=self.workspace))

    def probe(self, path: Path) -> MediaFacts:
        """What is in a media file; every packet of it is read, by a jailed ffmpeg.

        Raises:
            VidqueueError: it is not acceptable media, with the code of the reason.
            CanceledError: the job was canceled.
        """
        from vidqueue.media.probe import probe

        return probe(path, self.limits, self.canceled, whole=True)

    def ffmpeg(
        self,
        arguments: Sequence[object],
        *,
        stage: str = "encode",
        span: Span = (0.0, 1.0),
        duration_s: float | None = None,
        gpu: bool = False,
    ) -> Tally:
        """Run ffmpeg in the jail: it can open the named files and nothing else. Its messages are lines of the log.

        Args:
            arguments: texts, paths and numbers, without the program. The word after `-i` is an input; another path in
                the workspace is an output, whose format follows from its extension unless `-f` is given.
            stage: the stage in progress reports.
            span: the part of the whole work that this run is, such as (0.5, 1.0) for its second half.
            duration_s: the length of the output, for the progress; that of the longest input if not given. Raw pictures
                and samples (`-f rawvideo`, `-f f32le`) have no known length.
            gpu: whether the run may use the GPU.

        Raises:
            VidqueueError: with the code of the cause.
            CanceledError: the job was canceled.
        """
        from vidqueue.media.jail.sandbox import SandboxLimits
        from vidqueue.processors import ffmpeg_command
        from vidqueue.processors.parts.reporting import stage_reporter

        if duration_s is None:
            duration_s = max(map(self._duration_s, ffmpeg_command.media_of(arguments, self.workspace)), default=0.0)
        bounds = SandboxLimits(self.limits, self.limits.ffmpeg_timeout_s, self.canceled, gpu=gpu)
        report = stage_reporter(self.progress, stage, duration_s, begin=span[0], end=span[1])
        return ffmpeg_command.run(arguments, bounds, self.workspace, on_progress=report, on_remark=self.log)

    def _duration_s(self, path: Path) -> float:
        from vidqueue.media.probe import probe

        return probe(path, self.limits, self.canceled).duration_s

    def run(
        self,
        command: Sequence[object],
        *,
        progress: ProgressParser | None = None,
        stage: str = "",
        span: Span = (0.0, 1.0),
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        check: bool = True,
    ) -> Ran:
        """Run any program, not in the jail. Its lines are lines of the log; a cancel kills its whole process group.

        Args:
            command: the program and its arguments, each a text, a path or a number; no shell sees them.
            progress: reads progress from a line: a pattern with one group (per cent) or two (a part and a whole), or a
                function that returns a `Progress`, a share, or None. Bars such as those of tqdm are read without it.
            stage: the stage of that progress.
            span: the part of the whole work that this run is, such as (0.5, 1.0) for its second half.
            cwd: the working folder; the workspace if not given.
            environment: variables beside those of the executor.
            timeout_s: after which the program is killed.
            check: whether another exit code than 0 is an error. The result has the code, and the last lines (`tail`).

        Raises:
            VidqueueError: `program_failed`, `program_missing` (it cannot be started), `timed_out`.
            CanceledError: the job was canceled.
        """
        begin, end = span

        def on_progress(seen: Progress) -> None:
            fraction = begin + share_of(seen.fraction) * (end - begin)
            left = eta_of_whole(seen.eta_s, fraction, end)
            self._report(replace(seen, fraction=fraction, stage=stage or seen.stage, eta_s=left))

        listener = programs.Listener(self.log, on_progress, self.canceled.is_set)
        ran = programs.run(
            command, listener, progress=progress, cwd=cwd or self.workspace, environment=environment,
            timeout_s=timeout_s,
        )  # fmt: skip
        if check and ran.returncode != 0:
            raise programs.failure_of(command, ran)
        return ran


def _told_of(rung: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in rung.items() if name != "code")
    return f"The memory was too small for {values or 'the first try'}."
