"""Mapping the exit status and the last messages of a jailed ffmpeg to an error with a stable code. No IO."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.media.jail.sandbox import Ended

# The first pattern that matches any line wins, so the order goes from the cause to the symptom. A message may quote
# what the group of its pattern found.
_WORDS: tuple[tuple[str, str, str], ...] = (
    (r"No space left on device", "no_space", "The disk is full."),
    (r"File too large", "output_too_large", "The result grew beyond its bound."),
    (
        # Threads need address space for their stacks.
        r"Cannot allocate memory|Out of memory|std::bad_alloc|Malloc of size|pthread_create\(\) failed",
        "out_of_memory",
        "ffmpeg ran out of memory.",
    ),
    (r"Format not on whitelist", "unsupported_format", "The file is in a format that is not accepted."),
    (r"Codec \(\w{1,40}\) not on whitelist", "unsupported_codec", "The file uses a codec that is not accepted."),
    (
        r"Decoder not found|no decoder found|Could not find codec",
        "unsupported_codec",
        "No decoder knows this file's codec.",
    ),
    (
        r"exceeds specified max pixel count|Picture size \d{1,10}x\d{1,10} is invalid",
        "media_too_large",
        "The picture is too large.",
    ),
    (r"Number of (?:streams|tracks) exceeds max_streams", "too_many_streams", "The file has too many streams."),
    (
        r"moov atom not found",
        "media_damaged",
        "The file has no index (moov); its recording was never finished.",
    ),
    (r"Error opening input", "unsupported_format", "The file is not a video that can be read."),
    (r"Unknown encoder '([\w.-]{1,60})'", "encoder_unavailable", "This ffmpeg has no encoder {}."),
    (
        r"required nvenc API version\. Required: ([\d.]{1,9}) Found: ([\d.]{1,9})"
        r"[^\n]{0,99}\n[^\n]{0,99}driver for nvenc is ([\d.]{1,9}\d)",
        "encoder_unavailable",
        "The NVIDIA driver is too old for this ffmpeg: it has NVENC {1}, and {0} is needed (driver {2} or newer).",
    ),
    (
        r"required nvenc API version\. Required: ([\d.]{1,9}) Found: ([\d.]{1,9}\d)",
        "encoder_unavailable",
        "The NVIDIA driver is too old for this ffmpeg: it has NVENC {1}, and {0} is needed.",
    ),
    (
        r"Cannot load (lib[\w.-]{1,60})",
        "encoder_unavailable",
        "The library {} of the NVIDIA driver cannot be loaded.",
    ),
    (r"No capable devices found", "encoder_unavailable", "No GPU has this encoder."),
    (
        r"OpenEncodeSessionEx failed: ([\w ]{1,60}\w)",
        "encoder_unavailable",
        "The GPU gives no encoding session: {}.",
    ),
    (
        r"\[enc:([\w.-]{1,60}) @ 0x[0-9a-f]{1,16}\] (?:\[\w{1,9}\] )?Error while opening encoder",
        "encoder_unavailable",
        "The encoder {} could not be started.",
    ),
    (
        r"Error while opening encoder|Unknown encoder|No capable devices|Cannot load lib",
        "encoder_unavailable",
        "The encoder could not be started.",
    ),
    (r"Decode error rate \S{1,40} exceeds", "media_damaged", "Most of the file cannot be decoded."),
)
_CAUSES = tuple(re.compile(pattern) for pattern, _, _ in _WORDS)
_ERROR = re.compile(r"(?:\[[^\]]{1,250}\] ){0,9}\[(?:error|fatal|panic)\] (.*)", re.DOTALL)
# What ffmpeg says once something else has gone wrong.
_CONSEQUENCE = re.compile(
    r"Error (?:opening (?:out|in)put|initializing|reinitializing|binding|splitting|selecting|sending|setting option"
    r"|parsing (?:options|a filter|filterchain|global)|applying encoder options|while opening encoder)"
    r"|Failed to (?:set value|configure|inject)|Task finished with error|Terminating thread|Nothing was written"
    r"|Could not (?:open encoder|write header)|Conversion failed"
)
_BOUNDS = frozenset({"media_too_large", "too_many_streams"})


def raise_if_failed(ended: Ended) -> None:
    """Raise the error that a run ended with; return if it ended by itself with status 0.

    Raises:
        CanceledError: someone asked for the job to stop.
        VidqueueError: with the code of the cause, as far as ffmpeg's words tell it.
    """
    if ended.fault is not None:
        raise VidqueueError("internal_error", f"ffmpeg's messages could not be read: {ended.fault!r}.") from ended.fault
    if ended.by == "cancel":
        raise CanceledError
    if ended.by == "timeout":
        raise VidqueueError("timed_out", "ffmpeg did not finish in the time it was given and was ended.")
    if ended.returncode != 0:
        raise failure_of(ended)


def exceeded_bound(complaint: str) -> VidqueueError | None:
    """The error for what ffmpeg only complains about: it skips streams and pictures beyond its bounds and exits with 0.

    The codes are `media_too_large` and `too_many_streams`.
    """
    found = _cause(complaint)
    return found if found is not None and found.code in _BOUNDS else None


def failure_of(ended: Ended) -> VidqueueError:
    """The error that a failed run's exit status and last words stand for."""
    if cause := _cause("\n".join(ended.tail)):
        return cause
    if ended.returncode == -signal.SIGXFSZ:
        return VidqueueError("output_too_large", "The result grew beyond its bound.")
    if ended.returncode == -signal.SIGXCPU:
        return VidqueueError("timed_out", "ffmpeg used up its processor time.")
    if ended.returncode == -signal.SIGKILL and ended.by == "itself":
        return VidqueueError("out_of_memory", "The system killed ffmpeg, most likely for memory.")
    said = cause_in(ended.tail) or "no output"
    return VidqueueError("ffmpeg_failed", f"ffmpeg ended with status {ended.returncode}: {said[:300]}")


def cause_in(tail: Sequence[str]) -> str:
    """The last message of ffmpeg that names a cause, without what it only led to; empty if there is no message.

    After the cause, such as an unknown filter, each part of ffmpeg says in turn that it could not go on.
    """
    said = [line for line in tail if line.strip()]
    errors = [found[1] for line in said if (found := _ERROR.match(line))]
    first = ""
    for message in reversed(errors):
        if not _CONSEQUENCE.match(message):
            return message
        first = message
    return first or (said[-1] if said else "")


def _cause(words: str) -> VidqueueError | None:
    for pattern, (_, code, message) in zip(_CAUSES, _WORDS, strict=True):
        if found := pattern.search(words):
            return VidqueueError(code, message.format(*found.groups()))
    return None
