"""Batches over HTTP: all of the jobs or none, references between them, and acts on all of them at once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.api.test_jobs import REFUSED, run, submit, success
from tests.api.test_refusals import problem
from tests.factory import Queue
from vidqueue.job import Canceled
from vidqueue.services import Services

BAD = {"processor": "zoo", "input": {"act": "fly", "seconds": "x"}}


def job(**more: Any) -> dict[str, Any]:
    """A member."""
    return {"processor": "zoo", **more}


def clip(reference: str, **more: Any) -> dict[str, Any]:
    """A member that reads media."""
    return {"processor": "transcode", "input": {"video": reference}, **more}


async def send(client: httpx2.AsyncClient, *jobs: dict[str, Any], key: str | None = None, **more: Any) -> Any:
    """Submit a batch and return it."""
    headers = {"Idempotency-Key": key} if key else {}
    answer = await client.post("/v1/batches", json={"jobs": list(jobs), **more}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def read(client: httpx2.AsyncClient, batch: dict[str, Any]) -> Any:
    """Read a batch."""
    answer = await client.get(batch["urls"]["self"])
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx2.AsyncClient, queue: Queue, *jobs: Any, code: str, **more: Any) -> dict[str, str]:
    """Submit a batch that is refused whole; what is wrong where."""
    answer = await client.post("/v1/batches", json={"jobs": list(jobs), **more})
    body = problem(answer, 422, code)
    assert await queue.sql("SELECT id FROM vidqueue.jobs UNION ALL SELECT id FROM vidqueue.batches") == []
    return {fault["pointer"]: fault["detail"] for fault in body["errors"]}


async def test_a_batch_is_queued_in_the_order_of_the_request(client: httpx2.AsyncClient, queue: Queue) -> None:
    sent = [job(title=f"number {n}", priority=n % 3, tags=["a"] * (n % 2), input={"seconds": n}) for n in range(30)]
    answer = await client.post("/v1/batches", json={"title": "Thirty", "jobs": sent})
    batch = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, batch["urls"]["self"])
    assert (batch["size"], batch["title"], batch["state"], batch["progress"]) == (30, "Thirty", "queued", 0)
    assert batch["jobs"] == sorted(batch["jobs"])
    assert {UUID(one).version for one in batch["jobs"]} == {7}
    listed = (await client.get(batch["urls"]["jobs"])).json()["jobs"]
    assert [one["id"] for one in listed] == batch["jobs"][::-1]
    kept = [{name: one[name] for name in ("title", "priority", "tags", "input")} for one in listed[::-1]]
    assert kept == [{"priority": 0, "tags": [], **{k: v for k, v in one.items() if k != "processor"}} for one in sent]
    assert {one["batch"] for one in listed} == {batch["id"]}
    assert await read(client, batch) == {name: value for name, value in batch.items() if name != "jobs"}


async def test_a_batch_tells_one_event_for_each_job_and_is_dispatched_in_order(
    client: httpx2.AsyncClient, queue: Queue
) -> None:
    single = await submit(client)
    batch = await send(client, *[job() for _ in range(5)])
    told = await queue.sql("SELECT job_id::text, kind, data FROM vidqueue.events ORDER BY number")
    assert [one["job_id"] for one in told] == [single["id"], *batch["jobs"]]
    assert told[0]["data"] == told[1]["data"]
    given = [await queue.dispatch(await queue.lane(f"cpu{n}")) for n in range(6)]
    assert [str(ref.job_id) for ref in given if ref] == [single["id"], *batch["jobs"]]
    assert await queue.violations() == []


async def test_a_member_gets_what_a_single_job_would_get(client: httpx2.AsyncClient, queue: Queue) -> None:
    await queue.sql("UPDATE vidqueue.processors SET max_attempts = 7, timeout_s = 70, stall_timeout_s = 17")
    more = {"title": "T", "tags": ["x", "y"], "priority": -4, "lane": "cpu3", "timeout_s": 5}
    times = {"run_at": "2031-01-01T00:00:00+02:00", "expires_at": "2032-01-01T00:00:00Z"}
    single = await submit(client, **more, **times)
    batch = await send(client, job(**more, **times))
    member = (await client.get(f"/v1/jobs/{batch['jobs'][0]}")).json()
    own = {"id", "batch", "urls", "created_at", "position"}
    assert {k: v for k, v in member.items() if k not in own} == {k: v for k, v in single.items() if k not in own}
    kept = await queue.sql(
        "SELECT DISTINCT device, vram_mb, max_attempts, timeout_s, stall_timeout_s, wanted_lane, run_at, expires_at"
        " FROM vidqueue.jobs"
    )
    assert len(kept) == 1


async def test_members_refer_to_earlier_ones_by_index_and_by_name(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    batch = await send(
        client,
        job(name="first"),
        clip("vq:batch/0/text", name="Second-1.x"),
        clip("vq:batch/Second-1.x/video"),
        clip("vq:batch/first/text"),
    )
    ids = batch["jobs"]
    inputs = [(await client.get(f"/v1/jobs/{one}")).json()["input"] for one in ids]
    first, second = f"vq:jobs/{ids[0]}/text", f"vq:jobs/{ids[1]}/video"
    assert inputs == [{}, {"video": first}, {"video": second}, {"video": first}]
    needs = await queue.sql("SELECT job_id::text, depends_on::text FROM vidqueue.job_dependencies")
    pairs = {(one["job_id"], one["depends_on"]) for one in needs}
    assert pairs == {(ids[1], ids[0]), (ids[2], ids[1]), (ids[3], ids[0])}
    assert (await client.get(f"/v1/jobs/{ids[1]}")).json()["wait_reason"] == "dependency"
    await run(queue, services, success(services))
    assert (await client.get(f"/v1/jobs/{ids[1]}")).json()["wait_reason"] != "dependency"


@pytest.mark.parametrize(
    "reference",
    ["vq:batch/1/video", "vq:batch/2/video", "vq:batch/later/video", "vq:batch/self/video", "vq:batch/-1/video",
     "vq:batch/9/video", "vq:batch/0", "vq:batch/0/", "vq:batch/0/Video", "vq:batch/0/video\n", "vq:batch/00/video",
     "vq:batch/" + "9" * 5000 + "/video"],
)  # fmt: skip
async def test_only_an_earlier_member_can_be_named_so_there_is_no_cycle(
    client: httpx2.AsyncClient, queue: Queue, reference: str
) -> None:
    members = [job(), clip(reference, name="self"), job(name="later")]
    faults = await refused(client, queue, *members, code="invalid_params")
    assert [*faults] == ["/jobs/1/input/video"]


async def test_every_fault_of_every_member_is_told_and_nothing_queued(client: httpx2.AsyncClient, queue: Queue) -> None:
    members: list[Any] = [
        BAD,
        job(priority=5000, colour="red"),
        job(),
        {"processor": "transkode"},
        clip(f"vq:files/{uuid4()}"),
        clip(f"vq:jobs/{uuid4()}/video"),
        clip("/etc/passwd"),
        clip("ftp://x"),
        job(name="a"),
        job(name="a"),
        "not a job",
        {},
        clip("vq:batch/0/text", quality="best"),
    ]
    faults = await refused(client, queue, *members, code="invalid_params")
    assert {*faults} == {
        "/jobs/0/input/act", "/jobs/0/input/seconds", "/jobs/1/priority", "/jobs/1/colour", "/jobs/3/processor",
        "/jobs/4/input/video", "/jobs/5/input/video", "/jobs/6/input/video", "/jobs/7/input/video", "/jobs/9/name",
        "/jobs/10", "/jobs/11/processor", "/jobs/12/quality",
    }  # fmt: skip


async def test_the_number_of_faults_that_are_told_is_bounded(client: httpx2.AsyncClient, queue: Queue) -> None:
    answer = await client.post("/v1/batches", json={"jobs": [BAD if n % 2 else job() for n in range(1000)]})
    body = problem(answer, 422, "invalid_params")
    assert len(body["errors"]) == 50
    assert "1000 faults" in body["detail"]
    assert body["errors"][-1]["pointer"] == "/jobs/49/input/seconds"
    assert await queue.sql("SELECT 1 FROM vidqueue.jobs") == []


@pytest.mark.parametrize(
    ("count", "pointer"), [(0, "/jobs"), (1001, "/jobs")], ids=["no job", "one more than a thousand"]
)
async def test_a_batch_has_one_to_a_thousand_jobs(
    client: httpx2.AsyncClient, queue: Queue, count: int, pointer: str
) -> None:
    assert [*await refused(client, queue, *[job()] * count, code="invalid_request")] == [pointer]
    assert [*await refused(client, queue, job(), code="invalid_request", colour="red")] == ["/colour"]


async def test_a_thousand_jobs_in_a_chain_are_one_batch(client: httpx2.AsyncClient, queue: Queue) -> None:
    members = [job(), *[clip(f"vq:batch/{n}/video") for n in range(999)]]
    batch = await send(client, *members)
    assert batch["size"] == 1000
    (needs,) = await queue.sql("SELECT count(*)::int AS n FROM vidqueue.job_dependencies")
    assert needs["n"] == 999
    canceled = await client.post(f"/v1/jobs/{batch['jobs'][0]}/cancel")
    assert canceled.status_code == 202
    assert (await read(client, batch))["counts"] == {
        "queued": 0, "running": 0, "succeeded": 0, "failed": 999, "canceled": 1,
    }  # fmt: skip


async def test_the_same_key_gives_the_same_batch_also_at_once(client: httpx2.AsyncClient, queue: Queue) -> None:
    members = [job(input={"seconds": n}) for n in range(10)]
    batches = await asyncio.gather(*(send(client, *members, key="k") for _ in range(6)))
    assert len({one["id"] for one in batches}) == 1
    assert len({tuple(one["jobs"]) for one in batches}) == 1
    assert len(await queue.sql("SELECT id FROM vidqueue.jobs")) == 10
    again = await client.post("/v1/batches", json={"jobs": members}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    other = await client.post("/v1/batches", json={"jobs": members[:9]}, headers={"Idempotency-Key": "k"})
    problem(other, 422, "idempotency_mismatch")
    # A key of a batch is not one of a job.
    single = await client.post("/v1/jobs", json=job(), headers={"Idempotency-Key": "k"})
    assert "idempotency-replayed" not in single.headers


async def test_a_batch_counts_its_jobs_and_names_those_that_failed(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    batch = await send(client, *[job() for _ in range(5)])
    await run(queue, services, success(services))
    await run(queue, services, REFUSED)
    await queue.sql("UPDATE vidqueue.jobs SET progress = 0.5 WHERE id = %s", batch["jobs"][2])
    seen = await read(client, batch)
    assert seen["counts"] == {"queued": 3, "running": 0, "succeeded": 1, "failed": 1, "canceled": 0}
    assert (seen["state"], seen["progress"], seen["finished_at"]) == ("running", pytest.approx(0.5), None)
    assert seen["failed_jobs"] == [batch["jobs"][1]]
    for _ in range(3):
        await run(queue, services, success(services))
    seen = await read(client, batch)
    assert (seen["state"], seen["progress"]) == ("failed", 1)
    assert seen["finished_at"] is not None
    reported = await queue.sql("SELECT jobs, succeeded, failed, finished_at FROM vidqueue_report.batches")
    assert [(one["jobs"], one["succeeded"], one["failed"]) for one in reported] == [(5, 4, 1)]


async def test_canceling_a_batch_cancels_what_waits_and_asks_what_runs(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    batch = await send(client, *[job() for _ in range(4)])
    other = await submit(client)
    await run(queue, services, success(services))
    ref = await queue.dispatch(await queue.lane("busy"))
    assert ref is not None
    answer = await client.post(batch["urls"]["cancel"])
    assert answer.status_code == 202
    assert answer.json()["counts"] == {"queued": 0, "running": 1, "succeeded": 1, "failed": 0, "canceled": 2}
    assert (await client.get(f"/v1/jobs/{batch['jobs'][1]}")).json()["cancel_requested_at"] is not None
    assert (await client.post(batch["urls"]["cancel"])).json() == answer.json()
    assert (await client.get(other["urls"]["self"])).json()["state"] == "queued"
    assert await queue.violations() == []


async def test_a_batch_that_has_ended_cannot_be_canceled(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    batch = await send(client, job())
    await run(queue, services, success(services))
    problem(await client.post(batch["urls"]["cancel"]), 409, "conflict")
    problem(await client.post(batch["urls"]["retry"]), 409, "conflict")
    unknown = f"/v1/batches/{uuid4()}"
    problem(await client.get(unknown), 404, "not_found")
    problem(await client.post(f"{unknown}/cancel"), 404, "not_found")
    problem(await client.post(f"{unknown}/retry"), 404, "not_found")


async def test_only_the_failed_jobs_are_retried_with_what_failed_because_of_them(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    batch = await send(client, job(), clip("vq:batch/0/text"), job(), job())
    await client.post(f"/v1/jobs/{batch['jobs'][3]}/cancel")
    await run(queue, services, REFUSED)
    await run(queue, services, success(services))
    assert (await read(client, batch))["failed_jobs"] == batch["jobs"][:2]
    answers = await asyncio.gather(*(client.post(batch["urls"]["retry"]) for _ in range(5)))
    assert {one.status_code for one in answers} == {202}
    seen = await read(client, batch)
    assert seen["counts"] == {"queued": 2, "running": 0, "succeeded": 1, "failed": 0, "canceled": 1}
    # Retried once, not once for each who asked.
    queued = await queue.sql("SELECT 1 FROM vidqueue.events WHERE kind = 'queued' AND job_id = %s", batch["jobs"][0])
    assert len(queued) == 2
    assert await queue.violations() == []


async def test_what_needs_a_job_that_will_not_come_is_not_retried(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    outside = await submit(client)
    needs = clip(f"vq:jobs/{outside['id']}/text")
    batch = await send(client, needs, clip("vq:batch/0/video"), job())
    await run(queue, services, REFUSED)
    await run(queue, services, REFUSED)
    assert (await read(client, batch))["counts"]["failed"] == 3
    seen = (await client.post(batch["urls"]["retry"])).json()
    assert (seen["counts"]["queued"], seen["failed_jobs"]) == (1, batch["jobs"][:2])
    await run(queue, services, success(services))
    problem(await client.post(batch["urls"]["retry"]), 422, "dependency_failed")
    await client.post(outside["urls"]["retry"])
    assert (await client.post(batch["urls"]["retry"])).json()["counts"]["queued"] == 2
    assert await queue.violations() == []


async def test_retry_and_cancel_at_once_leave_a_batch_that_adds_up(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    batch = await send(client, *[job() for _ in range(20)], *[clip(f"vq:batch/{n}/text") for n in range(20)])
    for _ in range(6):
        await run(queue, services, REFUSED)
    acts = ["cancel", "retry", "retry", "cancel", "retry"]
    answers = await asyncio.gather(*(client.post(batch["urls"][act]) for act in acts))
    assert {one.status_code for one in answers} <= {202, 409}
    seen = await read(client, batch)
    assert sum(seen["counts"].values()) == 40
    assert seen["counts"]["running"] == 0
    assert await queue.violations() == []


async def test_a_batch_goes_with_its_last_job(client: httpx2.AsyncClient, queue: Queue, services: Services) -> None:
    batch = await send(client, job(), job(), key="k")
    for _ in range(2):
        await run(queue, services, Canceled())
    assert (await client.delete(f"/v1/jobs/{batch['jobs'][0]}")).status_code == 204
    seen = await read(client, batch)
    assert (seen["size"], seen["deleted"], seen["counts"]["canceled"]) == (2, 1, 1)
    assert (await client.delete(f"/v1/jobs/{batch['jobs'][1]}")).status_code == 204
    assert (await client.get(batch["urls"]["self"])).status_code == 404
    assert (await send(client, job(), key="k"))["id"] != batch["id"]


async def test_faults_of_inputs_come_in_the_order_of_the_members(client: httpx2.AsyncClient) -> None:
    jobs = [{"processor": "transcode", "input": {"video": f"/nowhere/{number}.mp4"}} for number in range(40)]
    refused = (await client.post("/v1/batches", json={"jobs": jobs})).json()
    assert [one["pointer"] for one in refused["errors"]] == [f"/jobs/{number}/input/video" for number in range(40)]


async def test_members_may_read_files_outputs_and_paths(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    first = await submit(client)
    await run(queue, services, success(services))
    stored = (await client.post("/v1/files", content=b"a clip")).json()
    path = services.settings.inputs.roots[0] / "a.mp4"
    path.write_bytes(b"another")
    waits = await submit(client)
    references = [f"vq:jobs/{first['id']}/text", stored["reference"], str(path), f"vq:jobs/{waits['id']}/text"]
    batch = await send(client, *[clip(one) for one in references * 3])
    assert batch["size"] == 12
    used = await queue.sql("SELECT 1 FROM vidqueue.job_files")
    assert len(used) == 3
    services.storage.delete(UUID(stored["id"]))
    answer = await client.post("/v1/batches", json={"jobs": [clip(stored["reference"])]})
    assert (answer.json()["code"], answer.json()["errors"][0]["pointer"]) == ("file_lost", "/jobs/0/input/video")
