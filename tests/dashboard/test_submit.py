"""The submit page: forms made from schemas, files in the form itself, and files that a script uploads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Request, Route, expect
from pydantic import Field

from tests.dashboard.conftest import Served, Watched
from tests.dashboard.test_pages import token_in
from vidqueue.api.web import schema_form
from vidqueue.errors import VidqueueError
from vidqueue.job import Device
from vidqueue.processors import registry
from vidqueue.processors.base import Context, Parameters, Processor, VideoInput

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Many(Parameters):
    video: VideoInput
    name: str | None = None
    speed: Literal["slow", "fast"] = "slow"
    pace: Literal["low", "high"] | Literal["none"] | None = None
    level: float = Field(0.5, ge=0, le=1)
    count: int | None = None
    loud: bool = True
    marks: list[int] = Field(default_factory=list)
    shape: dict[str, Any] | None = None


class ManyProcessor(Processor):
    """Has one parameter of each kind."""

    name = "many"
    device: Device = "cpu"  # type: ignore[misc]
    Params = Many

    def run(self, params: Any, ctx: Context) -> Any:
        raise NotImplementedError


FIELDS = schema_form.fields_of(ManyProcessor())


async def test_each_kind_of_parameter_has_its_control() -> None:
    assert [(one.name, one.kind) for one in FIELDS] == [
        ("video", "media"), ("name", "text"), ("speed", "choice"), ("pace", "choice"), ("level", "number"),
        ("count", "number"), ("loud", "switch"), ("marks", "json"), ("shape", "json"),
    ]  # fmt: skip
    assert [one.name for one in FIELDS if one.required] == ["video"]
    assert [one.choices for one in FIELDS if one.name == "pace"] == [("low", "high", "none")]
    labels = {one.name: one.label for one in schema_form.fields_of(registry.find("transcode"))}
    assert [labels[name] for name in ("max_size_mb", "bitrate_kbit", "crf", "max_fps", "audio_tracks")] == [
        "Max size (MB)", "Bitrate (kbit/s)", "CRF", "Max FPS", "Audio tracks",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"p.loud": "on"}, {}),
        ({}, {"loud": False}),
        ({"p.loud": "on", "p.level": "0.5", "p.speed": "slow", "p.name": " "}, {}),
        ({"p.loud": "on", "p.level": "1e-1", "p.count": "7", "p.marks": "[1, 2]", "p.shape": '{"a": null}'},
         {"level": 0.1, "count": 7, "marks": [1, 2], "shape": {"a": None}}),
        ({"p.loud": "on", "p.name": "0"}, {"name": "0"}),
    ],
)  # fmt: skip
async def test_texts_become_parameters_and_defaults_are_left_out(given: dict[str, str], made: dict[str, Any]) -> None:
    assert schema_form.parameters(FIELDS, given) == made


@pytest.mark.parametrize("given", [{"p.count": "1.5"}, {"p.level": "much"}, {"p.marks": "[1,"}])
async def test_a_text_that_is_no_value_names_its_field(given: dict[str, str]) -> None:
    with pytest.raises(VidqueueError) as refused:
        schema_form.parameters(FIELDS, given)
    assert refused.value.errors[0]["pointer"] == f"/input/{next(iter(given))[2:]}"


async def test_every_processor_has_a_form(served: Served) -> None:
    async with served.http as http:
        for name in registry.catalogue():
            html = (await http.get("/submit", params={"processor": name})).text
            for field in schema_form.fields_of(registry.catalogue()[name]):
                assert f'name="{field.key}"' in html, field.name
        assert (await http.get("/submit?processor=none")).status_code == 404


async def test_a_form_with_files_makes_a_job_of_each(served: Served) -> None:
    clip = (served.scene.folder / "harbour.mp4").read_bytes()
    async with served.http as http:
        token = token_in((await http.get("/submit")).text)
        fields = {"token": token, "p.quality": "high", "p.faststart": "on", "p.video": "", "tags": "one, two"}
        one = await http.post("/submit/transcode", data=fields, files=[("f.video", ("a.mp4", clip, "video/mp4"))])
        job = (await http.get(f"/v1{one.url.path}")).json()
        assert (job["title"], job["tags"]) == ("a.mp4", ["one", "two"])
        assert job["input"] == {"video": job["input"]["video"], "quality": "high"}
        files = [("f.video", (f"{name}.mp4", clip, "video/mp4")) for name in "bcd"]
        many = await http.post("/submit/transcode", data=fields, files=files)
        assert many.url.path == "/jobs"
        assert [name for name in "bcd" if f"{name}.mp4" in many.text] == ["b", "c", "d"]


async def test_a_form_that_is_refused_keeps_what_was_filled_in(served: Served) -> None:
    clip = (served.scene.folder / "harbour.mp4").read_bytes()
    async with served.http as http:
        token = token_in((await http.get("/submit")).text)
        fields = {"token": token, "p.width": "7", "title": "Kept title", "p.faststart": "on"}
        answer = await http.post("/submit/transcode", data=fields, files=[("f.video", ("a.mp4", clip, "video/mp4"))])
    assert answer.status_code == 422
    assert "Kept title" in answer.text
    assert re.search(r"vq:files/[0-9a-f-]{36}", answer.text)
    assert "greater than or equal to 16" in answer.text


async def test_a_missing_medium_and_a_wrong_address_are_told_at_their_field(served: Served) -> None:
    async with served.http as http:
        token = token_in((await http.get("/submit")).text)
        nothing = [("f.video", ("", b"", "application/octet-stream"))]
        missing = await http.post("/submit/transcode", data={"token": token, "p.video": ""}, files=nothing)
        wrong = await http.post("/submit/transcode", data={"token": token, "p.video": "/etc/passwd"}, files=nothing)
    assert missing.status_code == 422
    assert "Field required" in missing.text
    assert wrong.status_code == 422
    assert "input_root" in wrong.text or "inputs.roots" in wrong.text


async def test_a_form_that_is_only_checked_says_what_the_jobs_would_meet_and_queues_nothing(served: Served) -> None:
    clip, queue = (served.scene.folder / "harbour.mp4").read_bytes(), served.scene.queue
    before = await queue.sql("SELECT count(*) AS jobs FROM vidqueue.jobs")
    async with served.http as http:
        token = token_in((await http.get("/submit")).text)
        fields = {"token": token, "p.quality": "high", "p.faststart": "on", "check": "1", "title": "Only looked at"}
        files = [("f.video", (f"{name}.mp4", clip, "video/mp4")) for name in "ab"]
        told = (await http.post("/submit/transcode", data=fields, files=files)).text
        assert "Nothing was submitted yet" in told
        assert told.count("<td>cpu0, cpu1") + told.count("<td>lane-") == 2
        assert re.search(r'<td class="right">[0-9.]+ m?s</td>', told)
        assert told.count("all lanes are busy") == 2
        assert len(set(re.findall(r"vq:files/[0-9a-f-]{36}", told))) == 2
        wrong = await http.post("/submit/transcode", data={**fields, "p.width": "7"}, files=files[:1])
        assert (wrong.status_code, "greater than or equal to 16" in wrong.text) == (422, True)
        nowhere = await http.post("/submit/transcode", data={**fields, "labels": "quiet, fast"}, files=files[:1])
        assert "has the labels: fast, quiet" in nowhere.text
        assert 'name="labels" value="quiet, fast"' in nowhere.text
        never = {"processor": "transcode", "lane": "gpu0", "input": {"video": f"vq:files/{served.scene.file}"}}
        for address, body in (("/v1/jobs", never), ("/v1/batches", {"jobs": [never]})):
            refused = await http.post(address, json=body)
            assert (refused.status_code, refused.json()["code"]) == (422, "no_lane")
    assert await queue.sql("SELECT count(*) AS jobs FROM vidqueue.jobs") == before


@pytest.mark.parametrize("token", ["", "x" * 43])
async def test_a_forged_form_stores_nothing(served: Served, token: str) -> None:
    before = (await served.scene.queue.sql("SELECT count(*) AS files FROM vidqueue.files"))[0]["files"]
    async with served.http as http:
        await http.get("/submit")
        form = {"token": token} if token else {"other": "x"}
        answer = await http.post("/submit/transcode", data=form, files=[("f.video", ("a.mp4", b"x" * 99, "video/mp4"))])
    assert answer.status_code == 403
    assert (await served.scene.queue.sql("SELECT count(*) AS files FROM vidqueue.files"))[0]["files"] == before


async def test_files_are_dropped_uploaded_with_progress_and_submitted(served: Served, watched: Watched) -> None:
    page = watched.page
    await page.goto("/submit")
    chosen = [str(_copy(served, name)) for name in ("first.mp4", "second.mp4")]
    await page.locator("[data-drop] input[type=file]").set_input_files(chosen)
    await expect(page.locator(".uploads li")).to_have_count(2)
    # Dropped as a person would: the event carries the file itself.
    await page.locator("[data-drop]").evaluate(
        """async (place, address) => {
            const bytes = await (await fetch(address)).arrayBuffer();
            const dropped = new DataTransfer();
            dropped.items.add(new File([bytes], "third.mp4", { type: "video/mp4" }));
            place.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
        }""",
        f"/v1/files/{served.scene.file}/content",
    )
    await page.get_by_label("Quality").select_option("low")
    await page.get_by_role("button", name="Submit").click()
    await page.wait_for_url("**/jobs?batch=*")
    for name in ("first.mp4", "second.mp4", "third.mp4"):
        await expect(page.locator("table.jobs")).to_contain_text(name)


async def test_an_upload_that_breaks_off_goes_on_where_it_stopped(served: Served, watched: Watched) -> None:
    page = watched.page
    path = served.scene.folder / "large.mp4"
    path.write_bytes((served.scene.folder / "harbour.mp4").read_bytes() + bytes(6_000_000))
    sent: list[str] = []

    def note(asked: Request) -> None:
        if "/v1/uploads" in asked.url:
            sent.append(asked.headers.get("upload-offset", asked.method))

    page.on("request", note)

    async def breaks_off(route: Route) -> None:
        # Half of it arrives, as when a line breaks; the page gets no answer.
        half = path.read_bytes()[:3_000_000]
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        async with served.http as http:
            assert (await http.patch(route.request.url, content=half, headers=headers)).status_code == 204
        await route.abort("connectionreset")

    await page.goto("/submit")
    await page.route("**/v1/uploads/*", breaks_off, times=1)
    await page.locator("[data-drop] input[type=file]").set_input_files(str(path))
    await expect(page.locator(".uploads li")).to_contain_text("uploaded", timeout=20_000)
    assert sent == ["POST", "0", "HEAD", "3000000"]
    # The browser tells of the broken request by itself.
    watched.faults.remove("Failed to load resource: net::ERR_CONNECTION_RESET")


async def test_what_was_uploaded_stays_when_the_page_is_left_and_a_part_goes_on_later(
    served: Served, watched: Watched
) -> None:
    page = watched.page
    path = served.scene.folder / "left.mp4"
    path.write_bytes((served.scene.folder / "harbour.mp4").read_bytes() + bytes(5_000_000))
    await page.goto("/submit")
    await page.locator("[data-drop] input[type=file]").set_input_files(str(_copy(served, "whole.mp4")))
    await expect(page.locator(".uploads li")).to_contain_text("uploaded")
    asked: list[str] = []

    async def stalls(route: Route) -> None:
        asked.append(route.request.headers.get("upload-offset", ""))

    await page.route("**/v1/uploads/*", stalls)
    await page.locator("[data-drop] input[type=file]").set_input_files(str(path))
    await expect(page.locator(".uploads li")).to_have_count(2)
    while not asked:
        await page.wait_for_timeout(20)
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto("/lanes")
    await page.unroute("**/v1/uploads/*")
    await page.goto("/submit")
    rows = page.locator(".uploads li")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("whole.mp4")
    await expect(rows.nth(1)).to_contain_text("choose the file again")
    await page.locator("[data-drop] input[type=file]").set_input_files(str(path))
    await expect(rows).to_have_count(2)
    await expect(rows.nth(1)).to_contain_text("uploaded")
    await page.get_by_role("button", name="Submit").click()
    await page.wait_for_url("**/jobs?batch=*")
    for name in ("whole.mp4", "left.mp4"):
        await expect(page.locator("table.jobs")).to_contain_text(name)
    await page.goto("/submit")
    await expect(page.locator(".uploads li")).to_have_count(0)
    assert watched.faults == []


async def test_a_job_is_submitted_without_scripts(served: Served, browser: Browser) -> None:
    context = await browser.new_context(base_url=served.url, java_script_enabled=False)
    page = await context.new_page()
    await page.goto("/submit?processor=thumbnails")
    await page.locator("input[type=file]").set_input_files(str(_copy(served, "plain.mp4")))
    await page.get_by_role("button", name="Submit").click()
    await expect(page.locator("h1")).to_have_text("plain.mp4")
    await expect(page.locator(".status")).to_contain_text("Queued")
    await context.close()


def _copy(served: Served, name: str) -> Path:
    path = served.scene.folder / name
    path.write_bytes((served.scene.folder / "harbour.mp4").read_bytes())
    return path


async def test_files_that_are_still_uploading_are_checked_and_not_submitted(served: Served, watched: Watched) -> None:
    page = watched.page
    before = await served.scene.queue.sql("SELECT count(*) AS jobs FROM vidqueue.jobs")
    await page.goto("/submit")
    await page.locator("[data-drop] input[type=file]").set_input_files(str(served.scene.folder / "harbour.mp4"))
    await page.get_by_role("button", name="Check only").click()
    await expect(page.locator("#checked")).to_contain_text("Nothing was submitted yet")
    assert await served.scene.queue.sql("SELECT count(*) AS jobs FROM vidqueue.jobs") == before
    # It is still shown as a file with its name, not as the text of its reference; after a refusal too.
    sources = page.locator("[data-drop] textarea")
    for _ in range(2):
        await expect(page.locator(".uploads li")).to_contain_text("harbour.mp4")
        await expect(sources).to_have_value("")
        await page.get_by_label("Background").fill("soon")
        await page.get_by_role("button", name="Submit", exact=True).click()
        await expect(page.locator(".banner.bad")).to_be_visible()
    await page.get_by_label("Background").fill("")
    await page.get_by_role("button", name="Submit", exact=True).click()
    await expect(page.locator(".status")).to_contain_text("Queued")
    await expect(page.locator("h1")).to_have_text("harbour.mp4")
    await page.goto("/submit")
    await expect(page.locator(".uploads li")).to_have_count(0)
    # The browser tells of the refusals by itself.
    for _ in range(2):
        watched.faults.remove(
            "Failed to load resource: the server responded with a status of 422 (Unprocessable Entity)"
        )
