"""Scripts, styles and pictures of the dashboard. Their addresses change with their content, so browsers keep them."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.errors import VidqueueError

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MONTHS_S = 90 * 86_400


async def get_asset(request: Request, name: str) -> Response:
    """Read a script, a style or a picture of the pages."""
    content = _contents().get(name)
    if content is None:
        raise VidqueueError("not_found", f"The pages have no file {name!r}.")
    caching = f"max-age={_MONTHS_S}, immutable" if request.url.query else "no-cache"
    headers = {"Cache-Control": caching, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = _compressed()[name], "gzip"
    return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)


def address(name: str) -> str:
    """Return the address of a file of the pages."""
    return f"/assets/{name}?{_digests()[name]}"


@cache
def _contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _FOLDER.rglob("*") if path.suffix in _TYPES}


@cache
def _compressed() -> dict[str, bytes]:
    return {name: gzip.compress(content, mtime=0) for name, content in _contents().items()}


@cache
def _digests() -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest()[:12] for name, content in _contents().items()}
