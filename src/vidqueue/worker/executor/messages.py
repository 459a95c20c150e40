"""The messages between a lane and its executor: three orders down, nine reports up, one JSON line each.

Two of the reports are words of the domain and travel as they are: `Progress` and `LogLine`. Reports are made storable
on both ends: the executor must be able to encode them, and the lane does not trust what a processor's process sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vidqueue.progress import PREVIEW_BYTES, LogLine, Progress
from vidqueue.sanitize import Redactor, Sanitizer, sanitize_number, sanitize_text

# In characters, of one text in a report; the lane reads lines of bounded length.
LONGEST_TEXT = 4000
LONGEST_DETAIL = 6000
LONGEST_NAME = 200
# A preview in base64.
LONGEST_PREVIEW = PREVIEW_BYTES // 3 * 4 + 4
MOST_OUTPUTS = 1000
TOLD_IN_PART = "Part of what the processor reported cannot be stored; it was replaced, cut or left out."
UNKNOWN_TYPE = "application/octet-stream"
UNKNOWN_REASON = "not_ready"
LONGEST_RETRY_S = 3600.0
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(?:; ?[\w-]{1,50}=[\w.+-]{1,50})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RunJob:
    """Order to run a job.

    `inputs` maps the place of each media reference to a local path; weights lie in `models_dir`, and
    what processors keep from job to job in `cache_dir`. `settings` has the
    values of the processor's section with its secrets in clear text: an order is never logged, and never stored.
    `peers` has the address of each managed peer that runs for the job. `attempt` is the name of the attempt.
    """

    processor: str
    params: dict[str, Any]
    inputs: dict[str, str]
    workspace: str
    limits: dict[str, Any]
    models_dir: str = ""
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    lane: str = ""
    cache_dir: str = ""
    models_mib: int = 0
    peers: dict[str, str] = field(default_factory=dict)
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Stop the running job; if it does not, the executor is killed.

    `goes_on` says that another attempt follows: only this one is interrupted, and nobody has canceled the job.
    """

    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """Exit; no more jobs will come."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The executor takes work."""

    pid: int


@dataclass(frozen=True, slots=True)
class OutputReady:
    """An output of a job that goes on, to be published now; it has `name`, `path`, `media_type` and `facts`."""

    output: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture that shows how far the job is: a JPEG in base64."""

    picture: str


@dataclass(frozen=True, slots=True)
class Used:
    """The resources that the job used, sent just before it ends.

    How large its inputs were, how long those that were probed, in seconds, and the GPU memory of torch, in MiB. `cpu_s`
    is the CPU time of the executor and its children since the executor began, in seconds.
    """

    input_bytes: int
    video_s: float
    device_mb: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done; each output has `name`, `path`, `media_type` and `facts`."""

    outputs: list[dict[str, Any]]
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broke:
    """The job failed; the executor can run the next one."""

    code: str
    message: str
    hint: str
    detail: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The job stopped because it was told to."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """The work cannot start now: `reason` is one word, and the next attempt begins after `retry_after_s`.

    `lost` says that it had started, and that the server that did it lost it; `for_jobs`, that it waits for other jobs.
    """

    reason: str
    message: str
    retry_after_s: float
    lost: bool = False
    for_jobs: bool = False


Order = RunJob | CancelJob | Exit
Report = Ready | Progress | LogLine | OutputReady | Preview | Used | Done | Broke | Stopped | PutBack

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        RunJob,
        CancelJob,
        Exit,
        Ready,
        Progress,
        LogLine,
        OutputReady,
        Preview,
        Used,
        Done,
        Broke,
        Stopped,
        PutBack,
    )
}


def encode(message: Order | Report) -> bytes:
    """One line of JSON, newline included."""
    values = {field: getattr(message, field) for field in message.__dataclass_fields__}
    return json.dumps({"kind": type(message).__name__, **values}).encode() + b"\n"


def decode(line: bytes) -> Any:
    """The message of one line; a report is storable.

    Raises:
        ValueError: the line is no message.
    """
    try:
        fields = json.loads(line)
        return storable(_KINDS[fields.pop("kind")](**fields))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a message: {line[:200]!r}") from error


def without_secrets(report: Report, redactor: Redactor) -> Report:
    """The report with the secrets in its texts replaced; paths of outputs stay, because they are opened."""
    match report:
        case LogLine(text, level):
            return LogLine(redactor.text(str(text)), level)
        case Progress():
            stage, message = (redactor.value(one) for one in (report.stage, report.message))
            return replace(report, stage=stage, message=message)
        case OutputReady(output):
            return OutputReady(redactor.value(output) | {"path": output["path"]})
        case Done(outputs, metrics):
            told = [redactor.value(one) | {"path": one["path"]} for one in outputs]
            return Done(told, redactor.value(metrics))
        case Broke() | PutBack():
            return _end_without_secrets(report, redactor)
    return report


def _end_without_secrets(report: Broke | PutBack, redactor: Redactor) -> Broke | PutBack:
    message = redactor.text(report.message)
    if isinstance(report, PutBack):
        return replace(report, message=message)
    hint, detail = redactor.text(report.hint), redactor.text(report.detail)
    return replace(report, message=message, hint=hint, detail=detail, metrics=redactor.value(report.metrics))


def storable(message: Any) -> Any:
    """The message with every text, number and fact in it as PostgreSQL can store it; an order is left as it is.

    Paths of outputs keep their surrogates, which stand for bytes that are not UTF-8: they are opened, not stored.
    """
    match message:
        case LogLine(text, level):
            return LogLine(_text(text, LONGEST_TEXT), _text(level, LONGEST_NAME))
        case Progress():
            return _storable_progress(message)
        case OutputReady() | Done():
            return _storable_outputs(message)
        case Preview(picture):
            return Preview(_text(picture, LONGEST_PREVIEW))
        case PutBack() | Broke():
            return _storable_end(message)
    return message


def _storable_end(report: PutBack | Broke) -> PutBack | Broke:
    text = _text(report.message, LONGEST_TEXT)
    if isinstance(report, Broke):
        code, hint = _text(report.code, LONGEST_NAME), _text(report.hint, LONGEST_TEXT)
        return Broke(code, text, hint, _text(report.detail, LONGEST_DETAIL), _facts(report.metrics, Sanitizer()))
    reason = str(report.reason) if _REASON.fullmatch(str(report.reason)) else UNKNOWN_REASON
    retry_after_s = min(max(sanitize_number(report.retry_after_s) or 0.0, 0.0), LONGEST_RETRY_S)
    return PutBack(reason, text, retry_after_s, report.lost, report.for_jobs)


def _storable_progress(progress: Progress) -> Progress:
    return Progress(
        sanitize_number(progress.fraction) or 0.0,
        _text(progress.stage, 64),
        _text(progress.message, LONGEST_TEXT),
        *map(sanitize_number, (progress.fps, progress.speed, progress.eta_s)),
    )


def _storable_outputs(report: OutputReady | Done) -> OutputReady | Done:
    sanitizer = Sanitizer()
    if isinstance(report, OutputReady):
        return OutputReady(_storable_output(report.output, sanitizer))
    outputs = [_storable_output(one, sanitizer) for one in report.outputs]
    return Done(outputs, _facts(report.metrics, sanitizer))


def _storable_output(output: Mapping[str, Any], sanitizer: Sanitizer) -> dict[str, Any]:
    media_type = str(output["media_type"])
    return {
        "name": _text(output["name"], LONGEST_NAME),
        "path": str(output["path"]).replace("\0", "\N{REPLACEMENT CHARACTER}"),
        # It becomes a header of the download.
        "media_type": media_type if _MEDIA_TYPE.fullmatch(media_type) else UNKNOWN_TYPE,
        "facts": _facts(output["facts"], sanitizer),
    }


def _facts(facts: Any, sanitizer: Sanitizer) -> dict[str, Any]:
    """The facts of one output; what is lost of them is told among their warnings."""
    sanitizer.lossy = not isinstance(facts, Mapping)
    told = sanitizer.value(facts) if isinstance(facts, Mapping) else {}
    if not sanitizer.lossy:
        return dict(told)
    warnings = told.get("warnings")
    others = [one for one in warnings if one != TOLD_IN_PART] if isinstance(warnings, list) else []
    return told | {"warnings": [*others, TOLD_IN_PART]}


def _text(value: Any, longest: int) -> str:
    return "" if value is None else sanitize_text(str(value)[:longest])
