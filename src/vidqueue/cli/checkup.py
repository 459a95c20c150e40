"""`vidqueue doctor`: runs the checks and prints what they found and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.progress import Progress as Bar
from rich.text import Text

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import LOOK, SOURCE, Look, Source
from vidqueue.cli.settings import load_beside_daemon
from vidqueue.cli.terminal import Screen

if TYPE_CHECKING:
    from vidqueue.doctor.check import Check
    from vidqueue.settings.load import Loaded
    from vidqueue.settings.schema import Settings

STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def doctor(
    *,
    invariants: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    source: Source = SOURCE,
    look: Look = LOOK,
) -> int:
    """Check whether this machine meets the requirements of a daemon. The exit code is 1 after an error.

    Args:
        invariants: Check instead the consistency of the data: each invariant by its number, the stored files
            byte for byte, the processes.
        source: The configuration to read.
        look: The format of the output.
    """
    loaded, screen = load_beside_daemon(source), Screen(look)
    settings = loaded.settings
    from vidqueue.ops import logs

    # The checks report what matters; the log of an embedded server that is started only for them does not.
    logs.configure("error")
    levels: Counter[str] = Counter()
    for check in _promises(settings, screen) if invariants else _needs(loaded):
        levels[check.level] += 1
        _tell(screen, check)
    if not screen.json:
        screen.say(_sum(levels))
    return Exit.ERROR if levels["error"] else Exit.OK


def _sum(levels: Counter[str]) -> str:
    counts = [f"{levels[level]} {level}{'' if level == 'ok' or levels[level] == 1 else 's'}" for level in STYLES]
    return f"{levels.total()} checks: {', '.join(counts)}"


def _needs(loaded: Loaded) -> Iterator[Check]:
    from vidqueue.doctor.checks import examine_machine

    yield from examine_machine(loaded.settings, secret_files=_secret_files(loaded))
    yield from asyncio.run(_database(loaded.settings))


def _secret_files(loaded: Loaded) -> list[Path]:
    """The files that the address of the database came from; it may hold a password."""
    origin = Path(loaded.origins.get("database.url", ""))
    return [path for path in (loaded.settings.database.url_file, origin) if path is not None and path.is_file()]


def _promises(settings: Settings, screen: Screen) -> list[Check]:
    from vidqueue.cli.database import reachable
    from vidqueue.db.embedded.programs import EmbeddedError
    from vidqueue.db.fitness import DatabaseUnfitError
    from vidqueue.db.migrate import MigrationError
    from vidqueue.doctor.invariants import examine

    async def ask(bar: Bar) -> list[Check]:
        async with reachable(settings) as address:
            return await examine(
                address,
                settings,
                lambda what, seen, total: bar.update(task, description=what, completed=seen, total=total),
            )

    with Bar(console=screen.err, disable=not screen.live or screen.json, transient=True) as bar:
        task = bar.add_task("jobs", total=None)
        try:
            return asyncio.run(ask(bar))
        except (DatabaseUnfitError, EmbeddedError, MigrationError, TimeoutError) as error:
            hint = "Run `vidqueue doctor` for details."
            raise CommandError.of(error, exit=Exit.UNAVAILABLE, hint=hint) from None


def _tell(screen: Screen, check: Check) -> None:
    if screen.json:
        screen.object({"name": check.name, "level": check.level, "found": check.found, "advice": check.advice})
        return
    screen.write(Text(f"{check.level:<8}", style=STYLES[check.level]), f"{check.name:<12} {check.found}")
    if check.advice:
        screen.write(f"{'':<22}{check.advice}")


async def _database(settings: Settings) -> list[Check]:
    from vidqueue.cli.database import reachable
    from vidqueue.db.embedded import server as embedded
    from vidqueue.db.embedded.programs import EmbeddedError
    from vidqueue.doctor.check import Check
    from vidqueue.doctor.checks import examine_database
    from vidqueue.ops.data_folder import database_of

    external = settings.database.url is not None
    with contextlib.ExitStack() as stack:
        kind = "your server" if external else "embedded"
        if not external and not embedded.exists(settings.data_dir) and not database_of(settings.data_dir):
            # A question leaves no database behind.
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vidqueue-doctor-")))
            settings = settings.model_copy(update={"data_dir": scratch})
            kind = "embedded, tried in a temporary folder"
        try:
            async with reachable(settings) as address:
                return await examine_database(address, kind=kind)
        except CommandError as error:
            return [Check("database", "error", error.message, error.hint)]
        except (EmbeddedError, TimeoutError) as error:
            advice = "See postgres/server.log in the data folder, or set database.url to use a server of your own."
            return [Check("database", "error", f"The embedded server does not start: {error}", advice)]
