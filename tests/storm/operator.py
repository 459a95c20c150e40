"""An operator who pauses, drains and resumes everything, processors and lanes over HTTP, each for a short time."""

from __future__ import annotations

import random
import threading
from typing import Any

import httpx2

from tests.storm.history import BrokenError, History
from tests.storm.world import World

# Where, and how often. A lane of that name may be on both hosts, or on none that runs now.
PLACES = [("/v1", {}, 1), ("/v1", {"processor": "zoo"}, 1), ("/v1/lanes/cpu0", {}, 2), ("/v1/lanes/cpu3", {}, 2)]
VERBS = ("pause", "pause", "drain", "resume")
ANSWERS = {200, 404, 409, 503}


class Operator(threading.Thread):
    """Pauses one thing after another. Each pause ends by itself, so that the storm ends too."""

    def __init__(self, world: World, history: History, seed: str, stop: threading.Event) -> None:
        super().__init__(name="operator")
        self.world, self.history, self.stop = world, history, stop
        self.random = random.Random(f"{seed}/{self.name}")

    def run(self) -> None:
        """Pause until told to stop."""
        with self.history.watched(self.name), httpx2.Client(timeout=20) as http:
            while not self.stop.wait(self.random.uniform(2, 6)):
                self._act(http)

    def _act(self, http: httpx2.Client) -> None:
        ((place, what, _),) = self.random.choices(PLACES, [weight for *_, weight in PLACES])
        verb = self.random.choice(VERBS)
        if verb == "drain":
            what = {}
        body: dict[str, Any] = what if verb == "resume" else what | {"for_s": round(self.random.uniform(0.5, 2), 2)}
        host = self.random.choice(list(self.world.hosts.values()))
        try:
            answer = http.post(f"{host.url}{place}/{verb}", json=body, params=self._host(place))
        except httpx2.TransportError:
            return
        self.history.count(f"{verb}: {answer.status_code}")
        if answer.status_code not in ANSWERS:
            raise BrokenError(f"{place}/{verb} was answered {answer.status_code}: {answer.text}")

    def _host(self, place: str) -> dict[str, str]:
        return {"host": self.random.choice(list(self.world.hosts))} if "lanes" in place else {}
