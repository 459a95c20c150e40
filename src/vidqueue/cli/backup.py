"""`vidqueue db dump` and `vidqueue db restore`: one archive with the database and the stored files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vidqueue.cli.database import reachable
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DASH, LOOK, SOURCE, Look, Source
from vidqueue.cli.settings import load_beside_daemon
from vidqueue.cli.terminal import Screen, size_text, warn

if TYPE_CHECKING:
    from vidqueue.jobs.backup import Manifest, Restored, Tell
    from vidqueue.settings.schema import Settings


def dump(
    target: Annotated[Path, DASH],
    /,
    *,
    without_files: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    programs: Path | None = None,
    source: Source = SOURCE,
    look: Look = LOOK,
) -> int:
    """Write the database and the stored files into one archive. The daemon may keep running.

    The archive is a tar file that `vidqueue db restore` reads. It holds the files of this data folder only.

    Args:
        target: File to write, or `-` for standard output.
        without_files: Leave out the stored files.
        force: Replace a file that exists.
        programs: Folder of PostgreSQL's programs of an older version, for an embedded database that it made.
        source: The configuration to read.
        look: The format of the output.
    """
    settings, screen = _prepared(source, look)
    if programs is not None and settings.database.url is not None:
        raise CommandError("--programs applies only to the embedded database; database.url is set.", exit=Exit.USAGE)
    if str(target) == "-":
        scratch = Path(tempfile.gettempdir())
        dumping = _dump(settings, screen, sys.stdout.buffer, scratch, programs, with_files=not without_files)
        manifest, gone = asyncio.run(dumping)
    else:
        with _written_aside(target, force=force) as file:
            scratch = target.absolute().parent
            dumping = _dump(settings, screen, file, scratch, programs, with_files=not without_files)
            manifest, gone = asyncio.run(dumping)
    _tell_dumped(screen, manifest, target, gone)
    return Exit.OK


def restore(archive: Annotated[Path, DASH], /, *, source: Source = SOURCE, look: Look = LOOK) -> int:
    """Restore an archive of `vidqueue db dump` into an empty database and this data folder. No daemon may run on it.

    The database is restored whole or not at all. Jobs that ran when the archive was written run again.

    Args:
        archive: File to read, or `-` for standard input.
        source: The configuration to read.
        look: The format of the output.
    """
    settings, screen = _prepared(source, look)
    try:
        with sys.stdin.buffer if str(archive) == "-" else archive.open("rb") as file:
            restored = asyncio.run(_restore(settings, screen, file))
    except OSError as error:
        raise CommandError(f"{archive} cannot be read: {error.strerror}.") from None
    _tell_restored(screen, restored, source)
    return Exit.ERROR if restored.damaged else Exit.OK


def _prepared(source: Source, look: Look) -> tuple[Settings, Screen]:
    from vidqueue.ops import logs

    settings = load_beside_daemon(source).settings
    logs.configure("error")
    return settings, Screen(look)


async def _dump(
    settings: Settings, screen: Screen, file: IO[bytes], scratch: Path, programs: Path | None, *, with_files: bool
) -> tuple[Manifest, int]:
    from vidqueue.jobs import backup
    from vidqueue.storage.local import Storage

    with _bar(screen) as tell, _as_command_errors():
        async with reachable(settings, programs=programs) as address:
            storage = Storage(settings.data_dir)
            return await backup.write(address, storage, file, scratch=scratch, with_files=with_files, tell=tell)


async def _restore(settings: Settings, screen: Screen, file: IO[bytes]) -> Restored:
    from vidqueue.db.fitness import require_fit
    from vidqueue.jobs import backup
    from vidqueue.storage.local import Storage

    with _bar(screen) as tell, _as_command_errors():
        async with backup.opened(file) as (manifest, archive), reachable(settings, alone=True) as address:
            await require_fit(address)
            return await backup.restore(address, Storage(settings.data_dir), manifest, archive, tell=tell)


@contextlib.contextmanager
def _as_command_errors() -> Iterator[None]:
    from vidqueue.db.embedded.programs import EmbeddedError
    from vidqueue.db.fitness import DatabaseUnfitError
    from vidqueue.db.programs import ProgramError
    from vidqueue.errors import VidqueueError
    from vidqueue.jobs.backup import BackupError

    try:
        yield
    except (BackupError, ProgramError) as error:
        raise CommandError.of(error) from None
    except (DatabaseUnfitError, EmbeddedError, VidqueueError, TimeoutError) as error:
        hint = "Run `vidqueue doctor` for details."
        raise CommandError.of(error, exit=Exit.UNAVAILABLE, hint=hint) from None


@contextlib.contextmanager
def _written_aside(target: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Write a private file beside the target, and give it the name when it is complete and on the disk."""
    if os.path.lexists(target) and not force:
        raise CommandError(f"{target} exists.", hint="--force replaces it.", exit=Exit.USAGE)
    if not target.absolute().parent.is_dir():
        raise CommandError(f"There is no folder {target.absolute().parent}.", hint="Make it first.", exit=Exit.USAGE)
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.rename(target)
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}.") from None
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _bar(screen: Screen) -> Iterator[Tell]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=screen.err, disable=not screen.live or screen.json, transient=True)
    task = bar.add_task("database", total=None)

    def tell(what: str, done: int, total: int) -> None:
        bar.start()  # the first time: a command that is refused draws nothing
        bar.update(task, description=what, completed=done, total=total or None)

    try:
        yield tell
    finally:
        bar.stop()


def _tell_dumped(screen: Screen, manifest: Manifest, target: Path, gone: int) -> None:
    if gone:
        warn(f"{gone} of the files were deleted before they were copied; their rows are in the archive.")
    if screen.json and str(target) != "-":
        screen.object({"archive": str(target), "files": manifest.files - gone, "bytes": manifest.bytes})
        return
    screen.say(f"{target}: the database and {manifest.files - gone} files ({size_text(manifest.bytes)})")


def _tell_restored(screen: Screen, restored: Restored, source: Source) -> None:
    for file_id in restored.damaged:
        warn(f"file {file_id} is damaged in the archive and was not restored")
    if restored.newer:
        warn(f"{restored.newer} stored files came after the backup; they were moved to {restored.aside}")
    if restored.absent:
        warn(f"{restored.absent} files that the database names are not here; jobs that need them fail with file_lost")
    if screen.json:
        screen.object(
            {
                "created_at": restored.manifest.created_at,
                "files": restored.files,
                "damaged": [str(file_id) for file_id in restored.damaged],
                "absent": restored.absent,
                "newer": restored.newer,
            }
        )
        return
    screen.write(f"Restored the backup of {restored.manifest.created_at}: the database and {restored.files} files.")
    where = ["--config", str(source.config)] if source.config else []
    where += ["--data-dir", str(source.data_dir)] if source.data_dir else []
    screen.say(f"`{shlex.join(['vidqueue', 'serve', *where])}` starts the daemon on it.")
