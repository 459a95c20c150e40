"""`make screenshots`: photographs every page of a planted scene, on a desktop, on a phone, and dark."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.conftest import _make_template
from tests.dashboard.conftest import a_database, chromium, open_services
from tests.dashboard.scene import plant
from vidqueue.api.server import listening
from vidqueue.db.embedded import server as embedded

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
                        "batches": "/batches",
                        "batch": f"/jobs?batch={scene.batch}",
                        "system": "/system",
                        "error": "/jobs/00000000-0000-7000-8000-000000000000",
                    }
                    await _all(program, address, pages, target)


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
