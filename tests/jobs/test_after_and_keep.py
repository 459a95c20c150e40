"""Jobs that begin after others without reading from them, and results that are kept for a time of their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.factory import Queue
from tests.jobs.test_dependencies import _succeed
from vidqueue.errors import VidqueueError
from vidqueue.job import Canceled
from vidqueue.jobs import batches, control, retention
from vidqueue.jobs.finish import finish
from vidqueue.jobs.members import BatchRequest
from vidqueue.jobs.submit import JobRequest, fingerprint, submit
from vidqueue.services import Services

NOBODY = "01890000-0000-7000-8000-000000000000"


async def submitted(services: Services, **more: Any) -> UUID:
    request = JobRequest(**({"processor": "zoo"} | more))
    made = await submit(request, database=services.database, inputs=services.inputs, owner="local")
    return made.job.id


async def state(services: Services, job_id: UUID) -> tuple[str, str | None]:
    job = await control.read(services.database, job_id, owner="local")
    return job.state.value, job.wait_reason


async def run(services: Services, queue: Queue, lane: UUID, expected: UUID) -> None:
    ref = await queue.dispatch(lane)
    assert ref is not None
    assert ref.job_id == expected
    await _succeed(services.database, services.storage, ref)


async def test_a_job_begins_after_others_on_any_node(services: Services, queue: Queue) -> None:
    elsewhere, here = await queue.lane("far"), await queue.lane("near")
    first, second = await submitted(services), await submitted(services)
    last = await submitted(services, after=[str(first), str(second), str(first)])
    shown = await control.read(services.database, last, owner="local")
    assert (shown.wait_reason, shown.depends_on) == ("dependency", [first, second])
    await run(services, queue, elsewhere, first)
    assert await state(services, last) == ("queued", "dependency")
    with pytest.raises(VidqueueError, match="needs it"):
        await control.delete(services.database, services.storage, first, owner="local")
    await run(services, queue, elsewhere, second)
    # It reads nothing of theirs, so their bytes do not bind it to a machine.
    (row,) = await queue.sql("SELECT ready, node FROM vidqueue.jobs WHERE id = %s", last)
    assert row == {"ready": True, "node": None}
    await run(services, queue, here, last)


async def test_a_job_fails_with_the_one_that_it_comes_after(services: Services, queue: Queue) -> None:
    first = await submitted(services)
    last = await submitted(services, after=[str(first)])
    await control.cancel(services.database, first, owner="local")
    job = await control.read(services.database, last, owner="local")
    assert (job.state.value, job.error_code) == ("failed", "dependency_failed")
    for other, code in ((str(first), "dependency_failed"), (NOBODY, "input_not_found")):
        with pytest.raises(VidqueueError) as caught:
            await submitted(services, after=[other])
        assert caught.value.code == code
    assert len(await queue.sql("SELECT id FROM vidqueue.jobs")) == 2, "what was refused left nothing"


async def test_another_owners_job_is_none(services: Services, queue: Queue) -> None:
    theirs = await queue.submit(owner="else")
    with pytest.raises(VidqueueError) as caught:
        await submitted(services, after=[str(theirs)])
    assert caught.value.code == "input_not_found"


async def test_members_of_a_batch_name_each_other_and_other_jobs(services: Services, queue: Queue) -> None:
    outside = await submitted(services)
    members: list[dict[str, Any]] = [
        {"processor": "zoo", "name": "a"},
        {"processor": "zoo", "after": ["a", "0", 0, str(outside)]},
        {"processor": "zoo", "input": {"media": "vq:batch/a/text"}, "after": ["a"], "keep_s": 60, "cache": False},
    ]

    async def batch(jobs: list[dict[str, Any]]) -> list[UUID]:
        request = BatchRequest(jobs=jobs)
        made = await batches.submit(request, database=services.database, inputs=services.inputs, owner="local")
        return made.jobs

    ids = await batch(members)
    found = await queue.sql("SELECT job_id, depends_on, reads FROM vidqueue.job_dependencies ORDER BY 1, 2")
    assert {(one["job_id"], one["depends_on"], one["reads"]) for one in found} == {
        (ids[1], ids[0], False),
        (ids[1], outside, False),
        (ids[2], ids[0], True),
    }
    assert (await control.read(services.database, ids[2], owner="local")).keep_s == 60
    told = await queue.sql("SELECT cache FROM vidqueue.jobs WHERE batch_id IS NOT NULL ORDER BY id")
    assert [one["cache"] for one in told] == [True, True, False]
    for wrong in ("b", "1", NOBODY, "2"):
        with pytest.raises(VidqueueError) as caught:
            await batch([{"processor": "zoo"}, {"processor": "zoo", "after": [wrong]}])
        assert caught.value.errors[0]["pointer"] == "/jobs/1/after/0"


async def test_by_sql(services: Services, queue: Queue) -> None:
    (first,) = await queue.sql("SELECT vidqueue.submit('zoo', '{}') AS id")
    (last,) = await queue.sql(
        "SELECT vidqueue.keep_for(vidqueue.run_after(vidqueue.run_anew(vidqueue.submit('zoo', '{}')), %s), 60) AS id",
        first["id"],
    )
    assert await queue.sql("SELECT id FROM vidqueue.jobs WHERE NOT cache") == [last]
    assert await state(services, last["id"]) == ("queued", "dependency")
    # No circle, not even through others.
    middle = await submitted(services, after=[str(last["id"])])
    for waiting, other in ((first["id"], middle), (first["id"], first["id"]), (uuid4(), first["id"])):
        with pytest.raises(VidqueueError):
            async with services.database.transaction() as connection:
                await connection.execute("SELECT vidqueue.run_after(%s, %s)", (waiting, other))


def test_keys_that_are_new_make_no_other_request_of_an_old_one() -> None:
    def before(asked: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    new = {"after", "keep_s", "cache", "labels", "forget_uploads"}
    single = JobRequest(processor="zoo", input={"act": "work"})
    asked = {key: value for key, value in single.model_dump(mode="json").items() if key not in new | {"webhook"}}
    assert fingerprint(single) == before(asked)
    batch = BatchRequest(jobs=[{"processor": "zoo"}, {"processor": "zoo", "name": "b"}])
    asked = {key: value for key, value in batch.model_dump(mode="json").items() if key not in new}
    asked["jobs"] = [{key: value for key, value in job.items() if key not in new} for job in asked["jobs"]]
    assert fingerprint(batch) == before(asked)
    assert fingerprint(JobRequest(processor="zoo", keep_s=0)) != fingerprint(JobRequest(processor="zoo"))
    assert fingerprint(JobRequest(processor="zoo", cache=False)) != fingerprint(JobRequest(processor="zoo"))
    assert fingerprint(JobRequest(processor="zoo", after=[NOBODY])) != fingerprint(JobRequest(processor="zoo"))


async def ended(services: Services, queue: Queue, tmp_path: Path, **more: Any) -> UUID:
    job_id, lane = await submitted(services, **more), await queue.lane(f"cpu{uuid4().hex[:8]}")
    del tmp_path
    await run(services, queue, lane, job_id)
    return job_id


async def test_results_go_when_the_job_or_its_processor_says_so(
    services: Services, queue: Queue, tmp_path: Path
) -> None:
    async def left() -> set[UUID]:
        await retention.prune(services.database, services.storage, services.settings.retention)
        return {one["id"] for one in await queue.sql("SELECT id FROM vidqueue.jobs")}

    plain = await ended(services, queue, tmp_path)
    later = await ended(services, queue, tmp_path, keep_s=3600)
    at_once = await ended(services, queue, tmp_path, keep_s=0)
    assert await left() == {plain, later}
    await queue.sql("UPDATE vidqueue.processors SET keep_s = 0 WHERE name = 'zoo'")
    by_processor = await ended(services, queue, tmp_path)
    assert (await control.read(services.database, by_processor, owner="local")).kept_until is not None
    (output,) = await queue.sql("SELECT file_id FROM vidqueue.outputs WHERE job_id = %s", by_processor)
    assert services.storage.path(output["file_id"]).exists()
    assert await left() == {plain, later}
    assert not services.storage.path(output["file_id"]).exists()
    assert at_once not in await left()
    # A retry begins anew: what is not finished is not removed.
    lane = await queue.lane("again")
    again = await submitted(services)
    ref = await queue.dispatch(lane)
    assert ref is not None
    await finish(services.database, services.storage, ref, Canceled(), workspace=tmp_path)
    assert (await control.read(services.database, again, owner="local")).kept_until is not None
    retried = await control.retry(services.database, again, owner="local")
    assert retried.kept_until is None
    assert await left() == {plain, later, again}


async def test_a_result_that_somebody_needs_outlives_its_time(services: Services, queue: Queue, tmp_path: Path) -> None:
    first = await ended(services, queue, tmp_path, keep_s=0)
    reader = await submitted(services, input={"act": "read", "media": f"vq:jobs/{first}/text"})
    for expected in ({first, reader}, {reader}):
        await retention.prune(services.database, services.storage, services.settings.retention)
        assert {one["id"] for one in await queue.sql("SELECT id FROM vidqueue.jobs")} == expected
        await control.cancel(services.database, reader, owner="local")
