"""The submit page: forms made from schemas, files in the form itself, and files that a script uploads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, expect
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
        ("video", "media"), ("name", "text"), ("speed", "choice"), ("level", "number"), ("count", "number"),
        ("loud", "switch"), ("marks", "json"), ("shape", "json"),
    ]  # fmt: skip
    assert [one.name for one in FIELDS if one.required] == ["video"]


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
