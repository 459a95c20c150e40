"""`make screenshots`: photographs every page of a planted scene, on a desktop, on a phone, and dark."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.conftest import _make_template
from tests.dashboard.conftest import a_database, chromium, open_services
from tests.dashboard.scene import Scene, plant
from vidqueue.api.server import listening
from vidqueue.db.embedded import server as embedded
from vidqueue.jobs import control

LOOKS = {
    "desktop": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2, "is_mobile": True,
        "has_touch": True,
    },
}  # fmt: skip


async def photograph(target: Path) -> None:
    """Make every picture."""
    program = chromium()
    if program is None:
        sys.exit("chromium is not installed (apt-get install chromium)")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vidqueue-screenshots-") as name:
        folder = Path(name)
        async with embedded.running(folder / "server") as server_url:
            await _make_template(server_url)
            with a_database(server_url) as url:
                async with open_services(url, folder) as services, listening(services) as address:
                    scene = await plant(services, folder)
                    await _acts(scene)
                    jobs = scene.jobs
                    pages = {
                        "overview": "/",
                        "jobs": "/jobs",
                        "jobs-failed": "/jobs?state=failed",
                        "job-running": f"/jobs/{jobs['Harbour at dusk, 4K']}",
                        "job-succeeded": f"/jobs/{jobs['Harbour at dusk, master']}",
                        "job-failed": f"/jobs/{jobs['Interview, camera B']}",
                        "submit": "/submit",
                        "submit-export": "/submit?processor=export",
                        "lanes": "/lanes",
                        "windows": "/lanes/gpu0/windows",
                        "batches": "/batches",
                        "batch": f"/jobs?batch={scene.batch}",
                        "bulk": "/bulk",
                        "schedules": "/schedules",
                        "reports-usage": "/reports?report=usage&days=7",
                        "reports-waits": "/reports?report=waits",
                        "reports-failures": "/reports?report=failures",
                        "audit": "/audit",
                        "job-graph": f"/jobs/{jobs['Reel, joined']}",
                        "system": "/system",
                        "error": "/jobs/00000000-0000-7000-8000-000000000000",
                    }
                    await _all(program, address, pages, target)


async def _acts(scene: Scene) -> None:
    """Somebody has done things: a job is suspended, and the audit and the list of bulk actions are not empty."""
    await control.suspend(scene.database, scene.jobs["Street scene, faces blurred"], owner=None)
    await scene.queue.sql(
        "UPDATE vidqueue.lanes SET windows = %s, windows_zone = 'Europe/Berlin', windows_by = 'person', "
        "warm = '{upscale}' WHERE name = 'gpu0'", ["mon-fri 20:00-08:00", "sat-sun"],
    )  # fmt: skip
    for minutes, act, target, detail in (
        (47, "pause schedules", str(scene.file), {}),
        (31, "change jobs", str(scene.jobs["Harbour at dusk, 4K"]), {"priority": 5}),
        (9, "drain lanes", "gpu1", {"reason": "Rendering by hand until six"}),
        (4, "cancel jobs", str(scene.jobs["Wrong upload"]), {}),
    ):
        await scene.queue.sql(
            "INSERT INTO vidqueue.audit (at, owner, role, act, target, detail) "
            "VALUES (now() - make_interval(mins => %s), 'local', 'admin', %s, %s, %s::jsonb)",
            minutes, act, target, json.dumps(detail),
        )  # fmt: skip
    await scene.queue.sql("""
        INSERT INTO vidqueue.bulk_actions
            (owner, verb, selection, states, matched, looked, changed, begins_at, ended_at, undone)
        VALUES ('local', 'retry', '{"tag": "dailies"}', ARRAY['failed'], 41, 41, 41, now(), now() - interval '1 h',
                false),
               ('local', 'delete', '{}', ARRAY['succeeded'], 12840, 0, 0, now(), now() - interval '2 h', true),
               ('local', 'cancel', '{"processor": "transcode"}', ARRAY['queued', 'running'], 300, 0, 0,
                now() + interval '9 s', NULL, false)
    """)


async def _all(program: str, address: str, pages: dict[str, str], target: Path) -> None:
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for look, options in LOOKS.items():
            context = await browser.new_context(base_url=address, **options)  # type: ignore[arg-type]
            page = await context.new_page()
            for name, path in pages.items():
                await page.goto(path)
                await page.wait_for_timeout(300)
                await page.screenshot(path=target / f"{name}-{look}.png", full_page=True)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(photograph(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")))
