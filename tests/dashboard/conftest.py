"""A served scene, which tests of this folder share where they do not change it, and Chromium."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import TEMPLATE, fresh
from tests.dashboard.scene import Scene, plant
from vidqueue.api.server import listening
from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.jobs.inputs import Inputs
from vidqueue.ops.watchdog import Watchdog
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import Storage


@contextmanager
def a_database(server_url: str) -> Iterator[str]:
    """A migrated database for the time of the block."""
    yield from fresh(server_url, TEMPLATE)


@asynccontextmanager
async def open_services(database_url: str, folder: Path) -> AsyncIterator[Services]:
    """All services open, without lanes."""
    values = {"data_dir": folder / "data", "inputs": {"roots": [folder]}, "api": {"port": 0}}
    settings, watchdog = Settings(**values), Watchdog()  # type: ignore[arg-type]
    async with Database(database_url) as database, EventFeed(database, watchdog) as event_feed:
        storage = Storage(settings.data_dir)
        yield Services(settings, database, event_feed, storage, Inputs(database, storage, settings), watchdog)


class Served:
    """A scene behind a real server."""

    def __init__(self, scene: Scene, url: str) -> None:
        self.scene = scene
        self.url = url

    @property
    def http(self) -> httpx2.AsyncClient:
        """A new client with a jar for cookies; a browser without scripts."""
        return httpx2.AsyncClient(base_url=self.url, timeout=20, follow_redirects=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The scene behind a real server, one for each module."""
    folder = tmp_path_factory.mktemp("dashboard")
    with a_database(server_url) as url:
        async with open_services(url, folder) as services, listening(services) as address:
            yield Served(await plant(services, folder), address)


def chromium() -> str | None:
    """The path of Chromium, if the machine has it."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Watched:
    """A page of Chromium that keeps what must not happen: console errors, CSP violations, requests to other hosts."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", lambda told: self.faults.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda asked: self.faults.append(asked.url) if not asked.url.startswith(url) else None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium of the machine; skips where there is none."""
    program = chromium()
    if program is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    async with async_playwright() as play:
        launched = await play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def watched(browser: Browser, served: Served) -> AsyncIterator[Watched]:
    """A new page in a new profile; fails if anything happened that must not."""
    context = await browser.new_context(base_url=served.url)
    context.set_default_timeout(15_000)
    watched = Watched(await context.new_page(), served.url)
    yield watched
    await context.close()
    assert watched.faults == []
