"""A file whose bytes are gone, or lie with another daemon, is told of clearly: downloads, submissions and jobs."""

from __future__ import annotations

import os
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.api.test_files import raw
from tests.api.test_jobs import run, submit, success
from tests.api.test_refusals import problem
from tests.factory import Queue
from vidqueue.errors import VidqueueError
from vidqueue.jobs.reconcile import reconcile
from vidqueue.services import Services


async def _upload(client: httpx2.AsyncClient) -> UUID:
    return UUID((await raw(client, b"x" * 1000)).json()["id"])


@pytest.mark.parametrize("how", ["gone", "cut"])
async def test_a_download_without_bytes_is_410(client: httpx2.AsyncClient, services: Services, how: str) -> None:
    file_id = await _upload(client)
    path = services.storage.path(file_id)
    path.unlink() if how == "gone" else os.truncate(path, 10)
    problem(await client.get(f"/v1/files/{file_id}/content"), 410, "file_lost")
    assert (await client.get(f"/v1/files/{file_id}")).status_code == 200, "what is known of it stays"


async def test_an_output_without_bytes_is_410(client: httpx2.AsyncClient, queue: Queue, services: Services) -> None:
    job = await submit(client)
    await run(queue, services, success(services))
    (output,) = (await client.get(job["urls"]["self"])).json()["outputs"]
    for file_id in services.storage.stored_ids():
        services.storage.delete(file_id)
    problem(await client.get(output["url"]), 410, "file_lost")
    with pytest.raises(VidqueueError) as caught:
        await services.inputs.check(f"vq:jobs/{job['id']}/text", owner="local")
    assert caught.value.code == "file_lost"


async def test_a_file_of_another_daemon_names_its_host(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    file_id, node = await _upload(client), uuid4()
    services.storage.delete(file_id)
    await queue.sql("UPDATE vidqueue.files SET node = %s", node)
    problem(await client.get(f"/v1/files/{file_id}/content"), 409, "file_elsewhere")
    await queue.lane(node=node, host="render7")
    assert "render7" in problem(await client.get(f"/v1/files/{file_id}/content"), 409, "file_elsewhere")["detail"]
    await queue.sql("UPDATE vidqueue.files SET missing_at = now()")
    problem(await client.get(f"/v1/files/{file_id}/content"), 410, "file_lost")


async def test_a_file_that_no_folder_has_claimed_yet_is_not_called_lost(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    file_id = await _upload(client)
    services.storage.delete(file_id)
    await queue.sql("UPDATE vidqueue.files SET node = NULL")
    told = problem(await client.get(f"/v1/files/{file_id}/content"), 409, "file_elsewhere")["detail"]
    assert "no daemon has reported" in told


async def test_bytes_that_are_here_are_served_whatever_the_row_says(client: httpx2.AsyncClient, queue: Queue) -> None:
    file_id = await _upload(client)
    await queue.sql("UPDATE vidqueue.files SET node = %s, missing_at = now()", uuid4())
    assert len((await client.get(f"/v1/files/{file_id}/content")).content) == 1000


async def test_a_job_that_needs_lost_bytes_is_refused(client: httpx2.AsyncClient, services: Services) -> None:
    file_id = await _upload(client)
    services.storage.delete(file_id)
    await reconcile(services.database, services.storage)
    body = {"processor": "transcode", "input": {"video": f"vq:files/{file_id}"}}
    problem(await client.post("/v1/jobs", json=body), 410, "file_lost")


@pytest.mark.parametrize(("there", "code"), [("here", "file_lost"), ("elsewhere", "file_elsewhere")])
async def test_a_job_whose_input_was_lost_since_fails_with_the_code(
    client: httpx2.AsyncClient, queue: Queue, services: Services, there: str, code: str
) -> None:
    file_id = await _upload(client)
    services.storage.delete(file_id)
    if there == "elsewhere":
        await queue.sql("UPDATE vidqueue.files SET node = %s", uuid4())
    with pytest.raises(VidqueueError) as caught:
        await services.inputs.stage(f"vq:files/{file_id}", owner="local", copy=services.settings.data_dir / "copy")
    assert caught.value.code == code


async def test_a_download_goes_on_while_its_file_is_removed(wire: httpx2.AsyncClient, services: Services) -> None:
    file_id = UUID((await raw(wire, b"y" * 5_000_000)).json()["id"])
    async with wire.stream("GET", f"/v1/files/{file_id}/content") as answer:
        services.storage.delete(file_id)
        size = sum([len(chunk) async for chunk in answer.aiter_bytes()])
    assert size == 5_000_000
