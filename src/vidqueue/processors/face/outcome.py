"""Interprets FaceFusion's output and exit code: progress from its bars, errors from its messages. No IO."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vidqueue.errors import VidqueueError
from vidqueue.progress import Progress

# The share of the whole work of each bar: content check, extracting frames, processing, merging frames.
SPANS = {"analysing": (0.0, 0.1), "extracting": (0.1, 0.2), "processing": (0.2, 0.9), "merging": (0.9, 1.0)}
DOWNLOADING = "downloading"

_BAR = re.compile(
    r"^\s{0,8}(analysing|extracting|processing|merging|downloading):\s{0,8}(\d{1,3})%\|.{0,200}\|\s{0,8}(\d{1,9})/(\d{1,9})"
)
_SAYS_NOTHING = re.compile(
    r"processing step \d+ of \d+|clearing temporary|creating temporary|succeeded|skipped|^\d{4}-.{1,60}\[W:onnxruntime"
)
_MEMORY = re.compile(
    r"out of memory|CUDA_ERROR_OUT_OF_MEMORY|Failed to allocate memory for requested buffer", re.IGNORECASE
)
_MODEL = re.compile(
    r"validating (?:hash|source) for .{1,200} failed|loading model .{1,200} failed|unrecognized arguments"
)
_PROVIDER = re.compile(r"argument --execution-providers: invalid choice")
_NO_FACE = re.compile(r"no (?:source )?face")
_INPUT = re.compile(r"choose an? (?:image|audio|video)|match the target|invalid choice|error: argument")
_INSTALL = re.compile(r"is not installed|version is not supported|No module named|Traceback")
_MEANINGS = (
    (_PROVIDER, "processor_unavailable"),
    (_MEMORY, "gpu_out_of_memory"),
    (_NO_FACE, "no_face"),
    (_MODEL, "missing_model"),
    (_INPUT, "invalid_params"),
)
LAST_WORDS = 5


class Bars:
    """Reads progress from lines, and keeps the last bar and the lines after it."""

    def __init__(self) -> None:
        self.last = ""
        self.said_since = False

    def read(self, line: str) -> Progress | None:
        """Return the progress in a line; None if it has none."""
        bar = _BAR.match(line)
        if bar is None:
            self.said_since |= bool(line.strip()) and not _SAYS_NOTHING.search(line)
            return None
        self.last, self.said_since = bar[1], False
        share = min(1.0, int(bar[3]) / max(1, int(bar[4])))
        if bar[1] == DOWNLOADING:
            return Progress(0.0, DOWNLOADING, f"Downloading a model ({bar[2]} %)")
        begin, end = SPANS[bar[1]]
        return Progress(begin + share * (end - begin), bar[1])


def failure_of(code: int, said: Iterable[str], bars: Bars) -> VidqueueError:
    """Return the error of a run that ended with this exit code without a result.

    headless-run folds all of its own codes into 1, and tells a refusal of the content check by nothing but that; an
    interrupt ends it with 0. A wrong flag or a missing program is 2.
    """
    lines = [line for line in said if line.strip() and not _SAYS_NOTHING.search(line)]
    words = " ".join(lines[-LAST_WORDS:])[:2000]
    last = lines[-1][:1000] if lines else "nothing"
    if code < 0 or code > 2:
        return VidqueueError("program_failed", f"FaceFusion was killed by a signal ({code}). Last output: {last}")
    if code == 0:
        return VidqueueError("program_failed", f"FaceFusion was interrupted and left no result. Last output: {last}")
    for pattern, name in _MEANINGS:
        if pattern.search(words):
            return VidqueueError(name, f"FaceFusion says: {last}", hint=_HINTS.get(name))
    if code == 2:
        name = "processor_unavailable" if _INSTALL.search(words) else "model_failed"
        return VidqueueError(name, f"FaceFusion says: {last}")
    if not bars.said_since and bars.last in ("", "analysing"):
        return VidqueueError("content_refused", "FaceFusion's content check refused the target.")
    return VidqueueError("model_failed", f"FaceFusion says: {last}")


_HINTS = {
    "processor_unavailable": "Install the onnxruntime of the lane's GPU, or name another provider in options.",
    "missing_model": "Fetch its models once: `python facefusion.py force-download`, or correct the option.",
}
