"""The pages over plain HTTP, as a browser without scripts has them: what they show, and what their forms do."""

from __future__ import annotations

import csv
import hashlib
import io
import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

import vidqueue
from tests.dashboard.conftest import Served
from vidqueue.api.app import build
from vidqueue.api.web import assets, causes, charts, csv_list, week, words
from vidqueue.db.tables.reports import REPORTS
from vidqueue.errors import KINDS
from vidqueue.jobs.bulk_runner import BulkRunner
from vidqueue.ops import windows
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


async def test_a_job_with_the_outputs_of_an_earlier_one_says_so_in_the_list_and_on_its_page(served: Served) -> None:
    scene, done = served.scene, served.scene.jobs["Harbour at dusk, master"]
    async with served.http as http:
        assert "cached" not in (await http.get("/jobs?tag=final")).text.lower()
        await scene.queue.sql(
            "INSERT INTO vidqueue.results (job_id, key, source_id) VALUES (%s, repeat('0', 64), %s)", done, scene.file
        )
        listed, page = await http.get("/jobs?tag=final"), await http.get(f"/jobs/{done}")
        await scene.queue.sql(
            "UPDATE vidqueue.attempts SET metrics = metrics || %s::jsonb WHERE job_id = %s",
            f'{{"cached_from": "{scene.file}"}}', done,
        )  # fmt: skip
        linked = await http.get(f"/jobs/{done}")
        await scene.queue.sql("DELETE FROM vidqueue.results WHERE job_id = %s", done)
    assert "cached · " in listed.text
    assert "Cached: its outputs are those of an earlier job that did the same work." in page.text
    assert f'are those of <a href="/jobs/{scene.file}">an earlier job</a>' in linked.text


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
    for text in (*shown, "https://example.com/hooks/vidqueue", ">Tries<", "Resend", "Retry", "SELECT vidqueue.submit("):
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
    assert "The delivery is sent again." in answer.text


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
        pages = ("/", "/submit", f"/jobs/{served.scene.jobs['Wrong upload']}")
        found = [re.findall(r'src="(/assets/[^"]+\.js\?[^"]+)"', (await http.get(page)).text) for page in pages]
        scripts = list(dict.fromkeys(address for addresses in found for address in addresses))
        answers = [await http.get(address) for address in scripts]
        missing = await http.get("/assets/passwd")
    assert len(scripts) == len(list(VENDORED.parent.rglob("*.js")))
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
    assert all(answer.headers["content-encoding"] == "gzip" for answer in answers)
    # As they are sent: tus-js-client alone has 87 kB before.
    assert sum(int(answer.headers["content-length"]) for answer in answers) < 60_000
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


async def test_all_jobs_that_match_are_canceled_with_progress_and_can_be_undone(served: Served) -> None:
    await served.scene.queue.sql(
        "INSERT INTO vidqueue.jobs (processor, input, owner, device, tags) "
        "SELECT 'transcode', '{}', 'local', 'cpu', ARRAY['many'] FROM generate_series(1, 330)"
    )
    services = served.scene.services
    runner = BulkRunner(services.database, services.storage, services.watchdog.register("bulk_actions"))
    async with served.http as http:
        html = (await http.get("/jobs?tag=many")).text
        before = re.search(r'name="created_before" value="([^"]+)"', html)
        assert before
        form = {"token": token_in(html), "back": "/jobs?tag=many", "tag": "many", "created_before": before[1]}
        late = await served.scene.queue.submit(processor="transcode", title="Too late", tags=("many",))
        asked = (await http.post("/jobs/matching", data={**form, "verb": "cancel"})).text
        await runner.run_due()
        assert "begins in" in asked
        listed = (await http.get("/bulk")).text
        assert "Cancel 330 jobs" in listed
        undo = re.search(r'action="(/bulk/[0-9a-f-]+/undo)"', listed)
        assert undo
        assert "Undone: no job was changed." in (await http.post(undo[1], data=form)).text
        assert "cannot be undone" not in (await http.post(undo[1], data=form)).text
        await http.post("/jobs/matching", data={**form, "verb": "cancel"})
        await served.scene.queue.sql("UPDATE vidqueue.bulk_actions SET begins_at = now() WHERE ended_at IS NULL")
        while await runner.run_due():
            pass
        assert "330 jobs changed" in (await http.get("/jobs?tag=many")).text
        assert (await served.scene.queue.job(late)).state == "queued"
        refused = await http.post("/jobs/matching", data={**form, "verb": "cancel", "state": "failed"})
        assert "No job in these states can be canceled." in refused.text
        for wrong in ({"verb": "explode"}, {"verb": "cancel", "state": "lost"}, {"verb": "priority", "priority": "x"}):
            assert "The form cannot be accepted" in (await http.post("/jobs/matching", data={**form, **wrong})).text


async def test_schedules_are_shown_with_their_last_times_paused_and_deleted(served: Served) -> None:
    job = {"processor": "transcode", "input": {"video": "https://example.com/a.mp4"}}
    async with served.http as http:
        made = await http.post("/v1/schedules", json={"name": "hourly-proxies", "cron": "17 * * * *", "job": job})
        assert made.status_code == 201, made.text
        schedule = made.json()["id"]
        await served.scene.queue.sql(
            "INSERT INTO vidqueue.schedule_runs (schedule_id, due_at, outcome, job_id, error) VALUES "
            "(%s, now() - interval '1 day', 'submitted', %s, NULL), (%s, now(), 'refused', NULL, 'no_lane: gone')",
            schedule, served.scene.jobs["Harbour at dusk, master"], schedule,
        )  # fmt: skip
        html = (await http.get("/schedules")).text
        for text in ("hourly-proxies", "17 * * * *", 'class="run succeeded"', 'class="run refused"', "no_lane: gone"):
            assert text in html, text
        form = {"token": token_in(html), "back": "/schedules"}
        assert "submits nothing" in (await http.post(f"/schedules/{schedule}/pause", data=form)).text
        assert "submits again" in (await http.post(f"/schedules/{schedule}/resume", data=form)).text
        assert (await http.post(f"/schedules/{schedule}/explode", data=form)).status_code == 404
        assert "was deleted" in (await http.post(f"/schedules/{schedule}/delete", data=form)).text
        assert (await http.post(f"/schedules/{schedule}/delete", data=form)).status_code == 404


async def test_every_report_has_a_chart_a_table_and_a_csv(served: Served) -> None:
    async with served.http as http:
        for name in REPORTS:
            html = (await http.get(f"/reports?report={name}&days=7")).text
            sheet = await http.get(f"/reports.csv?report={name}")
            if name in ("usage", "waits", "failures", "lanes", "slowest"):
                assert "<svg" in html, name
                assert len(sheet.text.splitlines()) > 1, name
            assert sheet.headers["content-type"].startswith("text/csv")
        assert "ffmpeg_failed" in (await http.get("/reports?report=failures")).text
        assert (await http.get("/reports?report=none")).status_code == 404
        assert (await http.get("/reports?days=8")).status_code == 422


async def test_a_part_of_a_report_is_looked_at_more_closely(served: Served) -> None:
    async with served.http as http:
        html = (await http.get("/reports?report=waits&days=30")).text
        links = [unescape(one) for one in re.findall(r'<a href="(/reports[?][^"]+)" aria-label="Zoom', html)]
        assert len(links) == 12
        closer = await http.get(links[-1])
        assert (closer.status_code, "Zoom out" in closer.text, "transcode" in closer.text) == (200, True, True)
        assert "No data in this period" in (await http.get(links[0])).text
        (download,) = re.findall(r'href="(/reports[.]csv[^"]+)"', closer.text)
        assert "transcode" in (await http.get(unescape(download))).text
        for wrong in ("since=2026-01-01T00:00:00Z", "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
                      "since=2020-01-01T00:00:00Z&until=2026-01-01T00:00:00Z"):  # fmt: skip
            assert (await http.get(f"/reports?{wrong}")).status_code == 422


async def test_lines_have_gaps_where_hours_have_no_value() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    points = [("a", noon + timedelta(hours=hour), 4.0) for hour in (0, 1, 2, 5)] + [("b", noon, 2.0)]
    drawn = charts.lines(points, noon, noon + timedelta(hours=6), None)
    first, second = drawn.lines
    assert (len(first.paths), len(first.dots), second.paths, drawn.top) == (1, 1, [], 4.0)
    assert first.paths[0].split()[0] == "60.0,0.0"
    assert charts.bars([("a", 2), ("b", 4), ("none", 0)]) == [charts.Bar("b", 4, 100.0), charts.Bar("a", 2, 50.0)]


async def test_the_audit_shows_who_changed_what_and_no_secret(served: Served) -> None:
    job_id = await served.scene.queue.submit(processor="transcode", title="Audited")
    async with served.http as http:
        html = (await http.get(f"/jobs/{job_id}")).text
        form = {"token": token_in(html), "back": f"/jobs/{job_id}"}
        await http.post(f"/jobs/{job_id}/run-next", data=form)
        await http.patch(f"/v1/jobs/{job_id}", json={"priority": 3})
        await http.post(f"/v1/jobs/{job_id}/cancel")
        await http.post(f"/jobs/{job_id}/run-next", data=form)
        await http.post(f"/v1/jobs/{UUID(int=3)}/cancel")
        await http.post("/v1/pause", json={"processor": "transcode", "reason": "Measuring"})
        await http.post("/queue/resume", data={**form, "processor": "transcode"})
        hooked = await http.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/?key=whsec_c2VjcmV0"})
        await http.delete(f"/v1/webhooks/{hooked.json().get('id', UUID(int=4))}")
        await http.post(
            "/v1/jobs", json={"processor": "transcode", "input": {"video": f"vq:files/{served.scene.file}"}}
        )
        entries = (await http.get("/v1/audit?limit=7")).json()["entries"]
        page = (await http.get("/audit")).text
    acts = [entry["act"] for entry in reversed(entries)]
    last = [act for act in acts if not act.endswith("webhooks")][-5:]
    assert last == ["run-next jobs", "change jobs", "cancel jobs", "pause queue", "resume queue"]
    mine = [entry for entry in entries if entry["target"] == str(job_id)]
    assert [entry["detail"] for entry in mine] == [{}, {"priority": 3}, {}]
    assert {(entry["owner"], entry["role"]) for entry in entries} == {("local", "admin")}
    assert "Measuring" in page
    assert "whsec" not in page + str(entries)


async def test_a_job_shows_the_graph_of_what_it_comes_after_and_what_comes_after_it(served: Served) -> None:
    queue = served.scene.queue
    first = await queue.submit(processor="transcode", title="Cut")
    sides = [await queue.submit(processor="transcode", title=f"Side {n}", after=(first,)) for n in range(2)]
    last = await queue.submit(processor="transcode", title="Join", after=tuple(sides))
    async with served.http as http:
        for shown in (first, sides[0], last):
            html = (await http.get(f"/jobs/{shown}")).text
            drawn = re.findall(r'<a href="/jobs/([0-9a-f-]+)" class="queued( shown)?" id="node-', html)
            seen = {first, last, *sides} if shown != sides[0] else {first, last, sides[0]}
            assert {UUID(job_id) for job_id, _ in drawn} == seen
            assert [UUID(job_id) for job_id, mark in drawn if mark] == [shown]
            assert html.count("<path d=") == len(seen) * 2 - 4
        assert "node-" not in (await http.get(f"/jobs/{served.scene.jobs['Wrong upload']}")).text


async def test_lines_of_a_log_are_searched(served: Served) -> None:
    page = f"/jobs/{served.scene.jobs['Interview, camera B']}/attempts/1"
    async with served.http as http:
        html = (await http.get(f"{page}?text=monotonous")).text
        assert "Non-monotonous DTS" in html
        assert "Reading interview" not in html
        found = re.search(r'href="\?after=(\d+)#line-(\d+)"', html)
        assert found
        assert int(found[2]) == int(found[1]) + 1
        assert f'id="line-{found[2]}"' in (await http.get(f"{page}?after={found[1]}")).text
        assert "No line contains this text." in (await http.get(f"{page}?text=%25")).text


async def test_a_job_is_submitted_again_with_changes(served: Served) -> None:
    given = {"video": f"vq:files/{served.scene.file}", "quality": "high", "upscale": True, "height": 720}
    job_id = await served.scene.queue.submit(
        processor="transcode", title="To be changed", input=given, tags=("a", "b"), priority=4
    )
    async with served.http as http:
        link = re.search(r'href="(/submit[^"]+)"[^>]*>Change', (await http.get(f"/jobs/{job_id}")).text)
        assert link
        html = (await http.get(link[1].replace("&amp;", "&"))).text
        for text in (given["video"], "<option selected>high", 'value="720"', 'value="To be changed"', 'value="a b"'):
            assert str(text) in html, text
        assert re.search(r'id="p.upscale" name="p.upscale" checked', html)
        assert re.search(r'name="priority"[^>]* value="4"', html)
        assert (await http.get(f"/submit?processor=enhance&like={job_id}")).status_code == 404
        assert (await http.get(f"/submit?processor=transcode&like={UUID(int=1)}")).status_code == 404


async def test_the_gauges_of_a_gpu_are_on_the_card_of_its_lane(served: Served) -> None:
    async with served.http as http:
        for page in ("/", "/lanes"):
            html = (await http.get(page)).text
            for text in ("GPU 87 %", "9.6 GB in use", "61 °C", "312 W"):
                assert text in html, text


async def test_a_list_is_downloaded_as_csv(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_list, "AT_ONCE", 7)
    for number in range(16):
        await served.scene.queue.submit(processor="transcode", title=f'=1+"{number}", x\nnew', tags=("sheet", "two"))
    async with served.http as http:
        answer = await http.get("/jobs.csv?tag=sheet&text=")
        assert (await http.get("/jobs.csv?state=lost")).status_code == 422
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["title"] for row in rows] == [f'\'=1+"{number}", x\nnew' for number in reversed(range(16))]
    assert {(row["state"], row["tags"], row["owner"]) for row in rows} == {("queued", "sheet two", "local")}


async def test_a_job_is_put_before_all_others(served: Served) -> None:
    job_id = await served.scene.queue.submit(processor="transcode", title="Urgent")
    async with served.http as http:
        html = (await http.get(f"/jobs/{job_id}")).text
        form = {"token": token_in(html), "back": f"/jobs/{job_id}"}
        moved = (await http.post(f"/jobs/{job_id}/run-next", data=form)).text
    assert "position 1" in moved
    assert "Run next" in html
    assert "run-next" not in moved


async def test_the_list_says_how_many_jobs_match_where_counters_know_it(served: Served) -> None:
    async with served.http as http:
        assert "Each of the <strong>2 jobs</strong>" in (await http.get("/jobs?state=failed")).text
        assert "Every job" in (await http.get("/jobs?text=reel")).text


async def test_a_running_job_is_suspended_shown_so_everywhere_and_resumed(served: Served) -> None:
    job_id = served.scene.jobs["Street scene, faces blurred"]
    page = f"/jobs/{job_id}"
    async with served.http as http:
        html = (await http.get(page)).text
        assert f'action="{page}/resume"' not in html
        form = {"token": token_in(html), "back": page}
        suspended = (await http.post(f"{page}/suspend", data=form)).text
        assert "The job is suspended." in suspended
        assert '<span class="state suspended">Suspended</span>' in suspended
        assert "until somebody resumes it" in suspended
        assert "25 min left" not in suspended
        for address in ("/", "/lanes", "/jobs?state=running"):
            assert "Suspended" in (await http.get(address)).text, address
        (lane,) = [one for one in (await http.get("/v1/lanes")).json()["lanes"] if one["name"] == "cpu0"]
        assert lane["job"]["suspended_by"] == "person"
        assert "The job was resumed" in (await http.post(f"{page}/resume", data=form)).text
        assert "Suspended" not in (await http.get("/")).text
        done = f"/jobs/{served.scene.jobs['Harbour at dusk, master']}"
        refused = await http.post(f"{done}/suspend", data={**form, "back": done})
        assert "Only a running job can be suspended" in refused.text


async def test_the_memory_of_a_lane_is_freed_and_an_unknown_verb_changes_nothing(served: Served) -> None:
    await served.scene.queue.sql("UPDATE vidqueue.lanes SET warm = '{upscale}' WHERE name = 'gpu0'")
    async with served.http as http:
        html = (await http.get("/lanes")).text
        assert "/lanes/gpu0/free" in html
        form = {"token": token_in(html), "back": "/lanes", "host": "studio"}
        assert "frees the memory of its models" in (await http.post("/lanes/gpu0/free", data=form)).text
        for address in ("/lanes/cpu0/explode", "/queue/explode"):
            assert (await http.post(address, data=form)).status_code == 404
        assert "The queue is paused" not in (await http.get("/")).text
    asked = "SELECT free_requested_at IS NOT NULL AS asked FROM vidqueue.lanes WHERE name = 'gpu0'"
    assert (await served.scene.queue.sql(asked))[0]["asked"]
    await served.scene.queue.sql("UPDATE vidqueue.lanes SET free_requested_at = NULL, warm = '{}' WHERE name = 'gpu0'")


async def test_waiting_jobs_say_when_they_are_done_or_go_on(served: Served) -> None:
    queue = served.scene.queue
    moment = datetime.now(UTC)
    row = (await queue.job(served.scene.jobs["Dailies, roll 07"]))._replace(position=3, position_is_bound=False)
    for more, told in (
        ({"wait_reason": "busy", "eta_s": 185.0}, "all lanes are busy · position 3 · done in about 3 min 5 s"),
        ({"wait_reason": "outside_window", "opens_at": moment + timedelta(hours=2, seconds=5)},
         "its lanes are closed at this time · position 3 · open in 2 h"),
        ({"wait_reason": "scheduled", "position": None, "run_at": moment + timedelta(hours=3, seconds=5)},
         "scheduled for later · in 3 h"),
        ({"wait_reason": "owner_limit"}, "its owner has reached a limit · position 3"),
        ({"wait_reason": "peer_warming", "position": None, "run_at": moment}, "peer warming"),
    ):  # fmt: skip
        assert words.wait(row._replace(**more)) == told
    async with served.http as http:
        listed = (await http.get("/jobs?tag=dailies")).text
        assert "done in about" in listed
        assert "waits " in listed
        assert "done in about" in (await http.get(f"/jobs/{served.scene.jobs['Dailies, roll 07']}")).text


async def test_the_list_is_filtered_by_time(served: Served) -> None:
    async with served.http as http:
        html = (await http.get("/jobs")).text
        assert 'name="created_after"' in html
        later = f"{datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%dT%H:%M}"
        none = await http.get(f"/jobs?created_after={later}&created_before=")
        assert "No job matches" in none.text
        assert f'value="{later}"' in none.text
        some = await http.get("/jobs", params={"created_before": f"{later}:00+02:00", "limit": 2})
        assert f'value="{datetime.fromisoformat(f"{later}+02:00").astimezone(UTC):%Y-%m-%dT%H:%M}"' in some.text
        assert (await http.get("/jobs?created_after=tomorrow")).status_code == 422
        assert (await http.get("/jobs?created_after=0001-01-01T00:00:00%2B14:00")).status_code == 200


async def test_hours_of_a_week_become_rules_that_open_these_hours() -> None:
    chance = random.Random(7)
    for number in range(400):
        hours = set(chance.sample(range(24), chance.randint(1, 24)))
        share = chance.random()
        cells = {cell for cell in week.EVERY if (chance.random() < share if number % 2 else cell[1] in hours)}
        assert not cells or week.cells(windows.check(week.rules(cells))) == cells
    for rules in (["22:00-07:00"], ["sat-sun"], ["mon-fri 06:00-08:00"], ["sun 22:00-03:00"], []):
        assert week.rules(week.cells(rules)) == rules
    assert week.cells(["22:30-01:30"]) == {(day, hour) for day in range(7) for hour in (23, 0)}


async def test_the_week_of_a_lane_is_a_grid_that_sets_its_windows(served: Served) -> None:
    page = "/lanes/cpu1/windows"
    read = "SELECT windows, windows_zone, windows_end, windows_by FROM vidqueue.lanes WHERE name = 'cpu1'"
    async with served.http as http:
        html = (await http.get(f"{page}?host=studio")).text
        assert html.count(" checked") == 7 * 24
        form = {"token": token_in(html), "host": "studio", "timezone": "Europe/Berlin", "at_end": "suspend"}
        night = {f"{day}-{hour}": "1" for day in windows.DAYS for hour in (22, 23, 0, 1)}
        saved = await http.post(page, data={**form, **night})
        assert "Lane cpu1 works in 22:00-02:00." in saved.text
        assert (await served.scene.queue.sql(read))[0] == {
            "windows": ["22:00-02:00"], "windows_zone": "Europe/Berlin", "windows_end": "suspend",
            "windows_by": "person",
        }  # fmt: skip
        assert 'class="week"' in saved.text
        assert (await http.get(page)).text.count(" checked") == 7 * 4
        assert "No hour is ticked" in (await http.post(page, data=form)).text
        wrong = await http.post(page, data={**form, "rules": "22:30-25:00", "timezone": "Mars/Base"})
        assert (wrong.status_code, "no clock shows" in wrong.text, "22:30-25:00" in wrong.text) == (422, True, True)
        text = await http.post(page, data={**form, "rules": "mon 22:30-01:15\r\n"})
        assert "works in mon 22:30-01:15" in text.text
        assert "begin or end within an hour" in (await http.get(page)).text
        assert "works at all times" in (await http.post(page, data={**form, "rules": ""})).text
        assert (await http.get("/lanes/none/windows")).status_code == 404
