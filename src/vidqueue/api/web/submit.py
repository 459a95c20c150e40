"""The page that submits jobs: a processor's form, with files, URLs or paths as its media."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vidqueue.api.http.context import owner_of, scope_of, services_of
from vidqueue.api.http.multipart import FormParts, Part
from vidqueue.api.http.requests import media_type_of
from vidqueue.api.v1.files import body_of, receive_part
from vidqueue.api.web import forms, render, schema_form
from vidqueue.api.web.schema_form import Field
from vidqueue.errors import VidqueueError, fault_text
from vidqueue.jobs import batches, control
from vidqueue.jobs.estimates import Estimates
from vidqueue.jobs.members import BatchRequest
from vidqueue.jobs.outlook import Outlook, look, refuse_what_no_lane_takes
from vidqueue.jobs.submit import JobRequest, checked_with_media, submit
from vidqueue.processors import registry
from vidqueue.processors.base import Processor

# What the fields of a form may hold together, in bytes; files are not among them.
FIELDS_LIMIT = 256 * 1024
FILES_LIMIT = 100
# Jobs of a form whose outlook is shown.
OUTLOOKS = 10
USUAL = "transcode"


class SubmitQuery(BaseModel):
    """Which form is shown."""

    model_config = ConfigDict(extra="forbid")

    processor: str | None = None
    like: UUID | None = None


@dataclass(slots=True)
class Filled:
    """What a form has sent: its texts, and the media of the field that may have many."""

    texts: dict[str, str] = field(default_factory=dict)
    sources: list[tuple[str, str]] = field(default_factory=list)
    size: int = 0
    like: bool = False


async def show(request: Request, query: SubmitQuery) -> Response:
    """Show the form of a processor."""
    catalogue = registry.catalogue()
    name = query.processor or (USUAL if USUAL in catalogue else next(iter(catalogue), ""))
    processor = _processor(name)
    return _page(request, processor, await _like(request, processor, query.like) if query.like else Filled())


async def _like(request: Request, processor: Processor, job_id: UUID) -> Filled:
    """Return the form filled with the parameters of an earlier job."""
    job = await control.read(services_of(request).database, job_id, owner=scope_of(request))
    if job.processor != processor.name:
        raise VidqueueError("not_found", f"Job {job_id} is of the processor {job.processor!r}.")
    fields = schema_form.fields_of(processor)
    source = schema_form.source_of(fields)
    texts = schema_form.texts(fields, job.input)
    words = {"title": job.title or "", "tags": " ".join(job.tags), "labels": " ".join(job.labels)}
    filled = Filled(texts=texts | words, like=True)
    if job.priority:
        filled.texts["priority"] = str(job.priority)
    if source and (reference := texts.get(source.key)):
        filled.sources.append((reference, ""))
    return filled


async def send(request: Request, name: str) -> Response:
    """Submit what the form says: one job, or one for each file."""
    processor = _processor(name)
    fields = schema_form.fields_of(processor)
    filled = await _read(request, schema_form.source_of(fields))
    try:
        if filled.texts.pop("check", ""):
            return _page(request, processor, filled, outlooks=await _outlooks(request, processor, fields, filled))
        return RedirectResponse(await _submit(request, processor, fields, filled), status_code=303)
    except VidqueueError as error:
        if error.status >= 500:
            raise
        return _page(request, processor, filled, error)


async def _submit(request: Request, processor: Processor, fields: list[Field], filled: Filled) -> str:
    """Submit the jobs, and return the address of the page that shows them."""
    services, owner = services_of(request), owner_of(request)
    asked = _requests(processor, fields, filled)
    if len(asked) == 1:
        made = await submit(asked[0], database=services.database, inputs=services.inputs, owner=owner, examine=True)
        return f"/jobs/{made.job.id}"
    members = [one.model_dump(mode="json", exclude_none=True) for one in asked]
    batch = BatchRequest.model_validate({"jobs": members, "title": filled.texts.get("title") or None})
    done = await batches.submit(batch, database=services.database, inputs=services.inputs, owner=owner)
    return f"/jobs?batch={done.batch.id}"


async def _outlooks(request: Request, processor: Processor, fields: list[Field], filled: Filled) -> list[Outlook]:
    """Check what the form says as a submit would, and return what the jobs would meet; nothing is queued."""
    services, owner = services_of(request), owner_of(request)
    estimates: Estimates = request.app.state.estimates
    found = []
    for one in _requests(processor, fields, filled)[:OUTLOOKS]:
        new, media = await checked_with_media(one, inputs=services.inputs, owner=owner, examine=True)
        await refuse_what_no_lane_takes(services.database, [new])
        node = services.storage.node
        found.append(await look(new, media, database=services.database, estimates=estimates, node=node))
    return found


def _requests(processor: Processor, fields: list[Field], filled: Filled) -> list[JobRequest]:
    """Return what the form asks for: a job for each source."""
    source = schema_form.source_of(fields)
    asked = []
    for reference, name in filled.sources or [("", "")]:
        texts = filled.texts | ({source.key: reference} if source and reference else {})
        asked.append(_request(processor, schema_form.parameters(fields, texts), texts, name))
    return asked


def _request(processor: Processor, params: dict[str, Any], texts: dict[str, str], name: str) -> JobRequest:
    given: dict[str, Any] = {
        "processor": processor.name,
        "input": params,
        "title": (texts.get("title", "").strip() or name)[:500] or None,
        "tags": _words(texts.get("tags", "")),
        "labels": _words(texts.get("labels", "")),
    }
    if priority := texts.get("priority", "").strip():
        given["priority"] = priority
    try:
        return JobRequest.model_validate(given)
    except ValidationError as error:
        faults = [
            {"pointer": "/" + "/".join(map(str, one["loc"])), "detail": fault_text(one)}
            for one in error.errors(include_url=False)
        ]
        raise VidqueueError("invalid_request", "The form cannot be accepted.", errors=faults) from None


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


async def _read(request: Request, source: Field | None) -> Filled:
    """Read the form; its files are stored as they arrive, once its token has come.

    Raises:
        VidqueueError: the form is forged, malformed or too large; or a file cannot be stored.
    """
    if media_type_of(request) != "multipart/form-data":
        raise VidqueueError("unsupported_media_type", "A form is expected here.", hint="Use the API at /v1 instead.")
    filled, has_token = Filled(), False
    async with body_of(request) as pieces:
        async for part in FormParts(request.headers["content-type"], pieces):
            if part.filename is None:
                text = await _text(part, filled)
                if part.name == "token":
                    forms.require_token(request, text)
                    has_token = True
                elif source and part.name == source.key:
                    filled.sources += [(line.strip(), "") for line in text.splitlines() if line.strip()]
                elif len(filled.sources) and part.name == "name":
                    # The name of the file that a script has uploaded before.
                    filled.sources[-1] = (filled.sources[-1][0], text)
                else:
                    filled.texts[part.name] = text
            elif part.filename and not has_token:
                forms.require_token(request, "")
            elif part.filename:
                await _store(request, part, source, filled)
    if not has_token:
        forms.require_token(request, "")
    return filled


async def _store(request: Request, part: Part, source: Field | None, filled: Filled) -> None:
    if len(filled.sources) >= FILES_LIMIT:
        raise VidqueueError("invalid_request", f"At most {FILES_LIMIT} files can be sent at once.")
    view = await receive_part(request, part)
    key = schema_form.PREFIX + part.name.removeprefix("f.")
    if source and key == source.key:
        filled.sources.append((view.reference, view.name))
    else:
        filled.texts[key] = view.reference


async def _text(part: Part, filled: Filled) -> str:
    data = bytearray()
    async for piece in part.data:
        data += piece
        filled.size += len(piece)
        if filled.size > FIELDS_LIMIT:
            raise VidqueueError("payload_too_large", f"The fields of the form have more than {FIELDS_LIMIT} bytes.")
    if b"\0" in data:
        raise VidqueueError("invalid_request", "The form holds a NUL character.")
    return data.decode("utf-8", "replace")


def _page(
    request: Request,
    processor: Processor,
    filled: Filled,
    error: VidqueueError | None = None,
    outlooks: Sequence[Outlook] = (),
) -> Response:
    fields = schema_form.fields_of(processor)
    source = schema_form.source_of(fields)
    faults: dict[str, str] = {}
    for fault in error.errors if error else ():
        # Of a batch, the pointer begins with the job.
        place = fault["pointer"].split("/input/")[-1].strip("/").partition("/")[0]
        faults.setdefault(place, fault["detail"])
    return render.page(
        request,
        "submit.html",
        status=error.status if error else 200,
        processor=processor,
        about=inspect.getdoc(type(processor)) or "",
        processors=list(registry.catalogue()),
        first=[one for one in fields if one.required or one.kind == "media"],
        others=[one for one in fields if not one.required and one.kind != "media"],
        source=source,
        texts=filled.texts,
        sources=filled.sources,
        # A form that was filled says of each switch whether it is on.
        sent=bool(error) or filled.like or bool(outlooks),
        outlooks=outlooks,
        others_checked=len(filled.sources) - len(outlooks) if outlooks else 0,
        error=error,
        faults=faults,
    )


def _processor(name: str) -> Processor:
    found = registry.catalogue().get(name)
    if found is None:
        raise VidqueueError("not_found", f"There is no processor {name[:64]!r}.", hint="Choose one on /submit.")
    return found
