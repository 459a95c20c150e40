"""Error codes: the HTTP status of each, whether a retry may help, and a hint what to do.

This table is the one place that decides whether a failure is retried. Nothing here does IO.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """The properties of an error code.

    Attributes:
        status: HTTP status when the error answers a request; a failed job reports the same code in its row.
        retryable: whether another attempt of the same job may succeed.
        hint: what the user should do, unless the raiser gives a better hint.
    """

    status: int
    retryable: bool
    hint: str


KINDS: dict[str, Kind] = {
    # The request itself.
    "bad_request": Kind(400, False, "Send well-formed HTTP/1.1."),
    "uri_too_long": Kind(414, False, "Send fewer or shorter parameters."),
    "headers_too_large": Kind(431, False, "Send fewer or shorter headers."),
    "invalid_json": Kind(400, False, "Send a JSON object; the detail has the position of the first error."),
    "invalid_request": Kind(
        422, False, "Correct the request as the detail says; `errors` names the invalid fields, if any."
    ),
    "invalid_params": Kind(422, False, "Correct the input; GET /v1/processors shows its schema."),
    "processor_fault": Kind(
        422,
        False,
        "The processor's own checks failed; report it to its author, with the traceback in the daemon's log.",
    ),
    "unknown_processor": Kind(422, False, "GET /v1/processors lists the processors of this daemon."),
    "not_found": Kind(404, False, "Check the id; the job or file may have been deleted."),
    "method_not_allowed": Kind(405, False, "The `Allow` header names the methods of this address."),
    "payload_too_large": Kind(413, False, "Send a smaller body or raise inputs.max_upload_mib."),
    "unsupported_media_type": Kind(415, False, "Send application/json, multipart/form-data or the raw bytes."),
    "request_timeout": Kind(408, True, "The request stalled; send it again over a steadier connection."),
    "conflict": Kind(409, False, "Read the job again; its state does not allow this."),
    "precondition_failed": Kind(412, False, "The job changed since it was read; read it again and repeat."),
    "range_not_satisfiable": Kind(416, False, "Request a range within the size given in Content-Range."),
    "idempotency_mismatch": Kind(422, False, "This Idempotency-Key was used for another body; choose a new key."),
    "upload_offset": Kind(409, True, "Read Upload-Offset with HEAD, and continue from there."),
    "upload_locked": Kind(
        423, True, "Wait until the other request has ended, read Upload-Offset, and continue from there."
    ),
    "upload_damaged": Kind(422, False, "The bytes were corrupted in transit; upload the file again."),
    "hash_mismatch": Kind(409, False, "The bytes were corrupted in transit, or the hash is wrong; send them again."),
    "blob_not_found": Kind(404, False, "Upload the bytes; only your own files are found by their hash."),
    "missing_asset": Kind(422, False, "Upload the asset, and name it by its id where the workflow loads media."),
    "workflow_format_ui": Kind(422, False, 'In ComfyUI use "Export (API)" and send that file.'),
    "idempotency_key_reuse": Kind(
        422, False, "Each key can be used only once here; look for the job that it created, or choose another key."
    ),
    "tus_version": Kind(412, False, "Send `Tus-Resumable: 1.0.0`; it is the only version."),
    "unauthenticated": Kind(
        401, False, "Send a key: `Authorization: Bearer <key>`, or $VIDQUEUE_API_KEY for the command line."
    ),
    "forbidden": Kind(403, False, "Use a key whose role allows this; requests of another site's page are refused."),
    "limit_reached": Kind(
        429, True, "Try again after the time in Retry-After, or ask the operator for a higher limit."
    ),
    "host_not_allowed": Kind(400, False, "Call the daemon by a name listed in api.allowed_hosts."),
    "database_unavailable": Kind(503, True, "Try again shortly; with the same Idempotency-Key nothing is done twice."),
    "overloaded": Kind(503, True, "The daemon is busy; try again after the time in Retry-After."),
    "query_timeout": Kind(503, True, "The database was too slow; try again, or request less at once."),
    "not_ready": Kind(503, True, "The detail names what is missing; `vidqueue doctor` has more details."),
    # Inputs.
    "unsupported_input": Kind(
        422, False, "Give an https:// URL or a path under inputs.roots, or upload the bytes and use vq:files/<id>."
    ),
    "input_not_found": Kind(422, False, "Check the spelling, and that the daemon's user may read the file."),
    "input_forbidden": Kind(422, False, "Move the file under one of inputs.roots, or add its folder there."),
    "input_not_a_file": Kind(422, False, "Give a regular file, not a folder, link, pipe or device."),
    "input_empty": Kind(422, False, "The file has no bytes; check that it was copied completely."),
    "input_is_a_playlist": Kind(422, False, "Playlists name other files and are never opened; give the video itself."),
    "invalid_url": Kind(
        422, False, "Give a URL such as https://example.com/video.mp4, without a user name or password."
    ),
    "address_forbidden": Kind(422, False, "Give a public address; an operator may add ranges to fetch.allow."),
    "url_not_found": Kind(422, False, "Check the URL; its server has no such file, or does not exist."),
    "fetch_refused": Kind(
        422, False, "Check that the URL can be downloaded without signing in; upload the file if not."
    ),
    "fetch_too_large": Kind(422, False, "Give a smaller file or raise fetch.max_mib."),
    "fetch_timed_out": Kind(422, False, "The server is too slow; upload the file, or raise fetch.timeout_s."),
    "fetch_failed": Kind(502, False, "The URL's server did not respond; retry the job when it is available again."),
    "input_unreachable": Kind(
        503, True, "The folder's disk or server does not respond; check its mount. Jobs that need it wait."
    ),
    "storage_unreachable": Kind(503, True, "The disk of the data folder does not respond; check it."),
    "expired": Kind(422, False, "Give a later expires_at, or more lanes; a retry waits without a deadline."),
    "file_lost": Kind(
        410, False, "Upload it again or repeat the job; or put the bytes back from a backup and restart the daemon."
    ),
    "file_elsewhere": Kind(
        409, True, "The file is in another daemon's data folder; use that daemon, or upload the file to this one."
    ),
    "input_changed": Kind(409, True, "Wait until the file is complete; the job is tried again."),
    "no_lane": Kind(
        422, False, "GET /v1/lanes shows what each lane accepts; request less memory or another lane, or add a lane."
    ),
    "dependency_failed": Kind(422, False, "The job whose output is the input did not succeed; retry that one first."),
    # Media.
    "unsupported_format": Kind(
        422,
        False,
        "Give a video in mp4, mov, mkv, webm, avi, ts, flv, mpeg, ogg or gif; `media.formats` may accept more.",
    ),
    "unsupported_codec": Kind(422, False, "Re-encode the file with a common codec such as h264."),
    "encrypted": Kind(422, False, "Give the file without copy protection."),
    "no_video_stream": Kind(422, False, "This processor needs moving pictures; the file has none."),
    "no_audio_stream": Kind(422, False, "This parameter needs sound; the file has none."),
    "not_an_image": Kind(422, False, "This parameter needs a single picture, such as a JPEG or PNG file."),
    "probe_pending": Kind(409, True, "The file is stored and can be used; read it again later to see its facts."),
    "still_image": Kind(422, False, "This processor needs a video; the file is a single picture."),
    "media_too_large": Kind(422, False, "The picture exceeds limits.max_pixels; give a smaller one or raise it."),
    "too_many_streams": Kind(
        422, False, "The file has more streams than limits.max_streams; keep only those you need."
    ),
    "output_too_large": Kind(
        422, False, "The result exceeds limits.max_output_mib; choose a lower quality or raise it."
    ),
    "media_too_long": Kind(422, False, "The video exceeds limits.max_duration_s; trim it or raise the limit."),
    "media_damaged": Kind(422, False, "Part of the file cannot be decoded; get an intact copy."),
    "trim_out_of_range": Kind(422, False, "Choose a trim inside the duration of the video."),
    "encoder_unavailable": Kind(422, False, "`vidqueue doctor` lists the encoders that work here."),
    # Not retryable: the same program would produce the same result from the same file.
    "output_incomplete": Kind(
        500, False, "The result failed its verification; see the attempt's log, and try another container or encoder."
    ),
    "ffmpeg_failed": Kind(500, True, "The attempt's log has the last output of ffmpeg."),
    # The lane.
    "executor_crashed": Kind(500, True, "The lane's process died; the attempt's log shows its last output."),
    "no_result": Kind(500, True, "The lane's process ended without a result; see the attempt's log."),
    "processor_error": Kind(500, True, "The processor raised an unexpected error; see the attempt's log."),
    "program_failed": Kind(500, True, "A program that the processor ran has failed; the attempt's log has its output."),
    "program_missing": Kind(422, False, "Install the program where the daemon's user finds it, and retry the job."),
    "weights_missing": Kind(422, False, "Put the file of weights into the folder of `models_dir`, and retry the job."),
    "input_refused": Kind(422, False, "Give an input that suits this processor; the message says what it expects."),
    "poison": Kind(500, False, "This job killed its executor too often; look at its log before you retry it."),
    "timed_out": Kind(500, False, "The job ran longer than timeout_s; raise it, or use a smaller input."),
    "stalled": Kind(
        500, True, "No progress within stall_timeout_s: raise it, or let the processor report progress in between."
    ),
    "out_of_memory": Kind(500, True, "Give smaller media, or raise limits.memory_mib."),
    "gpu_out_of_memory": Kind(500, True, "Give smaller media, or choose a lane with more memory."),
    "gpu_too_small": Kind(
        422, False, "Give smaller media or parameters that need less memory; no lane has a GPU that is large enough."
    ),
    "gpu_error": Kind(500, True, "CUDA failed; the attempt's log has the message. The lane's process was restarted."),
    "unknown_model": Kind(422, False, "The detail names the configured models; an operator can add others."),
    "missing_model": Kind(422, False, "Install the node or the model on the server that does the work."),
    "processor_unavailable": Kind(422, False, "Install what the processor needs; `vidqueue processors` names it."),
    "model_failed": Kind(500, False, "The model reported an error: change the parameters, or see the server's log."),
    "content_refused": Kind(422, False, "Change the prompt or the input; the model's content check refused it."),
    "no_face": Kind(422, False, "Give a picture in which a face is clearly visible."),
    "peer_lost": Kind(500, True, "The server that did the work died or lost it; see its log."),
    "peer_setup_failed": Kind(
        500,
        True,
        "The attempt's log has the last output of the server; check its command, directory and setup_timeout_s.",
    ),
    # The limit of waiting is reached. Waiting used no attempts, and a retry may wait for the whole limit again.
    "peer_unavailable": Kind(
        503,
        False,
        "Start the server that does the work, or make room on it; raise running.wait_limit_s to wait longer.",
    ),
    "no_space": Kind(507, True, "Free disk space under the data folder."),
    "bad_output": Kind(
        500, False, "The message says what is wrong with the outputs that were reported; correct the processor."
    ),
    "internal_error": Kind(500, True, "This is a bug in vidqueue; the daemon's log has the details."),
}


# The database failed temporarily; a caller that must succeed tries again.
DATABASE_BUSY = frozenset({"database_unavailable", "overloaded", "query_timeout"})


class VidqueueError(Exception):
    """A failure with a stable code, what happened, and what to do about it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        errors: list[dict[str, str]] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.code = code
        self.message = message
        # A processor of another package may have codes of its own.
        self.hint = hint or (KINDS[code].hint if code in KINDS else "")
        self.errors = errors or []

    @property
    def status(self) -> int:
        """Return the HTTP status of the response."""
        return KINDS[self.code].status


class WaitingError(Exception):
    """Raised by a processor whose work cannot start now through no fault of the job; the job is put back, unburned.

    Attributes:
        reason: one word, `[a-z][a-z0-9_]*`, that people see as the job's `wait_reason`, such as `peer_busy`.
        message: what happened, as a sentence.
        retry_after_s: when to try again, in seconds.
        for_jobs: whether it waits for other jobs of this queue; then the job waits without a limit.
    """

    def __init__(self, reason: str, message: str, *, retry_after_s: float = 10.0, for_jobs: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.for_jobs = for_jobs


class LostWorkError(Exception):
    """Raised by a processor whose server lost the work, as by a restart: the attempt is interrupted, not failed.

    Attributes:
        message: what happened, as a sentence.
        retry_after_s: when to try again, in seconds.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class RefusedError(VidqueueError):
    """Raised by a processor for an input that does not suit it: the job fails at once and is not tried again."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__("input_refused", message, hint=hint)


class CanceledError(Exception):
    """Raised in running work when a cancel of the job was requested; do not catch it."""


def is_no_space(error: BaseException) -> bool:
    """True if an error says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_retryable(code: str) -> bool:
    """True if a failed attempt with this code may be retried; unknown codes (of external processors) may."""
    kind = KINDS.get(code)
    return kind is None or kind.retryable


def fault_text(fault: Mapping[str, Any]) -> str:
    """Return the message of a pydantic error, without the prefix for errors of our own validators."""
    return str(fault["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
