"""Injects the faults: draws them from a shuffled deck, one or two at a time, and records when each began."""

from __future__ import annotations

import random
import threading
import time

import psycopg

from tests.storm.faults import Blow, Fault, faults_for
from tests.storm.history import BrokenError, History
from tests.storm.world import World

AT_ONCE = 2
# Between two of them there has to be time for work, or there is nothing to be broken.
PAUSE_S = (1.0, 6.0)


class Weather(threading.Thread):
    """Strikes until told to stop, and returns when everything it broke is mended."""

    def __init__(
        self, world: World, history: History, seed: str, stop: threading.Event, *, longest_s: float, only: str = ""
    ) -> None:
        super().__init__(name="weather")
        self.world, self.history, self.stop, self.longest_s = world, history, stop, longest_s
        self.random = random.Random(f"{seed}/weather")
        self.faults = faults_for(world, only)
        self._busy: set[str] = set()
        self._striking: list[threading.Thread] = []

    def run(self) -> None:
        """Draw and strike."""
        deck: list[Fault] = []
        while not self.stop.wait(self.random.uniform(*PAUSE_S)):
            self._striking = [thread for thread in self._striking if thread.is_alive()]
            if len(self._striking) >= AT_ONCE:
                continue
            deck = deck or self.random.sample(self.faults, len(self.faults))
            if (fault := next((fault for fault in deck if not fault.needs & self._busy), None)) is not None:
                deck.remove(fault)
                self._strike(fault)
        for thread in self._striking:
            thread.join()

    def _strike(self, fault: Fault) -> None:
        self._busy |= fault.needs
        blow = Blow(self.world, random.Random(self.random.random()), self.stop, self.longest_s)
        thread = threading.Thread(target=self._carry_out, args=(fault, blow), name=fault.name)
        self._striking.append(thread)
        thread.start()

    def _carry_out(self, fault: Fault, blow: Blow) -> None:
        try:
            with self.history.striking(fault.name) as struck:
                struck.detail = fault.strike(blow)
                self.history.count(f"fault: {fault.name}" if struck.detail else f"missed: {fault.name}")
        except psycopg.OperationalError:
            # Recovery from the fault before is still under way. It struck nothing, and does not count as a fault.
            self.history.count(f"missed: {fault.name}")
        except BrokenError as problem:
            self.history.fail(problem)
        except Exception as error:  # a fault that cannot be mended ends the storm
            self.history.fail(BrokenError(f"after the fault {fault.name!r}: {error!r}"))
            raise
        finally:
            self._busy -= fault.needs


def settle(history: History, seconds: float) -> None:
    """Wait until no fault has lasted for so long."""
    while history.calm_for_s() < seconds:
        time.sleep(0.2)
