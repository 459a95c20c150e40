"""Maps error responses of servers to error codes of vidqueue, and says whether the job waits."""

from __future__ import annotations

import re
from typing import Any

from vidqueue.errors import VidqueueError, WaitingError
from vidqueue.processors.remote.peer import Reply

LONGEST = 2000
LONGEST_RETRY_S = 600.0

_OUT_OF_MEMORY = re.compile(r"out of memory|outofmemoryerror", re.IGNORECASE)
_CONTENT = re.compile(r"moderation|content_policy|content_filter|content_refused|nsfw", re.IGNORECASE)
_NOT_SAFE = re.compile(r"\bNSFW\b", re.IGNORECASE)
_NO_MODEL = frozenset({"model_not_found", "unknown_model", "missing_model"})


def error_for_response(server: str, reply: Reply) -> Exception:
    """Return the exception for a response with which a server refuses the work."""
    words = message_of(reply.value) or "it gave no reason"
    match reply.status:
        case 401 | 403:
            return WaitingError("peer_unavailable", f"The {server} refuses the key: {words}.", retry_after_s=30)
        case 409 | 425 | 429 | 503:
            return WaitingError(
                "peer_busy", f"The {server} takes no work now: {words}.", retry_after_s=retry_after_s(reply)
            )
        case status if 300 <= status < 400:
            location = reply.headers.get("location", "")[:200]
            message = f"The {server} redirects to another address ({status} {location}). Check its url."
            return WaitingError("peer_unavailable", message, retry_after_s=30)
        case 404 if code_of(reply.value) not in _NO_MODEL:
            message = f"The {server} has no such address. Check its url. It said: {words}"
            return WaitingError("peer_unavailable", message, retry_after_s=30)
        case status if status >= 500:
            return failure_of(reply.value, f"The {server} answered {status}", code="peer_lost")
    return _final(server, reply, words)


def _final(server: str, reply: Reply, words: str) -> VidqueueError:
    if code_of(reply.value) in _NO_MODEL:
        return VidqueueError("missing_model", f"The {server} does not have the model: {words}")
    if _CONTENT.search(code_of(reply.value)):
        return VidqueueError("content_refused", words)
    return VidqueueError("invalid_params", f"The {server} does not accept this input: {words}")


def failure_of(error: Any, otherwise: str, *, code: str = "model_failed") -> VidqueueError:
    """The error of work that failed on a server."""
    words = message_of(error) or otherwise
    if _OUT_OF_MEMORY.search(words):
        return VidqueueError("gpu_out_of_memory", words)
    if _CONTENT.search(code_of(error)) or _NOT_SAFE.search(words):
        return VidqueueError("content_refused", words)
    return VidqueueError(code, words)


def message_of(value: Any) -> str:
    """What an answer or an error says; empty if it says nothing."""
    if isinstance(value, str):
        return value.strip()[:LONGEST]
    if isinstance(value, list):
        return "; ".join(filter(None, map(message_of, value[:10])))[:LONGEST]
    if isinstance(value, dict):
        found = (message_of(value.get(name)) for name in ("error", "message", "detail", "msg", "title"))
        return next(filter(None, found), "")
    return ""


def code_of(value: Any) -> str:
    """The code of an answer or an error; empty if it has none."""
    if not isinstance(value, dict):
        return ""
    inner = code_of(value.get("error"))
    return inner or " ".join(str(value[name]) for name in ("code",) if isinstance(value.get(name), str))


def retry_after_s(reply: Reply) -> float:
    """When to ask again, in seconds, as an answer says."""
    told = reply.headers.get("retry-after", "")
    return min(float(told), LONGEST_RETRY_S) if told.isascii() and told.isdigit() and len(told) < 9 else 10.0
