"""Lookup of named entries of the configuration that jobs refer to: endpoints, servers, accounts, pipelines."""

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
        ValueError: it is not a valid URL.
    """
    try:
        parse_url(url)
    except VidqueueError as error:
        raise ValueError(error.message) from None
    return url


Url = Annotated[str, AfterValidator(readable_url)]


def entry(entries: Mapping[str, Entry], name: str, *, kind: str, section: str, field: str) -> Entry:
    """Return the entry of the configuration that a job names in the parameter `field`.

    Args:
        entries: the configured entries by name.
        name: the name that the job gives.
        kind: the kind of entry, for the message.
        section: the section of the configuration with these entries.
        field: the parameter that names it.

    Raises:
        VidqueueError: `unknown_model`.
    """
    found = entries.get(name)
    if found is None:
        known = ", ".join(sorted(entries)) or f"none; an operator can add one under [{section}]"
        message = f"There is no {kind} {name!r}. Known: {known}."
        raise VidqueueError("unknown_model", message, errors=[{"pointer": f"/input/{field}", "detail": message}])
    return found
