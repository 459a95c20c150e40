"""Scripts and search terms of the MoneyPrinterTurbo API, written by the service that `compose` uses (`script_url`)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat.moneyprinter_views import Envelope
from vidqueue.api.http.context import closing_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.errors import CanceledError, VidqueueError, WaitingError
from vidqueue.ops.threads import ThreadPool
from vidqueue.processors import registry
from vidqueue.processors.parts.script_writer import ScriptWriter
from vidqueue.sanitize import Redactor

Written = TypeVar("Written")

_threads = ThreadPool("MoneyPrinterTurbo scripts", size=4)


class ScriptRequest(BaseModel):
    """The request for a script; unknown fields are ignored."""

    video_subject: str = Field(min_length=1, max_length=500, pattern=r"\S")
    video_language: str | None = Field("", max_length=64, description="That of the subject if not given.")
    paragraph_number: int | None = Field(1, ge=1, le=10)


class TermsRequest(BaseModel):
    """The request for search terms; unknown fields are ignored."""

    video_subject: str = Field("", max_length=500)
    video_script: str = Field("", max_length=20_000)
    amount: int | None = Field(5, ge=1, le=50)


class Script(BaseModel):
    """A script."""

    video_script: str


class Terms(BaseModel):
    """Terms to search stock videos by."""

    video_terms: list[str]


class ScriptAnswer(Envelope):
    """A script was written."""

    data: Script


class TermsAnswer(Envelope):
    """Terms were found."""

    data: Terms


async def write_script(request: Request, body: ScriptRequest) -> Response:
    """Write a script about a subject."""
    language = (body.video_language or "").strip()

    def write(writer: ScriptWriter) -> str:
        return writer.script(body.video_subject.strip(), language=language, paragraphs=body.paragraph_number or 1)

    return json_answer(ScriptAnswer(data=Script(video_script=await _written(request, write))))


async def write_terms(request: Request, body: TermsRequest) -> Response:
    """Name terms by which stock videos for a script can be searched."""
    if not (body.video_subject.strip() or body.video_script.strip()):
        raise VidqueueError("invalid_params", "Give video_subject or video_script.")

    def write(writer: ScriptWriter) -> list[str]:
        return writer.terms(body.video_subject.strip(), body.video_script.strip(), body.amount or 5)

    return json_answer(TermsAnswer(data=Terms(video_terms=await _written(request, write))))


async def _written(request: Request, write: Callable[[ScriptWriter], Written]) -> Written:
    """What the service writes, until the server closes.

    Raises:
        VidqueueError: `processor_unavailable`, `peer_unavailable`, `model_failed`, `not_ready`.
    """
    config = registry.find("compose").config
    if not config.script_url:
        raise VidqueueError(
            "processor_unavailable",
            "This daemon has no service that writes scripts (compose.script_url).",
            hint="Send video_script with the film, or let the operator set compose.script_url.",
        )
    redactor, ended = Redactor(), threading.Event()

    def check() -> None:
        if ended.is_set():
            raise CanceledError

    writing = asyncio.create_task(_threads.run(write, ScriptWriter(config, check, redactor.add)))
    closing = asyncio.create_task(closing_of(request).wait())
    try:
        await asyncio.wait({writing, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            raise VidqueueError("not_ready", "The daemon is shutting down.")
        return writing.result()
    except WaitingError as later:
        message = redactor.text(later.message)
        raise VidqueueError("peer_unavailable", message, retry_after_s=int(later.retry_after_s)) from None
    except VidqueueError as error:
        raise VidqueueError(error.code, redactor.text(error.message), hint=error.hint) from None
    finally:
        ended.set()
        writing.cancel()
        closing.cancel()
