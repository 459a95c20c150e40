"""Named entries of the configuration that jobs choose: endpoints, servers, accounts, pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import parse_url

Entry = TypeVar("Entry")
EntryName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


def readable_url(url: str) -> str:
    """Return a URL of the configuration.

    Raises:
        ValueError: it is none.
    """
    try:
        parse_url(url)
    except VidqueueError as error:
        raise ValueError(error.message) from None
    return url


Url = Annotated[str, AfterValidator(readable_url)]


def entry(entries: Mapping[str, Entry], name: str, *, kind: str, section: str, field: str) -> Entry:
    """Return the entry that a job names in `field`.

    Args:
        entries: those of the configuration.
        name: what the job names.
        kind: what such an entry is, for the message.
        section: where an operator adds some.
        field: the parameter that names it.

    Raises:
        VidqueueError: `unknown_model`.
    """
    found = entries.get(name)
    if found is None:
        known = ", ".join(sorted(entries)) or f"none; an operator adds some under [{section}]"
        message = f"There is no {kind} {name!r}. Known: {known}."
        raise VidqueueError("unknown_model", message, errors=[{"pointer": f"/input/{field}", "detail": message}])
    return found
