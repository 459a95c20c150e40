"""People who cancel, retry, change and delete jobs over HTTP, whatever state these are in."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

import httpx2

from tests.storm.history import BrokenError, History, Order
from tests.storm.world import World


@dataclass(frozen=True)
class Deed:
    """What a person does: a request, and the answers that may come of it (the daemon being there and able).

    Attributes:
        states: in which states it makes the most of a job.
    """

    name: str
    weight: int
    method: str
    path: str
    answers: frozenset[int]
    states: str


DEEDS = [
    Deed("cancel", 30, "POST", "/cancel", frozenset({202, 404, 409}), "running"),
    Deed("retry", 25, "POST", "/retry", frozenset({202, 404, 409, 422}), "failed,canceled"),
    Deed("patch", 25, "PATCH", "", frozenset({200, 404}), "queued"),
    Deed("delete", 10, "DELETE", "", frozenset({204, 404, 409}), "succeeded,failed,canceled"),
    Deed("read", 10, "GET", "", frozenset({200, 404}), "running"),
]


class Person(threading.Thread):
    """One of `crowd` people; each has jobs of their own to meddle with, so that what they were told stays true."""

    def __init__(
        self, number: int, crowd: int, world: World, history: History, seed: str, stop: threading.Event
    ) -> None:
        super().__init__(name=f"person-{number}")
        self.number, self.crowd, self.world, self.history, self.stop = number, crowd, world, history, stop
        self.random = random.Random(f"{seed}/{self.name}")
        self.http = httpx2.Client(timeout=20)

    def run(self) -> None:
        """Meddle until told to stop."""
        with self.history.watched(self.name), self.http:
            while not self.stop.wait(self.random.uniform(0.1, 0.8)):
                (deed,) = self.random.choices(DEEDS, [deed.weight for deed in DEEDS])
                if (order := self._choose(deed)) is not None:
                    self._do(deed, order)

    def _choose(self, deed: Deed) -> Order | None:
        """Mostly a job that is listed in a fitting state, now and then any: it may have moved on by then anyway."""
        pool = self._listed(deed.states) if self.random.random() < 0.7 else list(self.history.orders.values())
        mine = [order for order in pool if int(order.job_id[-2:], 16) % self.crowd == self.number and not order.deleted]
        return self.random.choice(mine) if mine else None

    def _listed(self, states: str) -> list[Order]:
        host = self.random.choice(list(self.world.hosts.values()))
        try:
            answer = self.http.get(f"{host.url}/v1/jobs", params={"state": states, "limit": 100})
        except httpx2.TransportError:
            return []
        if answer.status_code == 503:
            return []
        if answer.status_code != 200:
            raise BrokenError(f"the list was answered {answer.status_code}: {answer.text}")
        found = [self.history.orders.get(job["id"]) for job in answer.json()["jobs"]]
        # What was queued this moment may not have been acknowledged yet.
        return [order for order in found if order is not None]

    def _do(self, deed: Deed, order: Order) -> None:
        """Ask until the answer settles it."""
        order.cancel_sent |= deed.name == "cancel"
        order.retry_sent |= deed.name == "retry"
        body = {"priority": self.random.randint(-20, 20)} if deed.name == "patch" else None
        unsure = False
        while not self.history.broken.is_set():
            host = self.random.choice(list(self.world.hosts.values()))
            try:
                answer = self.http.request(deed.method, f"{host.url}/v1/jobs/{order.job_id}{deed.path}", json=body)
            except httpx2.TransportError as error:
                unsure = True
                self.history.act(order, self.name, f"{deed.name}: {type(error).__name__}")
                time.sleep(0.2)
                continue
            self.history.act(order, self.name, f"{deed.name}: {answer.status_code}")
            if answer.status_code == 503:
                unsure = True
                time.sleep(0.3)
                continue
            self._settle(deed, order, answer, unsure=unsure)
            return

    def _settle(self, deed: Deed, order: Order, answer: httpx2.Response, *, unsure: bool) -> None:
        self.history.count(f"{deed.name}: {answer.status_code}")
        if answer.status_code not in deed.answers:
            raise BrokenError(f"{deed.name} was answered {answer.status_code}: {answer.text}", order.job_id)
        if answer.status_code == 404 and not (unsure and deed.name == "delete"):
            raise BrokenError(f"{deed.name} was told that an acknowledged job does not exist", order.job_id)
        if deed.name == "delete" and answer.status_code in (204, 404):
            order.deleted = True
        if deed.name == "cancel" and answer.status_code == 202:
            order.cancel_accepted = True
