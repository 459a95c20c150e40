"""What the forms of the pages do: each calls the same verb as the API, and returns to its page with a notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.pauses import LONGEST_S
from vidqueue.api.web import forms, words
from vidqueue.api.web.forms import Notice
from vidqueue.db.tables.pauses import Terms
from vidqueue.errors import VidqueueError
from vidqueue.jobs import control, pauses, webhooks
from vidqueue.services import Services

Verb = Callable[[Services, UUID, str | None], Awaitable[object]]
# A page has at most 200 jobs.
MOST_SELECTED = 500


async def _delete(services: Services, job_id: UUID, owner: str | None) -> None:
    await control.delete(services.database, services.storage, job_id, owner=owner)


VERBS: dict[str, tuple[str, Verb]] = {
    "cancel": ("canceled", lambda services, job_id, owner: control.cancel(services.database, job_id, owner=owner)),
    "retry": ("queued again", lambda services, job_id, owner: control.retry(services.database, job_id, owner=owner)),
    "run-next": (
        "put before all others",
        lambda services, job_id, owner: control.run_next(services.database, job_id, owner=owner),
    ),
    "delete": ("deleted", _delete),
}


async def act_on_job(request: Request, job_id: UUID, verb: str) -> Response:
    """Cancel, retry, delete one job, or put it before all others."""
    form = await forms.read(request)
    done, act = _verb(verb)
    try:
        await act(services_of(request), job_id, scope_of(request))
    except VidqueueError as error:
        return forms.answer(request, form, _refused(error))
    gone = verb == "delete" and str(form.get("back", "")).startswith(f"/jobs/{job_id}")
    return forms.answer(request, form, Notice("done", f"The job was {done}."), to="/jobs" if gone else None)


async def suspend(request: Request, job_id: UUID) -> Response:
    """Stop the processes of a running job for a while."""
    return await _change(request, job_id, control.suspend, "The job is suspended. It keeps its lane and its memory.")


async def resume(request: Request, job_id: UUID) -> Response:
    """Let a suspended job go on."""
    return await _change(request, job_id, control.resume, "The job was resumed.")


async def _change(request: Request, job_id: UUID, change: Callable[..., Awaitable[object]], told: str) -> Response:
    form = await forms.read(request)
    try:
        await change(services_of(request).database, job_id, owner=scope_of(request))
    except VidqueueError as error:
        return forms.answer(request, form, _refused(error))
    return forms.answer(request, form, Notice("done", told))


async def act_on_jobs(request: Request) -> Response:
    """Cancel, retry or delete the jobs that are selected in the list."""
    form = await forms.read(request)
    done, act = _verb(str(form.get("verb", "")))
    ids = _ids(form)
    if not ids:
        return forms.answer(request, form, Notice("failed", "No job is selected."))
    refused: list[VidqueueError] = []
    for job_id in ids:
        try:
            await act(services_of(request), job_id, scope_of(request))
        except VidqueueError as error:
            refused.append(error)
    told = f"{words.plural(len(ids) - len(refused), 'job')} {done}."
    if refused:
        told += f" {words.plural(len(refused), 'job')} left as they were: {refused[0].message}"
    return forms.answer(request, form, Notice("failed" if len(refused) == len(ids) else "done", told))


async def pause(request: Request, verb: str) -> Response:
    """Pause or resume everything, or one processor."""
    _one_of(verb, "pause", "resume")
    form = await forms.read(request)
    processor = str(form.get("processor", "")) or None
    database = services_of(request).database
    if verb == "resume":
        await pauses.resume(database, processor)
        return forms.answer(request, form, Notice("done", "Resumed: jobs start again."))
    await pauses.pause(database, processor, _terms(form))
    return forms.answer(request, form, Notice("done", "Paused: no more jobs start. Running jobs continue."))


async def act_on_lane(request: Request, name: str, verb: str) -> Response:
    """Pause, drain or resume one lane, or free what its idle models hold."""
    _one_of(verb, "pause", "drain", "resume", "free")
    form = await forms.read(request)
    host = str(form.get("host", "")) or None
    database = services_of(request).database
    if verb == "free":
        await pauses.free_lane(database, name, host)
        told = "as soon as its job has ended. It keeps taking jobs"
        return forms.answer(request, form, Notice("done", f"Lane {name} frees the memory of its models {told}."))
    if verb == "resume":
        await pauses.resume_lane(database, name, host)
        return forms.answer(request, form, Notice("done", f"Lane {name} takes jobs again."))
    await pauses.pause_lane(database, name, host, _terms(form), drain=verb == "drain")
    told = "and is stopped after its job, which frees its GPU" if verb == "drain" else "after the one that it runs"
    return forms.answer(request, form, Notice("done", f"Lane {name} takes no more jobs {told}."))


async def resend(request: Request, delivery_id: UUID) -> Response:
    """Send a delivery of a webhook once more."""
    form = await forms.read(request)
    await webhooks.resend(services_of(request).database, delivery_id, owner=scope_of(request))
    return forms.answer(request, form, Notice("done", "The delivery is sent again."))


def _one_of(name: str, *verbs: str) -> None:
    if name not in verbs:
        raise VidqueueError("not_found", f"There is no verb {name[:40]!r}.", hint=f"Use {', '.join(verbs)}.")


def _verb(name: str) -> tuple[str, Verb]:
    _one_of(name, *VERBS)
    return VERBS[name]


def _ids(form: FormData) -> list[UUID]:
    given = [str(value) for value in form.getlist("job")]
    if len(given) > MOST_SELECTED:
        raise VidqueueError("invalid_request", f"At most {MOST_SELECTED} jobs can be selected at once.")
    try:
        return list(dict.fromkeys(map(UUID, given)))
    except ValueError:
        raise VidqueueError("invalid_request", "The form contains an invalid job id.") from None


def _terms(form: FormData) -> Terms:
    minutes = str(form.get("minutes", "")).strip()
    reason = str(form.get("reason", "")).strip()[:500] or None
    if not minutes:
        return Terms(None, reason)
    try:
        seconds = float(minutes) * words.MINUTE
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_S:
        raise VidqueueError("invalid_request", "A pause lasts some minutes, at most a year.", hint="Give a number.")
    return Terms(seconds, reason)


def _refused(error: VidqueueError) -> Notice:
    return Notice("failed", f"{error.message} {error.hint}")
