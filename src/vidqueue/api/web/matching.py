"""Cancel, retry or delete all jobs that match the filters of the list, on all of its pages.

The jobs are walked by keyset, a few hundred at a time, for some seconds; where that is not enough, the notice says so,
and the form is sent again. Jobs that were submitted after the page was made are not touched.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.job_list import find_jobs
from vidqueue.api.web import forms, words
from vidqueue.api.web.forms import Notice
from vidqueue.api.web.jobs import FILTERS, ListQuery
from vidqueue.errors import VidqueueError
from vidqueue.job import State
from vidqueue.jobs import bulk
from vidqueue.services import Services

AT_ONCE = 200
LONGEST_S = 8.0

Act = Callable[[Services, list[UUID], str | None], Awaitable[int]]

VERBS: dict[str, tuple[str, frozenset[State], Act]] = {
    "cancel": (
        "canceled",
        bulk.CANCELABLE,
        lambda services, ids, owner: bulk.cancel(services.database, ids, owner=owner),
    ),
    "retry": (
        "queued again",
        bulk.RETRYABLE,
        lambda services, ids, owner: bulk.retry(services.database, ids, owner=owner),
    ),
    "delete": (
        "deleted",
        bulk.DELETABLE,
        lambda services, ids, owner: bulk.delete(services.database, services.storage, ids, owner=owner),
    ),
}


async def act(request: Request) -> Response:
    """Do it to as many jobs as the time allows, newest first."""
    form = await forms.read(request)
    verb = str(form.get("verb", ""))
    if verb not in VERBS:
        raise VidqueueError("not_found", f"There is no verb {verb[:40]!r}.", hint=f"Use {', '.join(VERBS)}.")
    done, states, do = VERBS[verb]
    query = _query(form, states)
    count, finished = await _walk(request, query, do) if query else (0, True)
    told = f"{words.plural(count, 'job')} {done}."
    if not finished:
        told += " There are more; do it again for the rest."
    elif not count:
        told = f"None of the jobs that match could be {done}."
    return forms.answer(request, form, Notice("done" if count else "failed", told))


async def _walk(request: Request, query: ListQuery, do: Act) -> tuple[int, bool]:
    services, scope = services_of(request), scope_of(request)
    ends_at, count = time.monotonic() + LONGEST_S, 0
    while True:
        found, cursor = await find_jobs(services.database, query, owner=scope)
        if found:
            count += await do(services, [job.id for job in found], scope)
        if cursor is None:
            return count, True
        if time.monotonic() > ends_at:
            return count, False
        query = query.model_copy(update={"cursor": cursor})


def _query(form: FormData, states: frozenset[State]) -> ListQuery | None:
    """The jobs that match and are in a state for it; None if no state is left."""
    given = {name: form.getlist(name) if name == "state" else form.get(name, "") for name in FILTERS}
    try:
        query = ListQuery.model_validate({**given, "limit": AT_ONCE})
    except ValidationError as error:
        raise VidqueueError("invalid_request", f"The filters cannot be read: {error.errors()[0]['msg']}.") from None
    wanted = sorted(states & set(query.state or states))
    return query.model_copy(update={"state": wanted}) if wanted else None
