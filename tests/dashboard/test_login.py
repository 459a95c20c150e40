"""Log-in with a key: who sees what, what their role shows and allows, and how a session ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest
import pytest_asyncio

from tests.dashboard.conftest import Served
from tests.dashboard.test_pages import token_in
from vidqueue.api.http.identity import SESSION
from vidqueue.jobs import keys
from vidqueue.jobs.keys import CreatedKey
from vidqueue.principal import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class People:
    reader: CreatedKey
    guest: CreatedKey
    operator: CreatedKey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(served: Served) -> AsyncIterator[People]:
    made = [
        await keys.create(served.scene.database, owner=owner, role=role)
        for owner, role in (("local", Role.READ), ("guest", Role.SUBMIT), ("boss", Role.OPERATE))
    ]
    yield People(*made)


async def log_in(http: httpx2.AsyncClient, key: CreatedKey, to: str = "/") -> httpx2.Response:
    token = token_in((await http.get("/login")).text)
    return await http.post("/login", data={"token": token, "key": key.secret, "to": to})


async def test_a_page_leads_to_the_log_in_and_back(served: Served, people: People) -> None:
    async with served.http as http:
        asked = await http.get("/jobs?state=failed")
        assert (asked.status_code, asked.url.path) == (200, "/login")
        wrong = await http.post("/login", data={"token": token_in(asked.text), "key": "vq_no", "to": "/jobs"})
        assert wrong.status_code == 401
        assert "not known" in wrong.text
        entered = await log_in(http, people.operator, "/jobs?state=failed")
        assert (entered.url.path, entered.url.query) == ("/jobs", b"state=failed")
        assert "Archive reel 12" in entered.text


async def test_the_cookie_is_for_this_site_only_and_not_for_scripts(served: Served, people: People) -> None:
    async with httpx2.AsyncClient(base_url=served.url) as http:
        answer = await log_in(http, people.guest)
        page = await http.get("/")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(SESSION)
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("to", ["https://elsewhere.example/", "//elsewhere.example"])
async def test_the_log_in_leads_to_a_page_of_this_site_only(served: Served, people: People, to: str) -> None:
    async with httpx2.AsyncClient(base_url=served.url) as http:
        assert (await log_in(http, people.guest, to)).headers["location"] == "/"


async def test_an_owner_sees_and_changes_their_own_jobs_only(served: Served, people: People) -> None:
    theirs = served.scene.jobs["Archive reel 12"]
    mine = await served.scene.queue.submit(processor="transcode", title="Of the guest", owner="guest")
    async with served.http as http:
        await log_in(http, people.guest)
        html = (await http.get("/jobs")).text
        assert "Of the guest" in html
        assert "Archive reel 12" not in html
        assert "Archive reel 12" not in (await http.get("/jobs?text=reel&owner=local")).text
        assert (await http.get(f"/jobs/{theirs}")).status_code == 404
        assert (await http.get(f"/jobs/{theirs}/attempts/1")).status_code == 404
        overview = (await http.get("/")).text
        assert "Runs a job of another owner." in overview
        assert "Harbour at dusk, 4K" not in overview
        form = {"token": token_in(html), "back": "/jobs"}
        assert "There is no job" in (await http.post(f"/jobs/{theirs}/retry", data=form)).text
        assert "The job was canceled." in (await http.post(f"/jobs/{mine}/cancel", data=form)).text
        assert (await http.post("/queue/pause", data=form)).status_code == 403


async def test_a_role_shows_what_it_allows(served: Served, people: People) -> None:
    job = f"/jobs/{served.scene.jobs['Archive reel 12']}"
    async with served.http as http:
        await log_in(http, people.reader)
        assert "Retry" not in (await http.get(job)).text
        assert 'name="job"' not in (await http.get("/jobs")).text
        assert "Pause the queue" not in (await http.get("/")).text
        token = token_in((await http.get("/login")).text)
        assert (await http.post(f"{job}/retry", data={"token": token})).status_code == 403
        assert (await http.post("/submit/transcode", data={"token": token}, files={"x": b""})).status_code == 403
    async with served.http as http:
        await log_in(http, people.operator)
        assert "Retry" in (await http.get(job)).text
        assert "Pause the queue" in (await http.get("/")).text


async def test_a_log_out_and_a_revoked_key_end_the_session(served: Served) -> None:
    made = await keys.create(served.scene.database, owner="local", role=Role.SUBMIT)
    async with served.http as http:
        await log_in(http, made)
        html = (await http.get("/jobs")).text
        assert "Log out" in html
        left = await http.post("/logout", data={"token": token_in(html), "back": "/"})
        assert left.url.path == "/login"
        assert (await http.get("/jobs")).url.path == "/login"
        await log_in(http, made)
        await keys.revoke(served.scene.database, made.row.id)
        for _ in range(200):
            if (await http.get("/jobs")).url.path == "/login":
                return
    pytest.fail("the session outlived its key")


async def test_a_session_serves_the_event_streams_and_downloads_of_the_pages(served: Served, people: People) -> None:
    async with served.http as http:
        assert (await http.get("/v1/stats")).status_code == 401
        await log_in(http, people.operator)
        assert (await http.get("/v1/stats")).status_code == 200
        foreign = {"Origin": "https://elsewhere.example"}
        assert (await http.post("/v1/pause", headers=foreign)).status_code == 403
