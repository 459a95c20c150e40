"""What the service manager is told: ready, alive, stopping. Without one, nothing happens.

A datagram of `NAME=value` lines to the socket that the environment names: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

import structlog

# systemd reads at once; a manager that does not must not hold the event loop.
SEND_PATIENCE_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager that started us. `address` is empty where there is none.

    `feed_every_s` is how often its watchdog is to be fed: half of what it waits for. None where it has no watchdog.
    """

    address: str
    feed_every_s: float | None

    def tell(self, **words: str) -> None:
        """Send words such as `READY="1"`; a manager that cannot be reached is logged."""
        if not self.address:
            return
        try:
            _send(self.address, message(words))
        except OSError as error:
            log.warning("systemd_not_told", words=list(words), error=str(error))


def manager_of(environment: MutableMapping[str, str]) -> Manager:
    """The manager that the environment tells of; its variables are taken out, so that no child speaks in our name."""
    address = environment.pop("NOTIFY_SOCKET", "")
    period_us = environment.pop("WATCHDOG_USEC", "")
    # The variables may have been meant for the process that started us.
    ours = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
    fed = ours and period_us.isdecimal() and int(period_us) > 0
    return Manager(address, int(period_us) / 2_000_000 if fed else None)


def message(words: dict[str, str]) -> bytes:
    """One line a word; a value is one line, whatever it was before."""
    return "\n".join(f"{name}={' '.join(value.split())}" for name, value in words.items()).encode()


def _send(address: str, datagram: bytes) -> None:
    # An address that begins with @ is an abstract one, which the kernel knows by a leading NUL (unix(7)).
    target = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.settimeout(SEND_PATIENCE_S)
        speaker.sendto(datagram, target)
