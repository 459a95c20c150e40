"""`vidqueue serve`: runs the daemon. Flags override the environment, which overrides the file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from cyclopts import Parameter

from vidqueue.cli.options import SOURCE, Source
from vidqueue.cli.settings import load, reread


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Overrides:
    """The keys of the configuration that are set on the command line often enough to have a flag."""

    host: str | None = None
    """Address to listen on."""
    port: int | None = None
    """Port to listen on; 0 chooses a free port."""
    database_url: str | None = None
    """Address (postgresql://) of your own server. Others can see it: put one with a password into database.url_file."""
    cpu_lanes: int | None = None
    """Number of CPU lanes."""
    gpu: Literal["auto", "off"] | None = None
    """`auto` creates one lane for each GPU, `off` creates none."""
    inputs_root: tuple[str, ...] | None = None
    """Folder whose files jobs may name by path; may be given more than once."""
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    """Lowest level of the log that is written."""

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
    """Run the daemon until Ctrl-C or SIGTERM. Running jobs get time to finish.

    Exit codes: 0 after a clean stop, 69 if the database is not usable, 75 if another daemon uses the data folder, 78 if
    the configuration is invalid.

    Args:
        role: `api` accepts jobs, `worker` runs them, `all` does both.
        source: The configuration to read.
        overrides: Configuration set by flags.
    """
    loaded = load(source, overrides.as_settings())
    from vidqueue import daemon

    return daemon.serve(loaded.settings, partial(reread, source, overrides.as_settings()), role, loaded.origins)
