"""A client of the event stream of all jobs, as a dashboard would be one."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx2

from tests.daemon import Daemon


class Listener:
    """An SSE client; remembers what it heard."""

    def __init__(self, daemon: Daemon, after: int | None = None) -> None:
        self.heard: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(daemon.url, after), daemon=True)
        self._thread.start()
        assert self._connected.wait(10)

    def _listen(self, url: str, after: int | None) -> None:
        headers = {"Last-Event-ID": str(after)} if after is not None else {}
        with httpx2.stream("GET", f"{url}/v1/events", headers=headers, timeout=60) as stream:
            for line in stream.iter_lines():
                self._connected.set()
                if line.startswith("data: "):
                    self.heard.append(json.loads(line[6:]))
                if self._stop.is_set():
                    return

    def kinds(self, job_id: str) -> list[str]:
        return [event["kind"] for event in self.heard if event["job_id"] == job_id and event["kind"] != "progress"]

    def hang_up(self) -> int:
        self._stop.set()
        return int(self.heard[-1]["number"])
