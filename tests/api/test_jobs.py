"""Jobs over HTTP, from submit to delete."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest

from tests.factory import Queue, eventually
from vidqueue.api.v1.job_json import job_json, job_view
from vidqueue.db.tables import attempts, jobs
from vidqueue.job import AttemptRef, Failed, Failure, Outcome, OutputDraft, Succeeded
from vidqueue.jobs import keys
from vidqueue.jobs.finish import finish
from vidqueue.principal import Role
from vidqueue.services import Services

DESIGNED = {
    "id",
    "processor",
    "state",
    "progress",
    "stage",
    "message",
    "title",
    "tags",
    "priority",
    "owner",
    "input",
    "outputs",
    "error",
    "attempt",
    "max_attempts",
    "lane",
    "position",
    "position_is_bound",
    "wait_reason",
    "eta_s",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "urls",
}


async def submit(client: httpx2.AsyncClient, **more: Any) -> dict[str, Any]:
    """Submit a job of the zoo and return it."""
    answer = await client.post("/v1/jobs", json={"processor": "zoo", **more})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def run(queue: Queue, services: Services, outcome: Outcome) -> AttemptRef:
    """Dispatch the next job to a lane, and end it with `outcome`."""
    ref = await queue.dispatch(await queue.lane(f"lane{uuid4().hex[:6]}"))
    assert ref is not None
    await queue.begin(ref)
    await end(services, ref, outcome)
    return ref


async def end(services: Services, ref: AttemptRef, outcome: Outcome) -> None:
    """End an attempt as the lane would, with a stored file for each output."""
    workspace = services.settings.data_dir / "work"
    if isinstance(outcome, Succeeded):
        for draft in outcome.outputs:
            draft.path.write_bytes(draft.name.encode() * 1000)
    await finish(services.database, services.storage, ref, outcome, workspace=workspace, processor="zoo")


def success(services: Services) -> Succeeded:
    """An outcome with one output named `text`."""
    return Succeeded((OutputDraft("text", services.settings.data_dir / "work" / f"{uuid4()}.txt", "text/plain"),))


REFUSED = Failed(Failure.of("unsupported_format", "The zoo refuses this."))


async def test_a_submitted_job_is_answered_as_designed(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "/v1/jobs",
        json={"processor": "zoo", "input": {"seconds": 1}, "title": "Für Elise", "tags": ["a"], "priority": 7},
    )
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}" == job["urls"]["self"]
    assert job.keys() >= DESIGNED
    told = [job[name] for name in ("state", "title", "tags", "priority", "owner", "input", "progress", "attempt")]
    assert told == ["queued", "Für Elise", ["a"], 7, "local", {"seconds": 1}, 0, 0]
    assert UUID(job["id"]).version == 7
    assert datetime.fromisoformat(job["created_at"]).utcoffset() is not None
    assert (job["position"], job["wait_reason"]) == (1, "no_lane")


async def test_each_address_a_job_names_exists(client: httpx2.AsyncClient) -> None:
    urls = (await submit(client))["urls"]
    for name in ("self", "attempts", "logs"):
        assert (await client.get(urls[name])).status_code == 200, name
    assert (await client.post(urls["cancel"])).status_code == 202
    assert (await client.post(urls["retry"])).status_code == 202


async def test_the_same_key_and_body_give_the_same_job(client: httpx2.AsyncClient) -> None:
    key = {"Idempotency-Key": "k" * 255}
    first = await client.post(
        "/v1/jobs", json={"processor": "zoo", "input": {"seconds": 1, "act": "work"}}, headers=key
    )
    again = await client.post(
        "/v1/jobs", json={"input": {"act": "work", "seconds": 1}, "processor": "zoo"}, headers=key
    )
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


async def test_the_same_key_with_another_body_is_refused(client: httpx2.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    await client.post("/v1/jobs", json={"processor": "zoo"}, headers=key)
    other = await client.post("/v1/jobs", json={"processor": "zoo", "priority": 1}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_a_repeated_submit_is_answered_even_when_its_input_is_gone(
    client: httpx2.AsyncClient, services: Services
) -> None:
    path = services.settings.inputs.roots[0] / "note.mp4"
    path.write_bytes(b"anything")
    request = {"processor": "transcode", "input": {"video": str(path)}}
    first = await client.post("/v1/jobs", json=request, headers={"Idempotency-Key": "once"})
    assert first.status_code == 202, first.text
    path.unlink()
    again = await client.post("/v1/jobs", json=request, headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


async def test_forty_racing_submits_with_one_key_make_one_job(client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(client.post("/v1/jobs", json={"processor": "zoo"}, headers={"Idempotency-Key": "race"}) for _ in range(40))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


async def test_prefer_wait_answers_200_when_the_job_ends(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    asking = asyncio.create_task(
        client.post("/v1/jobs", json={"processor": "zoo"}, headers={"Prefer": "respond-async, wait=30"})
    )
    await eventually(lambda: queue.sql("SELECT id FROM vidqueue.jobs"))
    await run(queue, services, success(services))
    answer = await asking
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"


async def test_prefer_wait_answers_202_when_the_time_is_over(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"processor": "zoo"}, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=1"


async def test_a_wait_is_bounded_and_a_senseless_one_is_passed_over(
    client: httpx2.AsyncClient, services: Services
) -> None:
    api = services.settings.api.model_copy(update={"max_wait_s": 0.2})
    client._transport.app.state.services = Services(  # type: ignore[attr-defined]
        services.settings.model_copy(update={"api": api}),
        services.database,
        services.event_feed,
        services.storage,
        services.inputs,
    )
    bounded = await client.post("/v1/jobs", json={"processor": "zoo"}, headers={"Prefer": "wait=3600"})
    senseless = await client.post("/v1/jobs", json={"processor": "zoo"}, headers={"Prefer": "wait=soon"})
    assert bounded.headers["preference-applied"] == "wait=0.2"
    assert "preference-applied" not in senseless.headers


async def test_eight_hundred_submits_are_accepted_and_paged_through_completely(client: httpx2.AsyncClient) -> None:
    made = [(await submit(client, tags=["many"]))["id"] for _ in range(800)]
    seen: list[str] = []
    address: str | None = "/v1/jobs?tag=many&limit=90"
    while address:
        answer = await client.get(address)
        page = answer.json()
        seen += [job["id"] for job in page["jobs"]]
        address = page["next"]
        assert answer.headers.get("link") == (f'<{address}>; rel="next"' if address else None)
    assert seen == made[::-1]


async def test_a_page_that_is_just_full_is_the_last(client: httpx2.AsyncClient) -> None:
    for _ in range(4):
        await submit(client)
    assert (await client.get("/v1/jobs?limit=4")).json()["next"] is None
    assert (await client.get("/v1/jobs?limit=3")).json()["next"] is not None


async def test_jobs_are_filtered(client: httpx2.AsyncClient) -> None:
    first, second = await submit(client, tags=["x"]), await submit(client)
    await client.post(second["urls"]["cancel"])
    expected = {
        "state=queued": [first],
        "state=canceled": [second],
        "state=queued,canceled": [second, first],
        "state=queued&state=canceled": [second, first],
        "tag=x": [first],
        "processor=zoo": [second, first],
        "processor=other": [],
        "owner=local": [second, first],
        "owner=someone": [],
        f"created_after={second['created_at']}": [second],
        f"created_before={second['created_at']}": [first],
        "created_after=2000-01-01T00:00:00+02:00": [second, first],
    }
    for query, wanted in expected.items():
        found = (await client.get(f"/v1/jobs?{query}")).json()["jobs"]
        assert [job["id"] for job in found] == [job["id"] for job in wanted], query


async def test_an_unchanged_job_is_answered_with_304(client: httpx2.AsyncClient, queue: Queue) -> None:
    job = await submit(client)
    etag = (await client.get(job["urls"]["self"])).headers["etag"]
    same = await client.get(job["urls"]["self"], headers={"If-None-Match": f'"other", W/{etag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    # A lane comes: the row is as before, but what the job waits for is not.
    await queue.lane()
    moved = await client.get(job["urls"]["self"], headers={"If-None-Match": etag})
    assert (moved.status_code, moved.json()["wait_reason"]) == (200, "busy")


async def test_a_change_is_made_and_told(client: httpx2.AsyncClient) -> None:
    job = await submit(client, title="old", tags=["a"])
    changed = await client.patch(job["urls"]["self"], json={"priority": 5, "title": None})
    assert changed.status_code == 200
    assert (changed.json()["priority"], changed.json()["title"], changed.json()["tags"]) == (5, None, ["a"])
    assert (await client.patch(job["urls"]["self"], json={"tags": []})).json()["tags"] == []


async def test_a_change_based_on_an_old_reading_is_refused(client: httpx2.AsyncClient) -> None:
    job = await submit(client)
    url = job["urls"]["self"]
    etag = (await client.get(url)).headers["etag"]
    good = await client.patch(url, json={"priority": 1}, headers={"If-Match": etag})
    late = await client.patch(url, json={"priority": 2}, headers={"If-Match": etag})
    assert (good.status_code, late.status_code, late.json()["code"]) == (200, 412, "precondition_failed")
    any_version = await client.patch(url, json={"priority": 3}, headers={"If-Match": "*"})
    assert (any_version.status_code, any_version.json()["priority"]) == (200, 3)


async def test_cancel_is_idempotent_until_the_job_has_ended_otherwise(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    waiting = await submit(client)
    for _ in range(2):
        answer = await client.post(waiting["urls"]["cancel"])
        assert (answer.status_code, answer.json()["state"]) == (202, "canceled")
    done = await submit(client)
    await run(queue, services, success(services))
    refused = await client.post(done["urls"]["cancel"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


async def test_cancel_of_a_running_job_asks_it_to_stop(client: httpx2.AsyncClient, queue: Queue) -> None:
    job = await submit(client)
    await queue.dispatch(await queue.lane())
    for _ in range(2):
        answer = await client.post(job["urls"]["cancel"])
        assert (answer.status_code, answer.json()["state"]) == (202, "running")
        assert answer.json()["cancel_requested_at"] is not None


async def test_a_failed_job_is_retried_and_a_succeeded_one_is_not(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    job = await submit(client)
    await run(queue, services, REFUSED)
    failed = (await client.get(job["urls"]["self"])).json()
    assert failed["state"] == "failed"
    assert failed["error"]["code"] == "unsupported_format"
    assert failed["error"]["message"] == "The zoo refuses this."
    assert failed["error"]["hint"]
    for _ in range(2):
        again = await client.post(job["urls"]["retry"])
        assert (again.status_code, again.json()["state"], again.json()["error"]) == (202, "queued", None)
    await run(queue, services, success(services))
    refused = await client.post(job["urls"]["retry"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


async def test_a_finished_job_is_deleted_with_its_bytes(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    job = await submit(client)
    refused = await client.delete(job["urls"]["self"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    await run(queue, services, success(services))
    assert len(list(services.storage.stored_ids())) == 1
    assert (await client.delete(job["urls"]["self"])).status_code == 204
    assert list(services.storage.stored_ids()) == []
    assert (await client.get(job["urls"]["self"])).status_code == 404


async def test_attempts_and_their_logs_are_told(client: httpx2.AsyncClient, queue: Queue, services: Services) -> None:
    from vidqueue.progress import LogLine

    job = await submit(client)
    ref = await run(queue, services, Failed(Failure.of("ffmpeg_failed", "It broke.", detail="last words")))
    async with services.database.transaction() as connection:
        await attempts.report(connection, ref, lines=[LogLine(f"line {n}", "warning") for n in range(5)])

    (attempt,) = (await client.get(job["urls"]["attempts"])).json()["attempts"]
    assert (attempt["number"], attempt["outcome"]) == (1, "failed")
    assert (attempt["error"]["code"], attempt["error"]["detail"]) == ("ffmpeg_failed", "last words")

    page = (await client.get(attempt["logs"], params={"limit": 3})).json()
    rest = (await client.get(page["next"])).json()
    assert [line["text"] for line in page["lines"] + rest["lines"]] == [f"line {n}" for n in range(5)]
    assert rest["next"] is None

    text = await client.get(job["urls"]["logs"], headers={"Accept": "text/plain"})
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert [line.split(None, 2)[1:] for line in text.text.splitlines()] == [["warning", f"line {n}"] for n in range(5)]


async def test_a_log_of_no_attempt_is_empty_or_not_found(client: httpx2.AsyncClient) -> None:
    job = await submit(client)
    assert (await client.get(job["urls"]["logs"])).json() == {"attempt": 0, "lines": [], "next": None}
    assert (await client.get(job["urls"]["logs"], params={"attempt": 1})).status_code == 404


@pytest.mark.parametrize(
    ("marker", "said"),
    [("odd_check", "TypeError: the zoo cannot count animals"), ("odd_media", "KeyError: 'a cage'")],
)
async def test_a_fault_in_the_checks_of_a_processor_is_told_as_its_own(
    client: httpx2.AsyncClient, marker: str, said: str
) -> None:
    job = {"processor": "zoo", "input": {"marker": marker}}
    answer = await client.post("/v1/jobs", json=job)
    assert (answer.status_code, answer.json()["code"]) == (422, "processor_fault")
    assert answer.json()["detail"] == f"The processor zoo could not check this job: {said}"
    batch = await client.post("/v1/batches", json={"jobs": [{"processor": "zoo"}, job]})
    assert (batch.status_code, batch.json()["code"]) == (422, "processor_fault")
    assert batch.json()["errors"][0]["pointer"].startswith("/jobs/1")
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize(
    "call", ["GET", "PATCH", "DELETE", "cancel", "retry", "events", "attempts", "logs", "outputs/text"]
)
async def test_another_owners_job_is_not_found(
    client: httpx2.AsyncClient, queue: Queue, services: Services, call: str
) -> None:
    theirs = await queue.submit(owner="someone")
    made = await keys.create(services.database, owner="ann", role=Role.SUBMIT)
    method = call if call.isupper() else "POST" if call in ("cancel", "retry") else "GET"
    path = f"/v1/jobs/{theirs}" + ("" if call.isupper() else f"/{call}")
    mine = {"X-API-Key": made.secret}
    answer = await client.request(method, path, json={} if method == "PATCH" else None, headers=mine)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_without_keys_the_jobs_of_every_owner_are_seen_and_changed(
    client: httpx2.AsyncClient, queue: Queue
) -> None:
    theirs = await queue.submit(owner="someone")
    assert [job["owner"] for job in (await client.get("/v1/jobs")).json()["jobs"]] == ["someone"]
    assert (await client.post(f"/v1/jobs/{theirs}/cancel")).json()["state"] == "canceled"


async def test_submit_and_read_send_few_statements_and_no_begin_or_commit(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, execute = [], psycopg.AsyncCursor.execute

    async def counting(self: Any, query: Any, *values: Any, **how: Any) -> Any:
        # The event feed reads on its own connection meanwhile.
        if "FROM vidqueue.events" not in str(query):
            sent.append(str(query))
        return await execute(self, query, *values, **how)

    def none(*_: Any) -> None:
        raise AssertionError("a transaction of several statements was opened")

    job = await submit(client)
    # What waiting jobs are estimated by is read every few seconds, whoever asks.
    assert (await client.get(job["urls"]["self"])).status_code == 200
    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counting)
    monkeypatch.setattr(psycopg.AsyncConnection, "transaction", none)
    assert (await client.get(job["urls"]["self"])).status_code == 200
    read, sent[:] = [*sent], []
    await submit(client)
    assert (len(read), len(sent)) == (1, 1)


async def test_the_json_of_a_job_is_that_of_its_model(client: httpx2.AsyncClient, services: Services) -> None:
    first = await submit(client, title="ä", tags=["a"], keep_s=5)
    second = await submit(client, after=[first["id"]])
    async with services.database.statement() as connection:
        await connection.execute(
            """UPDATE vidqueue.jobs SET state = 'failed', error_code = 'internal_error', error_message = 'broke',
               fps = 12.5, finished_at = now(), progress = 0.25,
               input = '{"big": 123456789012345678901234567890, "small": 1.5e-9}'
               WHERE id = %s""",
            [first["id"]],
        )
        found = await jobs.get_many(connection, [UUID(first["id"]), UUID(second["id"])])
    assert len(found) == 2
    for row in found.values():
        assert job_json(row).decode() == job_view(row).model_dump_json()


async def test_jobs_that_are_read_together_are_those_that_were_asked_for(client: httpx2.AsyncClient) -> None:
    made = [await submit(client, title=str(number)) for number in range(5)]
    missing = uuid4()
    answers = await asyncio.gather(
        *(client.get(job["urls"]["self"]) for job in [*made, *made]), client.get(f"/v1/jobs/{missing}")
    )
    assert [answer.status_code for answer in answers] == [*[200] * 10, 404]
    assert [answer.json()["id"] for answer in answers[:10]] == [job["id"] for job in [*made, *made]]
    assert [answer.json()["position"] for answer in answers[:5]] == [1, 2, 3, 4, 5]
    alone = [(await client.get(job["urls"]["self"])) for job in made]
    assert [one.headers["etag"] for one in alone] == [one.headers["etag"] for one in answers[:5]]
