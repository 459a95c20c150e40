"""Names and media types of files as people see them, made from what a client or a server said."""

from __future__ import annotations

import mimetypes
import re
import unicodedata

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")


def label(given: str) -> str:
    """Return a name that people can read on one line; it never becomes a path."""
    last = re.split(r"[/\\]", given)[-1]
    seen = "".join(letter for letter in last if not unicodedata.category(letter).startswith("C")).strip()
    return seen[-255:] or "unnamed"


def media_type(given: str, name: str) -> str:
    """Return the media type that was given, or the one that the file's name suggests if that says nothing."""
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # curl calls a raw body a form unless told otherwise.
    vague = ("", "application/octet-stream", "application/x-www-form-urlencoded")
    return given if given not in vague and _MEDIA_TYPE.fullmatch(given) else guessed
