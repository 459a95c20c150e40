"""Many people who watch the events of all jobs, in a process of their own: python -m tests.faults.crowd URL JOB N.

Prints a line of JSON when all of them are connected, and one when each has heard the end of the job or was cut off.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from dataclasses import dataclass, field
from urllib.parse import urlsplit

REQUEST = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"


@dataclass
class Watcher:
    """One connection, and what came over it."""

    connected: asyncio.Event = field(default_factory=asyncio.Event)
    events: int = 0
    heard_the_end: bool = False

    async def watch(self, host: str, port: int, end: bytes) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(REQUEST)
        await writer.drain()
        while line := await reader.readline():
            if line.startswith(b"retry:"):
                self.connected.set()
            if line.startswith(b"data:"):
                self.events += 1
                if end in line and b'"kind":"succeeded"' in line.replace(b" ", b""):
                    self.heard_the_end = True
                    break
        self.connected.set()
        writer.close()


async def main(url: str, job_id: str, count: int) -> None:
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    watchers = [Watcher() for _ in range(count)]
    tasks = []
    for watcher in watchers:
        tasks.append(asyncio.create_task(watcher.watch(address.hostname, address.port, job_id.encode())))
        await watcher.connected.wait()
    print(json.dumps({"connected": count}), flush=True)
    await asyncio.gather(*tasks, return_exceptions=True)
    heard = sum(watcher.heard_the_end for watcher in watchers)
    print(json.dumps({"heard_the_end": heard, "events": sum(watcher.events for watcher in watchers)}), flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
