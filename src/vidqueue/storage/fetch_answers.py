"""Answers to a download: which ones have the bytes, which may have them later, and what they say about the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import Url
from vidqueue.ops.http_client import Answer

# Answers after which the same request may succeed later.
PERHAPS_LATER = frozenset({408, 425, 429, *range(500, 600)})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
_FILE_NAME = re.compile(r"""filename\s*=\s*"?([^";]{1,255})""", re.IGNORECASE)


class InterruptedDownloadError(Exception):
    """The download broke off and may be resumed. `retry_after_s` is what the server asked for."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def require_success(asked: Url, answer: Answer, offset: int) -> None:
    """Check that an answer has the bytes from `offset` on, or all of them.

    Raises:
        VidqueueError: `url_not_found`, `fetch_refused`.
        InterruptedDownloadError: it may have them later.
    """
    status, label = answer.status, asked.label
    if status in (404, 410):
        raise VidqueueError("url_not_found", f"{label} answered {status}.")
    if status in PERHAPS_LATER:
        raise InterruptedDownloadError(f"{label} answered {status}", _retry_after_s(answer.headers))
    if status not in (200, 206):
        raise refused(asked, f"it answered {status}")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise refused(asked, "it sends compressed bytes although it was asked not to")
    part = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
    if status == 206 and (part is None or not offset or int(part[1]) != offset):
        raise refused(asked, "it sends another part of the file than it was asked for")


def refused(url: Url, reason: str) -> VidqueueError:
    """Return the error of a URL that will not be fetched by asking again."""
    return VidqueueError("fetch_refused", f"{url.label} cannot be fetched: {reason}.")


def validator_of(headers: Mapping[str, str]) -> str | None:
    """Return a strong ETag, or a modification time that is strong because the answer is much later.

    RFC 9110, 8.8.2.2. None if there is neither.
    """
    etag = headers.get("etag", "").strip()
    if etag.startswith('"') and len(etag) <= 1024:
        return etag
    try:
        modified = parsedate_to_datetime(headers["last-modified"])
        if (parsedate_to_datetime(headers["date"]) - modified).total_seconds() >= 60:
            return headers["last-modified"]
    except (KeyError, ValueError, TypeError):
        pass
    return None


def _retry_after_s(headers: Mapping[str, str]) -> float:
    told = headers.get("retry-after", "").strip()
    return float(told) if told.isascii() and told.isdecimal() and len(told) <= 5 else 0.0


def file_name(url: Url, headers: Mapping[str, str]) -> str:
    """Return the file's name from Content-Disposition, or the last part of the path."""
    if found := _FILE_NAME.search(headers.get("content-disposition", "")[:2000]):
        return found[1].strip()
    return unquote(url.target.partition("?")[0].rpartition("/")[2], errors="replace")
