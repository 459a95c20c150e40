"""Clients that submit jobs, over HTTP and over SQL, and repeat themselves with the same key until they know."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import httpx2
import psycopg

from tests.storm.history import BrokenError, History, Order
from tests.storm.kinds import Scene, draw
from tests.storm.world import World

# A client that asks so long for one job, with everything back in order, was left alone.
PATIENCE_S = 240
# Submits wait while so many jobs do: a storm is about faults, not about long lines.
LONGEST_LINE = 60
# What a chain may be told: its job has ended otherwise by now, or people deleted it, or another daemon has the bytes.
REFUSALS_OF_CHAINS = {"dependency_failed", "input_not_found", "file_elsewhere"}


class Client(threading.Thread):
    """Submits over HTTP to whichever daemon answers."""

    def __init__(
        self, name: str, world: World, history: History, seed: str, stop: threading.Event, *, often: str = ""
    ) -> None:
        super().__init__(name=name)
        self.world, self.history, self.stop = world, history, stop
        self.random = random.Random(f"{seed}/{name}")
        self.scene = Scene(self.random, world.clip, world.marks, often=often)
        self.http = httpx2.Client(timeout=20)
        self.line = 0

    def run(self) -> None:
        """Submit until told to stop; the job in hand is still seen through."""
        number = 0
        with self.history.watched(self.name), self.http:
            while not self.stop.wait(self.random.uniform(0, 0.4)):
                if self.history.counts["line"] > LONGEST_LINE:
                    continue
                number += 1
                kind, body = draw(self.scene)
                job_id = self.submit(f"{self.name}-{number}", kind.name, body)
                if job_id and self.random.random() < 0.1:
                    self.submit(f"{self.name}-{number}", kind.name, body)
                if job_id:
                    self._remember(kind.name, job_id)

    def _remember(self, kind: str, job_id: str) -> None:
        """What later jobs of this client may hang on."""
        kept = {
            "work": self.scene.texts,
            "transcode": self.scene.videos,
            "pinned_transcode": self.scene.pinned_videos,
        }
        if kind in kept:
            kept[kind].append(job_id)

    def submit(self, key: str, kind: str, body: dict[str, Any]) -> str | None:
        """Ask until there is an answer that settles it; the job's id, or None where it was refused."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not self.history.broken.is_set():
            host = self.random.choice(list(self.world.hosts.values()))
            try:
                answer = self.http.post(f"{host.url}/v1/jobs", json=body, headers={"Idempotency-Key": key})
            except httpx2.TransportError as error:
                self.history.count(f"submit: {type(error).__name__}")
                time.sleep(0.1)
                continue
            if answer.status_code == 503:
                self._unavailable(answer)
                continue
            return self._settled(answer, key, kind, body)
        if not self.history.broken.is_set():
            raise BrokenError(f"{self.name} asked {PATIENCE_S} s in vain for {key}")
        return None

    def _unavailable(self, answer: httpx2.Response) -> None:
        self.history.count("submit: 503")
        if "Retry-After" not in answer.headers:
            raise BrokenError(f"a 503 without Retry-After: {answer.text}")
        time.sleep(0.3)

    def _settled(self, answer: httpx2.Response, key: str, kind: str, body: dict[str, Any]) -> str | None:
        if answer.status_code == 202:
            job_id = str(answer.json()["id"])
            self.history.count("submit: 202")
            self.history.acknowledged(Order(job_id, kind, key, body, time.time()))
            return job_id
        code = answer.json().get("code") if answer.status_code in (409, 422) else None
        if code in REFUSALS_OF_CHAINS and "vq:jobs/" in json.dumps(body):
            self.history.count(f"submit: {code}")
            return None
        raise BrokenError(f"{key} ({kind}) was answered {answer.status_code}: {answer.text}")


class SqlClient(Client):
    """Submits by `vidqueue.submit()` in transactions of its own."""

    def submit(self, key: str, kind: str, body: dict[str, Any]) -> str | None:
        """Ask until a commit has landed."""
        more = {name: value for name, value in body.items() if name not in ("processor", "input")}
        arguments = ", ".join(f"{name} => %({name})s" for name in more)
        text = f"SELECT vidqueue.submit(%(processor)s, %(input)s, idempotency_key => %(key)s, {arguments}) AS id"
        values = {**more, "processor": body["processor"], "input": json.dumps(body["input"]), "key": key}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not self.history.broken.is_set():
            try:
                with psycopg.connect(
                    self.world.postgres.url, connect_timeout=5, application_name="client"
                ) as connection:
                    found = connection.execute(text.encode(), values).fetchone()
            except psycopg.OperationalError:
                self.history.count("SQL submit: away")
                time.sleep(0.3)
                continue
            except psycopg.DatabaseError as error:
                self._refused(error, key)
                return None
            assert found is not None
            self.history.count("SQL submit: committed")
            self.history.acknowledged(Order(str(found[0]), kind, key, body, time.time()))
            return str(found[0])
        if not self.history.broken.is_set():
            raise BrokenError(f"{self.name} asked {PATIENCE_S} s in vain for {key}")
        return None

    def _refused(self, error: psycopg.DatabaseError, key: str) -> None:
        code = str(error).split(":", 1)[0]
        if code not in REFUSALS_OF_CHAINS:
            raise BrokenError(f"{key} was refused by the database: {error}")
        self.history.count(f"SQL submit: {code}")
