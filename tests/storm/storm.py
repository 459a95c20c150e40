"""A storm from its beginning to the verdict: opens the world, lets everyone loose, calls them back, checks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from tests.storm import checks, peers, report
from tests.storm.clients import Client, SqlClient
from tests.storm.floors import Tally, too_calm
from tests.storm.history import FINAL_PATIENCE_S, BrokenError, History
from tests.storm.operator import Operator
from tests.storm.people import Person
from tests.storm.receivers import Receiver, everything_was_told
from tests.storm.timetable import Timetable
from tests.storm.watch import Watch
from tests.storm.weather import Weather
from tests.storm.world import World
from tests.web import Web, serving

HTTP_CLIENTS = 4
PEOPLE = 2
# A full storm lasts ten minutes and may take the database away for this long; a short one less.
LONGEST_AWAY_S = 30.0
FULL_S = 600.0


class Storm:
    """One storm on one world."""

    def __init__(self, world: World, web: Web, seed: str, seconds: float, *, only: str = "", often: str = "") -> None:
        self.world, self.seed, self.seconds, self.only = world, seed, seconds, only
        self.history = History()
        self.ticker = report.Ticker(self.history, seed, seconds)
        self._all_stop, self._faults_stop, self._watch_stop = (threading.Event() for _ in range(3))
        longest_s = max(6.0, min(LONGEST_AWAY_S, LONGEST_AWAY_S * seconds / 120))
        self._weather = Weather(world, self.history, seed, self._faults_stop, longest_s=longest_s, only=only)
        self._watch = Watch(world, self.history, self._watch_stop)
        common = (world, self.history, seed, self._all_stop)
        self._crowd: list[threading.Thread] = [
            Client(f"http-{number}", *common, often=often) for number in range(HTTP_CLIENTS)
        ]
        self._crowd += [SqlClient("sql", *common, often=often)]
        self._crowd += [Person(number, PEOPLE, *common) for number in range(PEOPLE)]
        self._crowd += [Operator(*common)]
        self._receiver = Receiver(web, seed)
        self._timetable = Timetable(world)

    def rage(self) -> None:
        """Everything at once for the time of the storm, then calm; ends at the first broken promise."""
        threads = [self._watch, self._weather, *self._crowd]
        self._receiver.register(self.world.hosts["A"].url)
        self._timetable.register()
        try:
            for thread in threads:
                thread.start()
            self._wait(self.seconds, "rages")
            self._faults_stop.set()
            self._join([self._weather], "mends")
            self._all_stop.set()
            self._join(self._crowd, "calms down")
            if not self.history.broken.is_set():
                self._timetable.stop()
            self._until_final()
        finally:
            for event in (self._faults_stop, self._all_stop, self._watch_stop):
                event.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def verdict(self) -> None:
        """Check everything that has to be true now; daemons are up when it begins and down when it ends."""
        self._note(checks.rows_are_right(self.world, self.history, also=self._timetable.jobs()))
        self._note(self._timetable.every_time_came(self.history))
        self._note(checks.results_are_right(self.world))
        self._note(everything_was_told(self.world, self.history, self._receiver))
        self._note(peers.nothing_was_done_twice(self.world.folder, self.history))
        self._note(peers.nothing_is_left_at_work(self.world.video_server))
        self._note(too_calm(self._tally(), only=bool(self.only)))
        if self.history.problems:
            return
        self._note(checks.drain_all(self.world))
        self._note(checks.nobody_is_left(self.world))
        self._note(checks.sweep_takes_strays(self.world, self.history))
        self._note(checks.rows_are_right(self.world, self.history, also=self._timetable.jobs()))
        self._note(checks.results_are_right(self.world))

    def _tally(self) -> Tally:
        (row,) = self.world.postgres.sql("SELECT count(*) AS n FROM vidqueue.attempts WHERE outcome = 'interrupted'")
        struck = report.named(self.history.counts, "fault: ")
        possible = frozenset(fault.name for fault in self._weather.faults)
        return Tally(self.seconds, len(self.history.orders), row["n"], struck, possible)

    def _note(self, problems: Iterable[BrokenError]) -> None:
        for problem in problems:
            self.history.fail(problem)

    def _wait(self, seconds: float, phase: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.history.broken.wait(0.25):
            self.ticker.tick(phase)

    def _join(self, threads: Iterable[threading.Thread], phase: str) -> None:
        while any(thread.is_alive() for thread in threads):
            self.ticker.tick(phase)
            time.sleep(0.1)

    def _until_final(self) -> None:
        deadline = time.monotonic() + FINAL_PATIENCE_S
        while not self.history.broken.is_set():
            open_ = self.world.postgres.sql(
                "SELECT id, state FROM vidqueue.jobs WHERE state IN ('queued', 'running') ORDER BY created_at"
            )
            if not open_:
                return
            if time.monotonic() > deadline:
                first, left = open_[0], f"{len(open_)} jobs are not final {FINAL_PATIENCE_S} s after the storm"
                self.history.fail(BrokenError(f"{left}; this one is {first['state']}", str(first["id"])))
            self.ticker.tick("waits for the last jobs")
            time.sleep(0.3)


def run(seed: str, seconds: float, *, keep: bool = False, only: str = "", often: str = "") -> bool:
    """Run one storm and tell of it; whether every promise was kept."""
    with World() as world, serving() as web:
        storm = Storm(world, web, seed, seconds, only=only, often=often)
        if world.small_disk is None:
            print("this user may not mount a small disk: the fault 'full disk' is left out")
        storm.rage()
        if not storm.history.problems:
            storm.verdict()
        passed = not storm.history.problems
        world.keep = keep or not passed
        report.show(report.summary(world, storm.history, seed))
        if not passed:
            report.explain(world, storm.history, f"make storm SEED={seed} SECONDS={seconds:g}")
        elif keep:
            print(f"Data folders and logs are kept in {world.folder}")
    return passed
