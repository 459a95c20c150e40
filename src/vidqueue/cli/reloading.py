"""`vidqueue reload`: loads new and changed processors into the daemon of a data folder."""

from __future__ import annotations

import os
import signal
import time

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import LOOK, SOURCE, Look, Source
from vidqueue.cli.settings import load_beside_daemon
from vidqueue.cli.terminal import Screen
from vidqueue.ops.data_folder import RunningDaemon, daemon_of

PATIENCE_S = 120.0
LOOK_EVERY_S = 0.1


def reload(*, source: Source = SOURCE, look: Look = LOOK) -> int:
    """Reload the processors of the daemon on this machine, including those installed since it started.

    Running jobs keep the code that they started with. If a processor can no longer be loaded, nothing changes.

    Args:
        source: The configuration to read; it says where the daemon's data folder is.
        look: The format of the output.
    """
    screen = Screen(look)
    data_dir = load_beside_daemon(source).settings.data_dir
    before = daemon_of(data_dir)
    if before is None:
        hint = (
            "The daemon is found by its data folder, not by its address: pass the --data-dir or --config of "
            "`vidqueue serve`, and run this as the user of the daemon, or as root."
        )
        raise CommandError(f"No daemon runs on {data_dir}.", exit=Exit.UNAVAILABLE, hint=hint)
    try:
        os.kill(before.pid, signal.SIGHUP)
    except ProcessLookupError:
        raise CommandError(f"The daemon on {data_dir} has ended.", exit=Exit.UNAVAILABLE) from None
    except PermissionError:
        hint = "Run this command as the user of the daemon, or as root."
        raise CommandError("The daemon belongs to another user.", exit=Exit.NOT_PERMITTED, hint=hint) from None
    deadline = time.monotonic() + PATIENCE_S
    while (now := daemon_of(data_dir)) is not None and now.pid == before.pid and time.monotonic() < deadline:
        if now.reloads > before.reloads:
            return _tell(screen, now)
        time.sleep(LOOK_EVERY_S)
    raise CommandError("The daemon has not answered.", exit=Exit.UNAVAILABLE, hint="See its log.")


def _tell(screen: Screen, daemon: RunningDaemon) -> int:
    if daemon.reload_error:
        first, *more = daemon.reload_error.splitlines()
        hint = "The daemon keeps its earlier processors."
        raise CommandError(first, hint=hint, details=more)
    if screen.json:
        screen.object({"reloaded": daemon.reloaded})
    else:
        screen.write(daemon.reloaded)
    return Exit.OK
