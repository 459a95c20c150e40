"""Notifies the service manager: ready, alive, stopping. Does nothing where there is none.

Each message is a datagram of `NAME=value` lines to the socket that the environment names (sd_notify(3),
sd_watchdog_enabled(3)).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

import structlog

# systemd reads at once; a manager that does not must not block the event loop.
SEND_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager that started this process. `address` is empty if there is none.

    `feed_every_s` is the interval of watchdog messages: half of WatchdogSec. None if it has no watchdog.
    """

    address: str
    feed_every_s: float | None

    def tell(self, **variables: str) -> None:
        """Send variables such as `READY="1"`; log if the manager cannot be reached."""
        if not self.address:
            return
        try:
            _send(self.address, message(variables))
        except OSError as error:
            log.warning("systemd_not_notified", variables=list(variables), error=str(error))


def manager_of(environment: MutableMapping[str, str]) -> Manager:
    """Return the manager that the environment names; remove its variables, so that no child sends in our name."""
    address = environment.pop("NOTIFY_SOCKET", "")
    period_us = environment.pop("WATCHDOG_USEC", "")
    # The variables may have been meant for our parent process.
    ours = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
    fed = ours and period_us.isdecimal() and int(period_us) > 0
    return Manager(address, int(period_us) / 2_000_000 if fed else None)


def message(variables: dict[str, str]) -> bytes:
    """Encode variables, one per line; line breaks inside a value become spaces."""
    return "\n".join(f"{name}={' '.join(value.split())}" for name, value in variables.items()).encode()


def _send(address: str, datagram: bytes) -> None:
    # An address that begins with @ is an abstract one, which begins with NUL for the kernel (unix(7)).
    target = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(SEND_TIMEOUT_S)
        client.sendto(datagram, target)
