"""`vidqueue serve`: the daemon. Flags outrank the environment, which outranks the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cyclopts import Parameter

from vidqueue.cli.options import SOURCE, Source
from vidqueue.cli.settings import load


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Overrides:
    """The keys of the configuration that are set on the command line often enough to have a flag."""

    host: str | None = None
    """Address to listen on."""
    port: int | None = None
    """Port to listen on; 0 takes a free one."""
    database_url: str | None = None
    """postgresql:// address of your server; else an embedded one runs. Other users can see arguments: where the
    address holds a password, set database.url_file instead."""
    cpu_lanes: int | None = None
    """Number of CPU lanes."""
    gpu: Literal["auto", "off"] | None = None
    """`auto` makes one lane per GPU, `off` none."""
    inputs_root: tuple[str, ...] | None = None
    """Folder whose files jobs may name by path; may be given more than once."""
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    """Least level of the log that is written."""

    def as_settings(self) -> dict[str, Any]:
        """Nested as in the file."""
        return {
            "api": {"host": self.host, "port": self.port},
            "database": {"url": self.database_url},
            "lanes": {"cpu": self.cpu_lanes, "gpu": self.gpu},
            "inputs": {"roots": list(self.inputs_root or ()) or None},
            "log": {"level": self.log_level},
        }


NO_OVERRIDES = Overrides()


def serve(
    *,
    role: Literal["all", "api", "worker"] = "all",
    source: Source = SOURCE,
    overrides: Overrides = NO_OVERRIDES,
) -> int:
    """Run the daemon until Ctrl-C or SIGTERM; running jobs may finish first.

    Exit codes: 0 after a clean stop, 69 when the database cannot serve, 75 when another daemon uses the data folder,
    78 for a faulty configuration.

    Args:
        role: `api` takes jobs, `worker` runs them, `all` does both.
        source: Where the configuration is read from.
        overrides: What is set by flags.
    """
    settings = load(source, overrides.as_settings()).settings
    from vidqueue import daemon

    return daemon.serve(settings, role)
