"""Whatever is wrong with a request, the answer is a problem with a known code, and it comes quickly."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any
from uuid import UUID

import httpx2
import pytest
from starlette.applications import Starlette

from tests.api.test_jobs import submit
from tests.daemon import promised
from vidqueue.api.app import build
from vidqueue.api.http import requests
from vidqueue.db.event_feed import EventFeed
from vidqueue.db.event_log import EventLog
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs
from vidqueue.errors import KINDS
from vidqueue.services import Services

# Always the same, so that the names of the tests are too.
NOBODY = UUID("01890000-0000-7000-8000-000000000000")

JSON = {"Content-Type": "application/json"}
DEEP = b'{"processor":"zoo","input":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem an answer tells, checked in everything that holds for all of them."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told: dict[str, Any] = answer.json()
    assert told.keys() == {
        "type", "title", "status", "detail", "code", "hint", "errors", "request_id", "instance",
    }  # fmt: skip
    assert (answer.status_code, told["status"], told["code"]) == (status, KINDS[code].status, code), told
    assert told["type"] == f"/problems/{code}"
    assert told["detail"]
    assert told["hint"]
    assert told["instance"] == answer.url.path
    assert told["request_id"] == answer.headers["x-request-id"]
    return told


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"processor": "zoo",', "line 1 column 20"),
        (b'{\n "processor": zoo}', "line 2 column 15"),
        (b"", "line 1 column 0"),
        (b'{"processor": "zoo", "priority": NaN}', "column 34"),
        (b'{"processor": "zoo", "input": {"seconds": -Infinity}}', "column 44"),
        (b'{"processor": "zoo", "input": {"seconds": 1e999}}', "too large"),
        (b'{"processor": "zoo", "title": "a\\u0000b"}', "NUL"),
        (b'{"processor": "zoo", "title": "\xff"}', "invalid unicode"),
        (b'{"processor": "zoo", "title": "\\ud800"}', "hex escape"),
        (b'{"processor": "zoo", "priority": ' + b"9" * 100_000 + b"}", "out of range"),
        (DEEP[:900_000], "recursion limit"),
    ],
    ids=["cut", "bare_word", "empty", "nan", "infinity", "huge", "nul", "latin1", "surrogate", "digits", "deep"],
)
async def test_a_body_that_is_no_json_is_answered_with_the_position(
    client: httpx2.AsyncClient, body: bytes, says: str
) -> None:
    answer = await client.post("/v1/jobs", content=body, headers=JSON)
    assert says in problem(answer, 400, "invalid_json")["detail"]


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ([], "", "valid dictionary"),
        ({}, "/processor", "required"),
        ({"processor": "zoo", "priority": 1001}, "/priority", "less than or equal to 1000"),
        ({"processor": "zoo", "priority": "high"}, "/priority", "integer"),
        ({"processor": "zoo", "tags": ["a", ""]}, "/tags/1", "at least 1"),
        ({"processor": "zoo", "run_at": "2026-01-01T00:00:00"}, "/run_at", "timezone"),
        ({"processor": "zoo", "run_at": "0001-01-01T00:00:00+14:00"}, "/run_at", "between the years"),
        ({"processor": "zoo", "run_at": "9999-12-31T23:59:59-14:00"}, "/run_at", "between the years"),
        ({"processor": "zoo", "titel": "x"}, "/titel", "did you mean 'title'?"),
        ({"processor": "zoo", "a/b~c": 1}, "/a~1b~0c", "not permitted"),
    ],
    ids=[
        "no_object",
        "missing",
        "too_much",
        "wrong_type",
        "inside_a_list",
        "no_zone",
        "too_early",
        "too_late",
        "misspelt",
        "escaped",
    ],
)
async def test_a_body_of_the_wrong_shape_is_answered_with_pointers(
    client: httpx2.AsyncClient, body: Any, pointer: str, says: str
) -> None:
    answer = await client.post("/v1/jobs", json=body)
    (fault,) = problem(answer, 422, "invalid_request")["errors"]
    assert fault["pointer"] == pointer
    assert says in fault["detail"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"processor": "nothing"}, "unknown_processor"),
        ({"processor": "zoo", "input": {"sekonds": 1}}, "invalid_params"),
        ({"processor": "zoo", "input": {"seconds": "long"}}, "invalid_params"),
        ({"processor": "transcode", "input": {"video": "/etc/passwd"}}, "input_forbidden"),
        ({"processor": "transcode", "input": {"video": "ftp://x"}}, "unsupported_input"),
        ({"processor": "transcode", "input": {"video": f"vq:files/{NOBODY}"}}, "input_not_found"),
        ({"processor": "transcode", "input": {"video": f"vq:jobs/{NOBODY}/video"}}, "input_not_found"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_job_that_cannot_be_is_refused_and_not_queued(
    client: httpx2.AsyncClient, database: Database, request_: dict[str, Any], code: str
) -> None:
    problem(await client.post("/v1/jobs", json=request_), 422, code)
    async with database.transaction() as connection:
        assert sum((await jobs.counts(connection, owner=None)).values()) == 0


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "?limit"),
        ("limit=501", "?limit"),
        ("limit=many", "?limit"),
        ("state=waiting", "?state"),
        ("state=queued,done", "?state"),
        ("created_after=yesterday", "?created_after"),
        ("cursor=!!!", "?cursor"),
        ("cursor=AAAA", "?cursor"),
        ("procesor=zoo", "?procesor"),
        ("tag=%00", "?tag"),
    ],
)
async def test_a_query_that_cannot_be_is_refused(client: httpx2.AsyncClient, query: str, pointer: str) -> None:
    told = problem(await client.get(f"/v1/jobs?{query}"), 422, "invalid_request")
    assert told["errors"][0]["pointer"] == pointer


async def test_a_misspelt_query_gets_a_suggestion(client: httpx2.AsyncClient) -> None:
    told = problem(await client.get("/v1/jobs?procesor=zoo"), 422, "invalid_request")
    assert "did you mean 'processor'?" in told["detail"]


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/jobs/", "/v1/jobs/7", "/v2/jobs", "/v1/files/x", "/docs/../../etc"]
)
async def test_an_unknown_address_is_not_found(client: httpx2.AsyncClient, path: str) -> None:
    problem(await client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/v1/jobs/{NOBODY}"),
        ("DELETE", f"/v1/jobs/{NOBODY}"),
        ("POST", f"/v1/jobs/{NOBODY}/cancel"),
        ("POST", f"/v1/jobs/{NOBODY}/retry"),
        ("GET", f"/v1/jobs/{NOBODY}/events"),
        ("GET", f"/v1/jobs/{NOBODY}/logs"),
        ("GET", f"/v1/jobs/{NOBODY}/attempts"),
        ("GET", f"/v1/jobs/{NOBODY}/outputs/video"),
        ("GET", f"/v1/files/{NOBODY}"),
        ("GET", f"/v1/files/{NOBODY}/content"),
        ("DELETE", f"/v1/files/{NOBODY}"),
        ("GET", f"/v1/jobs/{NOBODY}/outputs/%00"),
        ("GET", "/v1/processors/nothing"),
        ("GET", "/problems/nothing"),
        ("GET", "/docs/nothing.js"),
    ],
)
async def test_what_is_not_there_is_not_found(client: httpx2.AsyncClient, method: str, path: str) -> None:
    problem(await client.request(method, path), 404, "not_found")


async def test_a_wrong_method_is_told_every_right_one(client: httpx2.AsyncClient) -> None:
    answer = await client.put("/v1/jobs", json={})
    told = problem(answer, 405, "method_not_allowed")
    assert told["detail"] == "PUT is not supported here. Use GET, HEAD or POST."
    assert answer.headers["allow"] == "GET, HEAD, POST"
    other = await client.post(f"/v1/jobs/{NOBODY}", json={})
    assert other.headers["allow"] == "DELETE, GET, HEAD, PATCH"


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}]
)
async def test_a_body_of_another_kind_is_refused(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post("/v1/jobs", content=b'{"processor": "zoo"}', headers=headers)
    problem(answer, 415, "unsupported_media_type")


async def test_a_compressed_body_is_refused_unopened(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=b"\x1f\x8b", headers={**JSON, "Content-Encoding": "gzip"})
    problem(answer, 415, "unsupported_media_type")


async def test_a_body_that_is_too_long_is_refused_by_its_length_and_while_it_comes(wire: httpx2.AsyncClient) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65536

    announced = await wire.post("/v1/jobs", content=b" " * 2_000_000, headers=JSON)
    problem(announced, 413, "payload_too_large")
    chunked = await wire.post("/v1/jobs", content=_upto(endless(), 3_000_000), headers=JSON)
    problem(chunked, 413, "payload_too_large")


async def _upto(pieces: Any, size: int) -> Any:
    async for piece in pieces:
        yield piece
        size -= len(piece)
        if size < 0:
            return


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_of_no_use_is_refused(client: httpx2.AsyncClient, key: str) -> None:
    answer = await client.post("/v1/jobs", json={"processor": "zoo"}, headers={"Idempotency-Key": key})
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "Idempotency-Key"


async def test_another_name_for_this_machine_is_refused(client: httpx2.AsyncClient, services: Services) -> None:
    for host in ("evil.example", "localhost.evil.example", "", "localhost@evil.example"):
        problem(await client.get("/v1/jobs", headers={"Host": host}), 400, "host_not_allowed")
    for host in ("localhost", "LOCALHOST:9999", "127.0.0.1:80", "[::1]:1", "localhost."):
        assert (await client.get("/v1/jobs", headers={"Host": host})).status_code == 200, host


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost:1"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
    ],
)
async def test_a_page_of_another_site_changes_nothing(
    client: httpx2.AsyncClient, headers: dict[str, str], allowed: bool
) -> None:
    answer = await client.post("/v1/jobs", json={"processor": "zoo"}, headers=headers)
    if allowed:
        assert answer.status_code == 202
    else:
        problem(answer, 403, "forbidden")
    assert (await client.get("/v1/jobs", headers=headers)).status_code == 200


async def test_a_request_keeps_a_sane_id_and_gets_one_for_any_other(client: httpx2.AsyncClient) -> None:
    kept = await client.get("/v1/nothing", headers={"X-Request-ID": "trace-1"})
    assert problem(kept, 404, "not_found")["request_id"] == "trace-1"
    made = await client.get("/healthz", headers={"X-Request-ID": "x" * 200 + " <b>"})
    assert len(made.headers["x-request-id"]) == 32


async def test_every_answer_carries_the_security_headers(client: httpx2.AsyncClient) -> None:
    answers = [
        await client.get("/v1/jobs"),
        await client.get("/v1/nothing"),
        await client.get("/docs"),
        await client.get("/v1/jobs", headers={"Host": "evil.example"}),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]


async def test_a_fault_of_ours_leaks_nothing(
    client: httpx2.AsyncClient, app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("postgresql://user:secret@host")

    monkeypatch.setattr(jobs, "page", broken)
    answer = await client.get("/v1/jobs")
    problem(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_database_that_is_away_is_told_with_a_time_to_come_again(services: Services) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    async with Database(url, pool_size=2) as away, EventLog(url, query_timeout_s=10) as log:
        feed = EventFeed(away)
        feed.log = log
        app = build(Services(services.settings, away, feed, services.storage, services.inputs))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client:
            answers = await asyncio.gather(
                client.post("/v1/jobs", json={"processor": "zoo"}), client.get("/v1/jobs"), client.get("/v1/events")
            )
            for answer in answers:
                problem(answer, 503, "database_unavailable")
                assert int(answer.headers["retry-after"]) > 0
            problem(await client.get("/readyz"), 503, "not_ready")
            assert (await client.get("/healthz")).status_code == 200


async def test_texts_from_people_come_back_as_they_went(client: httpx2.AsyncClient) -> None:
    title = '<img onerror=x> "quoted" \\ 🎞️ \u202e\n'
    job = await submit(client, title=title, tags=["ä,b", "'; DROP TABLE jobs"])
    read = (await client.get(job["urls"]["self"])).json()
    assert (read["title"], read["tags"]) == (title, ["ä,b", "'; DROP TABLE jobs"])
    assert json.dumps(read)


@pytest.mark.parametrize("keys", [900, 60_000])
@pytest.mark.parametrize("inside", [False, True], ids=["body", "input"])
async def test_a_flood_of_unknown_names_is_refused_at_once(client: httpx2.AsyncClient, keys: int, inside: bool) -> None:
    unknown = {f"key{number}": 1 for number in range(keys)}
    body = {"processor": "zoo", **({"input": unknown} if inside else unknown)}
    began = time.perf_counter()
    answer = await client.post("/v1/jobs", json=body)
    assert time.perf_counter() - began < promised(2)
    assert answer.status_code in (400, 422)
    assert len(answer.json()["errors"]) <= 50


@pytest.mark.parametrize("reference", [f"vq:files/{NOBODY}\n", f"vq:jobs/{NOBODY}/video\n"])
async def test_a_reference_with_a_newline_at_its_end_is_none(client: httpx2.AsyncClient, reference: str) -> None:
    answer = await client.post("/v1/jobs", json={"processor": "transcode", "input": {"video": reference}})
    problem(answer, 422, "unsupported_input")


@pytest.mark.parametrize("size", [70_000, 1_000_000])
async def test_other_requests_are_answered_while_a_large_body_is_validated(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    begun, answered = threading.Event(), threading.Event()
    in_time: list[bool] = []
    check = requests.refuse_what_no_database_keeps

    def held_open(value: Any) -> None:
        if not begun.is_set():
            begun.set()
            in_time.append(answered.wait(10))
        check(value)

    monkeypatch.setattr(requests, "refuse_what_no_database_keeps", held_open)
    body = {"processor": "zoo", "input": {"act": "x" * size}}
    large = asyncio.create_task(client.post("/v1/jobs", json=body))
    assert await asyncio.to_thread(begun.wait, 10)
    assert (await client.get("/healthz")).status_code == 200
    answered.set()
    problem(await large, 422, "invalid_params")
    assert in_time == [True]


async def test_a_small_body_is_validated_without_a_thread(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[threading.Thread] = []
    monkeypatch.setattr(
        requests, "refuse_what_no_database_keeps", lambda value: seen.append(threading.current_thread())
    )
    await submit(client)
    assert seen == [threading.current_thread()]
