"""The pages over plain HTTP, as a browser without scripts has them: what they show, and what their forms do."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

import vidqueue
from tests.dashboard.conftest import Served
from vidqueue.api.app import build
from vidqueue.api.web import assets, causes, matching, words
from vidqueue.errors import KINDS
from vidqueue.settings.schema import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

VENDORED = Path(assets.__file__).parent / "static" / "vendor"


def token_in(html: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', html)
    assert found
    return found[1]


async def test_the_overview_shows_lanes_counts_failures_and_the_disk(served: Served) -> None:
    async with served.http as http:
        answer = await http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for text in (
        "RTX 4090",
        "Harbour at dusk, 4K",
        "43 %",
        "Rendering by hand",
        "media_damaged",
        "3 of 4 busy",
        "free",
    ):
        assert text in answer.text, text


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("", "Dailies, roll 24", "Nothing at all"),
        ("?state=failed", "Archive reel 12", "Harbour at dusk, master"),
        ("?state=failed&processor=enhance", "Archive reel 12", "Interview, camera B"),
        ("?processor=&tag=harbour&owner=", "Harbour at dusk, master", "Archive reel 12"),
        ("?text=SIGNAL+11", "Interview, camera B", "Archive reel 12"),
        ("?text=gpu0", "Harbour at dusk, 4K", "Archive reel 12"),
        ("?owner=somebody", "No job matches", "Archive reel 12"),
    ],
)
async def test_the_list_has_its_filters_in_the_address(served: Served, query: str, there: str, not_there: str) -> None:
    async with served.http as http:
        answer = await http.get(f"/jobs{query}")
    assert answer.status_code == 200
    assert there in answer.text
    assert not_there not in answer.text


async def test_the_list_goes_on_by_keyset_and_keeps_its_filters(served: Served) -> None:
    seen: list[str] = []
    address: str | None = "/jobs?tag=dailies&limit=10"
    async with served.http as http:
        for _ in range(5):
            if address is None:
                break
            html = (await http.get(address)).text
            seen += re.findall(r'<tr id="job-([0-9a-f-]+)"', html)
            found = re.search(r'rel="next" href="([^"]+)"', html)
            address = found[1].replace("&amp;", "&") + "&limit=10" if found else None
    assert len(seen) == len(set(seen)) == 24


async def test_the_id_of_a_job_typed_as_a_text_leads_to_its_page(served: Served) -> None:
    job_id = served.scene.jobs["Archive reel 12"]
    async with served.http as http:
        answer = await http.get("/jobs", params={"text": str(job_id)})
    assert answer.url.path == f"/jobs/{job_id}"


async def test_a_failed_job_says_what_happened_why_and_what_to_do(served: Served) -> None:
    async with served.http as http:
        html = (await http.get(f"/jobs/{served.scene.jobs['Interview, camera B']}")).text
    shown = ("What happened", "ffmpeg ended with signal 11.", "Likely cause", "What to do", "ffmpeg_failed", "Attempts")
    for text in (*shown, "https://example.com/hooks/vidqueue", "Resend", "Retry", "SELECT vidqueue.submit("):
        assert text in html, text


async def test_a_succeeded_job_shows_its_media_timeline_and_warnings(served: Served) -> None:
    job_id = served.scene.jobs["Harbour at dusk, master"]
    async with served.http as http:
        html = (await http.get(f"/jobs/{job_id}")).text
        clip = await http.get(f"/v1/jobs/{job_id}/outputs/video", headers={"Range": "bytes=0-99"})
    assert f'src="/v1/jobs/{job_id}/outputs/video"' in html
    assert f'src="/v1/files/{served.scene.file}/content"' in html
    for text in (
        "640\N{MULTIPLICATION SIGN}360",
        "The sound is 40 ms shorter",
        "Attempt 1 on cpu0",
        "Waited",
        "libx264, crf 18",
    ):
        assert text in html, text
    assert clip.status_code == 206


async def test_each_attempt_keeps_its_own_log_with_an_address_for_each_line(served: Served) -> None:
    page = f"/jobs/{served.scene.jobs['Interview, camera B']}"
    async with served.http as http:
        first = (await http.get(page, params={"attempt": 1})).text
        second = (await http.get(page)).text
        whole = (await http.get(f"{page}/attempts/1")).text
        text = await http.get(f"{page}/attempts/1/log")
        missing = await http.get(f"{page}/attempts/3")
    assert "after 812 of 4,500" in first
    assert "after 812 of 4,500" not in second
    assert re.search(r'id="line-\d+"', whole)
    assert "after 812 of 4,500" in text.text
    assert text.headers["content-disposition"].startswith("attachment")
    assert missing.status_code == 404


async def test_texts_of_people_are_escaped(served: Served) -> None:
    evil = "<script>alert(1)</script>"
    job_id = await served.scene.queue.submit(processor="transcode", title=evil, tags=("a<b",), input={"video": evil})
    async with served.http as http:
        for address in ("/jobs?text=script", f"/jobs/{job_id}"):
            html = (await http.get(address)).text
            assert "<script>alert" not in html
            assert "&lt;script&gt;" in html


async def test_a_form_cancels_retries_and_deletes_a_job(served: Served) -> None:
    job_id = await served.scene.queue.submit(processor="transcode", title="To be changed", input={})
    page = f"/jobs/{job_id}"
    async with served.http as http:
        form = {"token": token_in((await http.get(page)).text), "back": page}
        canceled = await http.post(f"{page}/cancel", data=form)
        assert canceled.url.path == page
        assert "The job was canceled." in canceled.text
        assert "The job was canceled." not in (await http.get(page)).text
        assert "queued again" in (await http.post(f"{page}/retry", data=form)).text
        refused = await http.post(f"{page}/delete", data=form)
        assert "cancel it first" in refused.text
        await http.post(f"{page}/cancel", data=form)
        deleted = await http.post(f"{page}/delete", data=form)
        assert deleted.url.path == "/jobs"
        assert (await http.get(page)).status_code == 404


async def test_a_form_acts_on_the_selected_jobs_and_says_what_was_left(served: Served) -> None:
    mine = [str(await served.scene.queue.submit(processor="transcode", title="Batch work")) for _ in range(3)]
    done = str(served.scene.jobs["Harbour at dusk, master"])
    async with served.http as http:
        form = {"token": token_in((await http.get("/jobs")).text), "back": "/jobs?state=queued"}
        answer = await http.post("/jobs/selected", data={**form, "verb": "cancel", "job": [*mine, done]})
        assert "3 jobs canceled. 1 job left as they were" in answer.text
        assert answer.url.query == b"state=queued"
        nothing = await http.post("/jobs/selected", data={**form, "verb": "cancel"})
        assert "No job is selected." in nothing.text
        unknown = await http.post("/jobs/selected", data={**form, "verb": "explode", "job": mine})
        assert unknown.status_code == 404


async def test_a_form_pauses_and_resumes_the_queue_and_a_lane(served: Served) -> None:
    async with served.http as http:
        form = {"token": token_in((await http.get("/")).text), "back": "/"}
        paused = await http.post("/queue/pause", data={**form, "minutes": "15", "reason": "Stage rehearsal"})
        assert "The queue is paused until" in paused.text
        assert "Stage rehearsal" in paused.text
        wrong = await http.post("/queue/pause", data={**form, "minutes": "-1"})
        assert wrong.status_code == 422
        assert "The queue is paused" not in (await http.post("/queue/resume", data=form)).text
        lane = await http.post("/lanes/cpu0/pause", data={**form, "host": "studio"})
        assert "Lane cpu0 takes no more jobs" in lane.text
        assert "takes jobs again" in (await http.post("/lanes/cpu0/resume", data={**form, "host": "studio"})).text
        assert (await http.post("/lanes/none/pause", data=form)).status_code == 404


async def test_a_delivery_is_sent_again(served: Served) -> None:
    page = f"/jobs/{served.scene.jobs['Interview, camera B']}"
    async with served.http as http:
        html = (await http.get(page)).text
        found = re.search(r'action="(/deliveries/[0-9a-f-]+/resend)"', html)
        assert found
        answer = await http.post(found[1], data={"token": token_in(html), "back": page})
    assert "The delivery is sent once more." in answer.text


@pytest.mark.parametrize(
    "address", ["/queue/pause", "/jobs/selected", f"/jobs/{UUID(int=7)}/cancel", "/lanes/cpu0/drain"]
)
async def test_a_form_without_the_token_of_its_browser_is_refused(served: Served, address: str) -> None:
    async with served.http as http:
        token = token_in((await http.get("/")).text)
        for given in ("", "x", token[:-1] + "_", token[::-1]):
            answer = await http.post(address, data={"token": given, "verb": "cancel"})
            assert answer.status_code == 403
            assert "token of this browser" in answer.text
    async with httpx2.AsyncClient(base_url=served.url) as stranger:
        assert (await stranger.post(address, data={"token": token})).status_code == 403
        foreign = {"Origin": "https://elsewhere.example", "Cookie": f"vidqueue_form={token}"}
        assert (await stranger.post(address, data={"token": token}, headers=foreign)).status_code == 403


@pytest.mark.parametrize("back", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "jobs"])
async def test_a_form_leads_back_to_a_page_of_this_site_only(served: Served, back: str) -> None:
    async with httpx2.AsyncClient(base_url=served.url) as http:
        token = token_in((await http.get("/")).text)
        answer = await http.post("/queue/resume", data={"token": token, "back": back})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"


async def test_cookies_are_for_this_site_only_and_not_for_scripts(served: Served) -> None:
    async with httpx2.AsyncClient(base_url=served.url) as http:
        cookie = (await http.get("/")).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize("address", ["/jobs?limit=0", "/jobs?state=lost", "/jobs?cursor=x", "/jobs?unknown=1"])
async def test_a_wrong_address_is_answered_with_a_page(served: Served, address: str) -> None:
    async with served.http as http:
        answer = await http.get(address)
    assert answer.status_code == 422
    assert "<h1>Invalid request</h1>" in answer.text


async def test_pages_have_no_inline_script_or_style_and_no_address_elsewhere(served: Served) -> None:
    async with served.http as http:
        for page in ("/", "/jobs", *(f"/jobs/{one}" for one in served.scene.jobs.values())):
            answer = await http.get(page)
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", answer.text), page
            assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text), page


async def test_scripts_are_small_and_kept_by_browsers(served: Served) -> None:
    async with served.http as http:
        html = (await http.get("/")).text
        scripts = re.findall(r'src="(/assets/[^"]+\.js\?[^"]+)"', html)
        answers = [await http.get(address) for address in scripts]
        missing = await http.get("/assets/passwd")
    assert scripts
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
    assert sum(len(answer.content) for answer in answers) < 60_000
    assert missing.status_code == 404


async def test_what_is_vendored_is_what_its_checksum_says() -> None:
    for line in (VENDORED / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digest
        assert (VENDORED / f"{name.removesuffix('.min.js')}.LICENSE").is_file()
    assert len(list(VENDORED.glob("*.js"))) == len((VENDORED / "SHA256SUMS").read_text().splitlines())


async def test_every_code_has_a_likely_cause_and_every_cause_a_code() -> None:
    assert set(KINDS) >= causes.CODES
    assert all(causes.of(code) for code in KINDS)
    assert causes.of("code_of_another_package") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "\N{EN DASH}"), (0.02, "20 ms"), (9.31, "9.3 s"), (59.7, "1 min"), (75, "1 min 15 s"), (7200, "2 h"),
     (90_000, "1 d 1 h"), (-3, "0 ms")],
)  # fmt: skip
async def test_durations_are_written_for_people(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


async def test_the_newest_preview_of_a_running_job_is_shown(served: Served) -> None:
    job_id = served.scene.jobs["Street scene, faces blurred"]
    await served.scene.queue.sql(
        "INSERT INTO vidqueue.previews (job_id, attempt, picture) VALUES (%s, 1, %s)", job_id, b"x"
    )
    shown = f'src="/v1/jobs/{job_id}/preview?'
    async with served.http as http:
        assert shown in (await http.get("/")).text
        assert shown in (await http.get(f"/jobs/{job_id}")).text
    await served.scene.queue.sql("DELETE FROM vidqueue.previews")


async def test_lanes_are_shown_with_what_they_take_and_paused_with_a_reason(served: Served) -> None:
    async with served.http as http:
        html = (await http.get("/lanes")).text
        for text in ("NVIDIA RTX A4000, 17.2 GB", "gpu jobs", "draining", "Pause or drain"):
            assert text in html, text
        form = {"token": token_in(html), "back": "/lanes", "host": "studio", "minutes": "60", "reason": "Cleaning"}
        drained = (await http.post("/lanes/cpu1/drain", data=form)).text
        assert "Cleaning" in drained
        assert "is stopped after its job" in drained
        await http.post("/lanes/cpu1/resume", data=form)


async def test_batches_are_listed_shown_canceled_and_retried(served: Served) -> None:
    batch = served.scene.batch
    async with served.http as http:
        listed = (await http.get("/batches")).text
        assert "Festival reels" in listed
        assert "4 queued" in listed
        assert "Festival reels" not in (await http.get(f"/batches?before={batch}")).text
        page = f"/jobs?batch={batch}"
        html = (await http.get(page)).text
        assert "Festival reel 5" in html
        form = {"token": token_in(html), "back": page}
        assert "The batch was canceled." in (await http.post(f"/batches/{batch}/cancel", data=form)).text
        assert "Cancel the batch" not in (await http.get(page)).text
        assert (await http.post(f"/batches/{batch}/explode", data=form)).status_code == 404
        assert (await http.get(f"/jobs?batch={UUID(int=5)}")).status_code == 404


async def test_the_system_shows_versions_and_the_configuration_with_its_origin(served: Served) -> None:
    async with served.http as http:
        html = (await http.get("/system")).text
    for text in (vidqueue.__version__, "PostgreSQL", "transcode", "max_upload_mib", "Largest size of an upload"):
        assert text in html, text


async def test_secrets_of_the_configuration_are_hidden_and_origins_shown(served: Served) -> None:
    secret = "postgresql://me:hunter2@elsewhere/db"
    values = {"database": {"url": secret}, "data_dir": served.scene.folder / "data"}
    configured = replace(
        served.scene.services,
        settings=Settings(**values),  # type: ignore[arg-type]
        origins={"database.url": "VIDQUEUE_DATABASE__URL"},
    )
    transport = httpx2.ASGITransport(app=build(configured))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        html = (await http.get("/system")).text
    assert "hunter2" not in html
    assert "**********" in html
    assert "VIDQUEUE_DATABASE__URL" in html


async def test_all_jobs_that_match_are_canceled_retried_and_deleted_on_all_pages(served: Served) -> None:
    for number in range(330):
        await served.scene.queue.submit(processor="transcode", title=f"Many {number}", tags=("many",))
    async with served.http as http:
        html = (await http.get("/jobs?tag=many")).text
        before = re.search(r'name="created_before" value="([^"]+)"', html)
        assert before
        form = {"token": token_in(html), "back": "/jobs?tag=many", "tag": "many", "created_before": before[1]}
        late = await served.scene.queue.submit(processor="transcode", title="Too late", tags=("many",))
        assert "330 jobs canceled." in (await http.post("/jobs/matching", data={**form, "verb": "cancel"})).text
        assert (await served.scene.queue.job(late)).state == "queued"
        assert "could be canceled" in (await http.post("/jobs/matching", data={**form, "verb": "cancel"})).text
        assert "330 jobs queued again." in (await http.post("/jobs/matching", data={**form, "verb": "retry"})).text
        failed = await http.post("/jobs/matching", data={**form, "verb": "cancel", "state": "failed"})
        assert "None of the jobs that match could be canceled." in failed.text
        assert "330 jobs canceled." in (await http.post("/jobs/matching", data={**form, "verb": "cancel"})).text
        some = {**form, "text": "many 12", "verb": "delete"}
        assert "11 jobs deleted." in (await http.post("/jobs/matching", data=some)).text
        assert (await http.post("/jobs/matching", data={**form, "verb": "explode"})).status_code == 404
        wrong = await http.post("/jobs/matching", data={**form, "verb": "cancel", "state": "lost"})
        assert wrong.status_code == 422


async def test_a_walk_that_takes_too_long_says_that_there_is_more(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "AT_ONCE", 5)
    monkeypatch.setattr(matching, "LONGEST_S", 0.0)
    for _ in range(12):
        await served.scene.queue.submit(processor="transcode", tags=("slow",))
    async with served.http as http:
        form = {"token": token_in((await http.get("/jobs")).text), "verb": "cancel", "tag": "slow"}
        assert "5 jobs canceled. There are more" in (await http.post("/jobs/matching", data=form)).text


async def test_the_list_says_how_many_jobs_match_where_counters_know_it(served: Served) -> None:
    async with served.http as http:
        assert "Each of the <strong>2 jobs</strong>" in (await http.get("/jobs?state=failed")).text
        assert "Every job" in (await http.get("/jobs?text=reel")).text
