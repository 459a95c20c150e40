"""The pages in Chromium: they keep themselves current, work by keyboard and without scripts, and play what was made."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, expect

from tests.dashboard.conftest import Served, Watched
from vidqueue.job import AttemptRef, Failed, Failure
from vidqueue.jobs.bulk_runner import acting_in_bulk
from vidqueue.processors import registry
from vidqueue.progress import LogLine, Progress

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def running(served: Served, title: str) -> AttemptRef:
    """A job of this title that runs on a lane of its own."""
    lane = f"lane-{title.lower()}"
    await served.scene.queue.submit(processor="transcode", title=title, lane=lane, max_attempts=1)
    served.scene.lanes[lane] = await served.scene.queue.lane(lane, processors={"transcode": "1.0"}, host="studio")
    return await served.scene.begin(lane)


async def test_progress_and_the_end_of_a_job_appear_without_a_reload(served: Served, watched: Watched) -> None:
    ref = await running(served, "Followed")
    page = watched.page
    await page.goto(f"/jobs/{ref.job_id}")
    await expect(page.locator("#live")).to_contain_text("Live")
    await page.evaluate("window.kept = true")
    seen = Progress(0.62, "encode", "Half a minute more", fps=50, speed=2.0, eta_s=30)
    await served.scene.report(ref, seen, LogLine("A line that was written just now"))
    await expect(page.locator(".status")).to_contain_text("62 %")
    await expect(page.locator("#log")).to_contain_text("A line that was written just now")
    await served.scene.end(ref, Failed(Failure.of("media_damaged", "It ends within a picture.")))
    await expect(page.locator(".status")).to_contain_text("Failed")
    await expect(page.locator(".remedy")).to_contain_text("It ends within a picture.")
    await expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert await page.evaluate("window.kept")


async def test_a_new_page_keeps_what_a_person_types_selects_and_opens(served: Served, watched: Watched) -> None:
    page, ref = watched.page, await running(served, "Typing")
    await page.goto("/jobs")
    await expect(page.locator("#live")).to_contain_text("Live")
    box = page.locator(f"#pick-{served.scene.jobs['Archive reel 12']}")
    await box.check()
    await page.locator("#text").fill("half a wo")
    await served.scene.report(ref, Progress(0.31, "encode"))
    await expect(page.locator(f"#job-{ref.job_id}")).to_contain_text("31 %")
    await expect(box).to_be_checked()
    await expect(page.locator("#text")).to_have_value("half a wo")
    await expect(page.locator("#text")).to_be_focused()
    await expect(page.locator("[data-count]")).to_have_text("1 selected")


async def test_the_overview_shows_a_pause_of_another_person_and_keeps_an_open_menu(
    served: Served, watched: Watched
) -> None:
    page = watched.page
    await page.goto("/")
    await expect(page.locator("#live")).to_contain_text("Live")
    await page.locator("#pause summary").click()
    await page.get_by_label("Reason").fill("Lunch")
    ref = await running(served, "Beside")
    await expect(page.locator("#lane-studio-lane-beside")).to_contain_text("Beside")
    await expect(page.get_by_label("Reason")).to_have_value("Lunch")
    await page.get_by_role("button", name="Pause the queue").click()
    await expect(page.locator(".banner.warn")).to_contain_text("Lunch")
    await expect(page.locator("#notice")).to_contain_text("Paused: no more jobs start")
    # A notice stays while the page keeps itself current.
    await served.scene.report(ref, Progress(0.9, "encode"))
    await expect(page.locator("#lane-studio-lane-beside")).to_contain_text("90 %")
    await expect(page.locator("#notice")).to_contain_text("Paused: no more jobs start")
    await page.get_by_role("button", name="Resume", exact=True).first.click()
    await expect(page.locator("#notice")).to_contain_text("Resumed: jobs start again")


async def test_a_page_of_jobs_is_canceled_by_keyboard(served: Served, watched: Watched) -> None:
    page = watched.page
    for _ in range(3):
        await served.scene.queue.submit(processor="transcode", title="By keyboard", tags=("keys",))
    await page.goto("/jobs?tag=keys")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.locator("[data-all]").focus()
    await page.keyboard.press("Space")
    await expect(page.locator("[data-count]")).to_have_text("3 selected")
    await page.get_by_role("button", name="Cancel").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#notice")).to_have_text("3 jobs canceled.")
    assert page.url.endswith("/jobs?tag=keys")


async def test_the_result_plays(served: Served, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"/jobs/{served.scene.jobs['Harbour at dusk, master']}")
    player = page.locator("#output-video video")
    await player.evaluate("video => { video.muted = true; return video.play(); }")
    moved = "video => new Promise((done) => { video.ontimeupdate = () => video.currentTime > 0.2 && done(true); })"
    assert await player.evaluate(moved)
    assert await player.evaluate("video => video.videoWidth") == 640


async def test_a_command_is_copied(served: Served, watched: Watched) -> None:
    page = watched.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(f"/jobs/{served.scene.jobs['Archive reel 12']}")
    await page.locator("#command-1 summary").click()
    await page.locator("#command-1 [data-copy]").click()
    await expect(page.locator("#command-1 [data-copy]")).to_have_text("Copied")
    assert (await page.evaluate("navigator.clipboard.readText()")).startswith("curl --json")


def pages_of(served: Served) -> list[str]:
    """Every page of the dashboard once."""
    jobs = served.scene.jobs
    names = ("Interview, camera B", "Harbour at dusk, master", "Harbour at dusk, 4K")
    reports = [f"/reports?report={name}&days=7" for name in ("usage", "waits", "eta")]
    log = f"/jobs/{jobs['Interview, camera B']}/attempts/1"
    others = (
        "/",
        "/jobs",
        f"/jobs?batch={served.scene.batch}",
        "/lanes",
        "/lanes/gpu0/windows",
        "/batches",
        "/bulk",
        "/schedules",
        "/audit",
        log,
    )
    return [*others, *reports, "/submit", "/system", "/login", *(f"/jobs/{jobs[name]}" for name in names)]


async def test_axe_finds_nothing_serious_on_any_page(served: Served, watched: Watched) -> None:
    page, found = watched.page, {}
    schemes: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        # Dark is other colours on the same pages.
        for address in pages_of(served) if scheme == "light" else pages_of(served)[::3]:
            await page.goto(address)
            report = await Axe().run(page)
            for fault in report.response["violations"]:
                if fault["impact"] in ("serious", "critical"):
                    found[scheme, address, fault["id"]] = [node["html"][:200] for node in fault["nodes"]][:4]
    assert found == {}


async def test_all_jobs_that_match_are_canceled_with_progress_and_undone(served: Served, watched: Watched) -> None:
    page, services = watched.page, served.scene.services
    await served.scene.queue.sql(
        "INSERT INTO vidqueue.jobs (processor, input, owner, device, tags) "
        "SELECT 'transcode', '{}', 'local', 'cpu', ARRAY['heap'] FROM generate_series(1, 300)"
    )
    await page.goto("/jobs?tag=heap")
    with acting_in_bulk(services.database, services.storage, services.watchdog):
        await page.get_by_text("All that match").click()
        await page.get_by_role("button", name="Cancel all").click()
        await expect(page.locator(".bulkaction")).to_contain_text("Cancel 300 jobs")
        await page.get_by_role("button", name="Undo").click()
        await expect(page.locator("#notice")).to_have_text("Undone: no job was changed.")
        await page.get_by_text("All that match").click()
        await page.get_by_role("button", name="Cancel all").click()
        await expect(page.locator(".bulkaction")).to_contain_text("begins in")
        await served.scene.queue.sql("UPDATE vidqueue.bulk_actions SET begins_at = now() WHERE ended_at IS NULL")
        await expect(page.locator(".bulkaction")).to_contain_text("done, 300 jobs changed")
        await expect(page.locator("table.jobs tbody tr").first).to_contain_text("Canceled")


async def test_input_and_output_are_compared_by_a_slider(served: Served, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"/jobs/{served.scene.jobs['Harbour at dusk, master']}")
    await page.locator("#compare summary").click()
    await expect(page.locator(".stage video")).to_have_count(2)
    await page.get_by_label("Edge between").fill("25")
    assert (
        await page.locator(".stage > :last-child").evaluate("video => video.style.clipPath") == "inset(0px 0px 0px 25%)"
    )
    await page.get_by_label("Time of both").fill("500")
    for place in ("first", "last"):
        video = page.locator(f".stage > :{place}-child")
        await expect(video).to_have_js_property("currentTime", 2)


async def test_no_page_is_wider_than_a_phone(served: Served, watched: Watched) -> None:
    page = watched.page
    await page.set_viewport_size({"width": 360, "height": 740})
    forms = [f"/submit?processor={name}" for name in registry.catalogue()]
    for address in (*pages_of(served), *forms):
        await page.goto(address)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360, address


async def test_the_pages_do_their_work_without_scripts(served: Served, browser: Browser) -> None:
    context = await browser.new_context(base_url=served.url, java_script_enabled=False)
    page = await context.new_page()
    job_id = await served.scene.queue.submit(processor="transcode", title="Without scripts")
    await page.goto("/jobs?state=queued")
    await page.get_by_role("link", name="Without scripts").click()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#notice")).to_have_text("The job was canceled.")
    await page.locator("#delete summary").click()
    await page.get_by_role("button", name="Delete for good").click()
    await expect(page.locator("#notice")).to_have_text("The job was deleted.")
    assert (await page.goto(f"/jobs/{job_id}")).status == 404  # type: ignore[union-attr]
    await context.close()
