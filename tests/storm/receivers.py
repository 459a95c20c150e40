"""Receivers of webhooks in a storm: one that is slow and refuses now and then, and one that is absent."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx2

from tests.daemon import until
from tests.storm.history import BrokenError, History
from tests.storm.world import World
from tests.web import Asked, Web, answer

# Longer than the lease of a delivery whose sender was killed, and some tries.
PATIENCE_S = 150.0


class Receiver:
    """Takes deliveries at `/hook` of a server: some late, and some only when they come again."""

    def __init__(self, web: Web, seed: str) -> None:
        self.url = f"{web.url}/hook"
        self.taken: set[str] = set()
        self._refused: set[str] = set()
        self._random = random.Random(f"{seed}/receiver")
        self._lock = threading.Lock()
        web.pages["/hook"] = self._take

    def register(self, url: str) -> None:
        """Have a daemon tell this receiver, and an absent one, of the end of every job."""
        for receiver in (self.url, "http://127.0.0.1:9/hook"):
            added = httpx2.post(f"{url}/v1/webhooks", json={"url": receiver, "events": ["completed"]}, timeout=20)
            assert added.status_code == 201, added.text

    def _take(self, server: BaseHTTPRequestHandler, asked: Asked) -> None:
        name = asked.headers["webhook-id"]
        with self._lock:
            refuses = name not in self._refused and self._random.random() < 0.2
            waits = self._random.random() < 0.1
            if refuses:
                self._refused.add(name)
        if waits:
            time.sleep(1)
        if not refuses:
            self.taken.add(name)
        # Its sender may have been killed meanwhile.
        with contextlib.suppress(OSError):
            answer(500 if refuses else 200)(server, asked)


def everything_was_told(world: World, history: History, receiver: Receiver) -> Iterator[BrokenError]:
    """The end of every job was sent, and what counts as delivered was received. The absent receiver held up nobody."""
    left = "SELECT id, state FROM vidqueue.webhook_deliveries WHERE url = '{url}' AND state <> 'delivered'"
    try:
        until(lambda: not world.postgres.sql(left.format(url=receiver.url)), within_s=PATIENCE_S, what="all is told")
    except AssertionError:
        yield BrokenError(f"not delivered: {world.postgres.sql(left.format(url=receiver.url))[:3]}")
        return
    rows = world.postgres.sql(f"SELECT id, job_id FROM vidqueue.webhook_deliveries WHERE url = '{receiver.url}'")
    for row in rows:
        if f"msg_{row['id'].hex}" not in receiver.taken:
            yield BrokenError(f"delivery {row['id']} counts as delivered, and was not", str(row["job_id"]))
    told = {str(row["job_id"]) for row in rows}
    for job_id, order in history.orders.items():
        if not order.deleted and job_id not in told:
            yield BrokenError("nobody was told of the end of this job", job_id)
    for _ in told:
        history.count("told of its end")
