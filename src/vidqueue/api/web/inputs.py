"""The media that a job reads, as its page shows it: with a player where the bytes are here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow
from vidqueue.db.tables.jobs import JobRow
from vidqueue.processors import registry
from vidqueue.processors.media import MediaField, file_of, media_in, output_of, schema_of
from vidqueue.services import Services

# A job may have a thousand inputs; the page shows so many.
MOST_SHOWN = 12
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Input:
    """One medium that a job reads. `url` is None where only the lane can read it."""

    name: str
    reference: str
    label: str
    url: str | None = None
    job: str | None = None
    media_type: str = ""
    size: int | None = None
    facts: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """The first media that a job reads, and how many there are."""

    shown: list[Input]
    count: int


async def of(services: Services, job: JobRow) -> Inputs:
    """Return the media of a job's parameters."""
    fields = list(_fields(job))
    shown = fields[:MOST_SHOWN]
    ids = [file_id for one in shown if (file_id := file_of(one.reference))]
    pairs = [output for one in shown if (output := output_of(one.reference))]
    async with services.database.statement() as connection:
        stored = await files.get_many(connection, ids, owner=job.owner) if ids else {}
        made = await files.outputs(connection, pairs, owner=job.owner) if pairs else {}
    return Inputs([_input(one, stored, made) for one in shown], len(fields))


def _fields(job: JobRow) -> Iterator[MediaField]:
    processor = registry.catalogue().get(job.processor)
    return media_in(schema_of(processor.Params), job.input) if processor else iter(())


def _input(one: MediaField, stored: dict[UUID, FileRow], made: dict[tuple[UUID, str], FileRow]) -> Input:
    reference = one.reference
    if file_id := file_of(reference):
        return _with_file(one, stored.get(file_id), f"/v1/files/{file_id}/content", None)
    if output := output_of(reference):
        job_id, name = output
        return _with_file(one, made.get(output), f"/v1/jobs/{job_id}/outputs/{name}", str(job_id))
    if reference.startswith("data:"):
        return Input(one.name, reference[:_LONGEST], "bytes within the request")
    return Input(one.name, reference[:_LONGEST], reference.rpartition("/")[2][:_LONGEST] or reference[:_LONGEST])


def _with_file(one: MediaField, file: FileRow | None, url: str, job: str | None) -> Input:
    if file is None:
        label = "not published yet, or deleted" if job else "deleted"
        return Input(one.name, one.reference, label, job=job)
    return Input(
        name=one.name,
        reference=one.reference,
        label=file.name,
        url=url,
        job=job,
        media_type=file.media_type,
        size=file.size,
        facts=file.facts,
    )
