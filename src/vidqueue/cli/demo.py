"""`vidqueue demo`: starts a temporary daemon, runs a few jobs from upload to download, and stops it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.demo_jobs import Delivered, deliver, submit_all
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.follow import changes
from vidqueue.cli.inputs import Inputs
from vidqueue.cli.options import LOOK, Look, Source
from vidqueue.cli.render import board
from vidqueue.cli.settings import load
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen, duration_text, state_text
from vidqueue.cli.transfer import upload

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from vidqueue.settings.schema import Settings

CLIP_SECONDS = 3
REPORT = (
    "SELECT processor, jobs, succeeded, failed, canceled, median_wait_s, median_run_s "
    "FROM vidqueue_report.throughput_hourly ORDER BY processor"
)
VIOLATIONS = "SELECT invariant, job_id::text, detail FROM vidqueue_report.invariant_violations"


def demo(
    *,
    video: Path | None = None,
    out: Path = Path("demo-out"),
    data_dir: Path | None = None,
    keep: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    look: Look = LOOK,
) -> int:
    """Start a daemon with its own database, run six jobs, show the results, stop.

    Your configuration is not used, and other daemons are not affected. The exit code is 0 only if every job succeeded
    and every result was written.

    Args:
        video: A video of yours. The default is a generated clip with sound.
        out: Folder for the results. It stays, and no file in it is replaced.
        data_dir: Folder for the files and database of the daemon. It is kept. The default is a temporary folder.
        keep: Keep the temporary folder too.
        look: The format of the output.
    """
    screen = Screen(look)
    if video is not None:
        Inputs(may_upload=True).check([str(video)])
    _make_out(out)
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(data_dir, keep=keep, screen=screen))
        screen.say("Starting a daemon with its own PostgreSQL ...")
        portal, url, database_url = stack.enter_context(_daemon(_settings(folder)))
        screen.say(f"It listens on {url} and stores everything in {folder}.")
        client = stack.enter_context(Client(url))
        jobs = _run_jobs(client, screen, video, folder)
        delivered = [deliver(client, screen, job, out) for job in jobs if job["state"] == "succeeded"]
        report, broken = portal.call(_ask, database_url, REPORT), portal.call(_ask, database_url, VIOLATIONS)
        screen.say("Stopping ...")
    _show(screen, jobs, delivered, report, broken)
    whole = len(delivered) == len(jobs) and all(one.is_whole for one in delivered)
    return Exit.OK if whole and not broken else Exit.JOB_FAILED


def _make_out(out: Path) -> None:
    """Make the folder of the results, and see that it can be written to, before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"Cannot create the folder {out}: {error.strerror}.") from None
    Target(str(out)).check()


@contextmanager
def _folder(given: Path | None, *, keep: bool, screen: Screen) -> Iterator[Path]:
    """The data folder of the daemon. A temporary one is removed at the end, unless `keep` is set."""
    folder = given.absolute() if given else Path(tempfile.mkdtemp(prefix="vidqueue-demo-"))
    try:
        yield folder
    finally:
        if given or keep:
            screen.say(f"The data folder is kept: vidqueue serve --data-dir {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path) -> Settings:
    """Settings of a daemon that is independent of any other daemon on this machine."""
    for name in [*os.environ]:
        if name.startswith("VIDQUEUE_") or name in ("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"):
            del os.environ[name]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "vidqueue.toml"
    file.write_text('[api]\nport = 0\n\n[running]\ndrain_timeout_s = 0\n\n[log]\nlevel = "error"\n', encoding="utf-8")
    return load(Source(config=file, data_dir=folder)).settings


@contextmanager
def _daemon(settings: Settings) -> Iterator[tuple[BlockingPortal, str, str]]:
    """A daemon in another thread, so that Ctrl-C reaches this one; yields its portal, its URL and its database URL."""
    from anyio.from_thread import start_blocking_portal

    from vidqueue import daemon
    from vidqueue.db.embedded.programs import EmbeddedError
    from vidqueue.db.fitness import DatabaseUnfitError
    from vidqueue.ops import logs
    from vidqueue.ops.data_folder import DataFolderBusyError

    logs.configure(settings.log.level, settings.log.format)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal("asyncio"))
        try:
            running = stack.enter_context(portal.wrap_async_context_manager(daemon.running(settings)))
        except DataFolderBusyError as error:
            raise CommandError.of(error, exit=Exit.BUSY, hint="Choose another --data-dir.") from None
        except (DatabaseUnfitError, EmbeddedError, TimeoutError) as error:
            raise CommandError.of(error, exit=Exit.UNAVAILABLE, hint="Run `vidqueue doctor` for details.") from None
        assert running.url is not None
        yield portal, running.url, running.database_url


def _run_jobs(client: Client, screen: Screen, video: Path | None, folder: Path) -> list[Job]:
    clip = video or _make_clip(folder)
    reference = f"vq:files/{upload(client, screen, clip)['id']}"
    jobs = {job["id"]: job for job in submit_all(client, reference)}
    screen.say(f"{len(jobs)} jobs on {clip.name}:")
    with board(screen) as shown:
        for job in changes(client, list(jobs), tell=screen.say):
            jobs[job["id"]] = job
            shown.put(job)
    return list(jobs.values())


def _make_clip(folder: Path) -> Path:
    from vidqueue.media.sample import make_sample

    clip = folder / "clip.mp4"
    clip.unlink(missing_ok=True)
    make_sample(clip, seconds=CLIP_SECONDS)
    return clip


async def _ask(database_url: str, query: str) -> list[dict[str, Any]]:
    """Run a query as a person would in psql."""
    from vidqueue.db.pool import Database

    async with Database(database_url) as database, database.transaction() as connection:
        cursor = await connection.execute(query.encode())
        return await cursor.fetchall()


def _show(
    screen: Screen,
    jobs: list[Job],
    delivered: list[Delivered],
    report: list[dict[str, Any]],
    broken: list[dict[str, Any]],
) -> None:
    if screen.json:
        results = [{"title": one.title, "path": str(one.path), **one.output} for one in delivered]
        screen.object({"results": results, "report": _plain(report), "invariant_violations": broken})
        return
    screen.lines("\nResults")
    screen.table(("FILE", "LENGTH", "PICTURE", "CODECS", "SIZE", "SHA256"), [one.row() for one in delivered])
    for job in jobs:
        if job["state"] != "succeeded":
            screen.write(state_text(job["state"]), job["title"], (job["error"] or {}).get("message", ""))
    screen.lines(f"\n{REPORT};")
    screen.table([name.upper() for name in report[0]] if report else (), [_cells(line) for line in report])
    screen.lines(f"\n{VIOLATIONS};")
    for line in broken:
        screen.write(str(line))
    if not broken:
        screen.write("(0 rows: no invariant is violated)")


def _cells(line: dict[str, Any]) -> list[str]:
    return [duration_text(float(value)) if name.endswith("_s") else str(value) for name, value in line.items()]


def _plain(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with decimals as JSON numbers."""
    return [
        {name: value if isinstance(value, str | int) else float(value) for name, value in one.items()} for one in report
    ]
