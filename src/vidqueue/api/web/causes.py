"""The likely cause of each error code, as a sentence on the page of a failed job."""

from __future__ import annotations

from vidqueue.errors import KINDS

_DAMAGED = "The file was damaged before it came here, or was not copied to its end."
_LIMIT = "The media is larger than this daemon is configured to take."
_REQUEST = "The request named something that this daemon cannot use."
_INPUT = "The file is not there, is not readable for the daemon's user, or is of another kind than the processor needs."
_REMOTE = "The server that the URL names did not answer as expected."
_MACHINE = "A problem of the machine, not of the job; a retry may succeed."
_WORKLOAD = "The job needed more memory or time than was available."
_FAULT = "A bug in the processor or in vidqueue."

_CAUSES = {
    _DAMAGED: ("media_damaged", "output_incomplete", "file_lost"),
    _LIMIT: ("media_too_large", "media_too_long", "too_many_streams", "output_too_large", "payload_too_large"),
    _REQUEST: (
        "invalid_params", "unknown_processor", "unsupported_input", "invalid_url", "address_forbidden",
        "trim_out_of_range", "encoder_unavailable", "unsupported_format", "unsupported_codec", "invalid_request",
    ),
    _INPUT: (
        "input_not_found", "input_forbidden", "input_not_a_file", "input_empty", "input_is_a_playlist",
        "no_video_stream", "no_audio_stream", "still_image", "not_an_image",
    ),
    _REMOTE: ("url_not_found", "fetch_refused", "fetch_too_large", "fetch_timed_out", "fetch_failed"),
    _MACHINE: (
        "executor_crashed", "no_result", "gpu_error", "no_space", "input_unreachable", "storage_unreachable",
        "database_unavailable", "overloaded", "query_timeout", "file_elsewhere", "peer_unavailable",
    ),
    _WORKLOAD: ("out_of_memory", "gpu_out_of_memory", "gpu_too_small", "timed_out", "stalled", "poison"),
    _FAULT: ("processor_error", "bad_output", "internal_error", "ffmpeg_failed"),
    "No lane has what the job requires.": ("no_lane",),
    "No lane was free before the job's deadline.": ("expired",),
    "A job that this one depends on failed or was canceled.": ("dependency_failed",),
}  # fmt: skip
_OTHERS = "The request, or the media that it names."
CODES = frozenset(code for codes in _CAUSES.values() for code in codes)
_BY_CODE = {code: cause for cause, codes in _CAUSES.items() for code in codes}


def of(code: str | None) -> str | None:
    """Return the likely cause of an error code; None for codes that only other packages know."""
    if code not in KINDS:
        return None
    return _BY_CODE.get(code) or (_MACHINE if KINDS[code].retryable else _OTHERS)
