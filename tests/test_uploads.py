"""A large upload that breaks off at 60 % and is finished by another process, after the daemon was killed meanwhile."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until
from vidqueue.media.sample import make_sample

SIZE = 64 << 20
STALLS = """
import http.client, sys, time, urllib.parse
url, path, count, size = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
connection = http.client.HTTPConnection(url.hostname, url.port)
connection.putrequest("PATCH", url.path)
for name, value in {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Length": size,
                    "Content-Type": "application/offset+octet-stream"}.items():
    connection.putheader(name, value)
connection.endheaders()
with open(path, "rb") as file:
    connection.send(file.read(count))
time.sleep(600)
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    started = Daemon(tmp_path / "data", VIDQUEUE_LANES__CPU="1").start()
    yield started
    assert started.stop() == 0


def received(daemon: Daemon) -> int:
    uploads = daemon.http.get("/v1/uploads").json()["uploads"]
    return int(uploads[0]["offset"]) if uploads else 0


def test_an_upload_broken_off_at_60_percent_is_resumed_by_another_process(tmp_path: Path, daemon: Daemon) -> None:
    clip = tmp_path / "large.mp4"
    make_sample(clip, seconds=1)
    # A box that readers leave aside (ISO/IEC 14496-12, 8.1.2).
    rest = SIZE - clip.stat().st_size
    with clip.open("ab") as file:
        file.write(struct.pack(">I4s", rest, b"free") + os.urandom(1 << 20) * (SIZE >> 20))
    os.truncate(clip, SIZE)
    sha256 = hashlib.sha256(clip.read_bytes()).hexdigest()
    begun = daemon.http.post(
        "/v1/uploads",
        headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(SIZE), "Upload-Metadata": _metadata(sha256)},
    )
    assert begun.status_code == 201, begun.text
    # A client that sends 60 % and then nothing, until it and the daemon are killed.
    url = begun.headers["location"]
    client = subprocess.Popen([sys.executable, "-c", STALLS, url, str(clip), str(SIZE * 6 // 10), str(SIZE)])
    until(lambda: received(daemon) >= SIZE // 2, what="half of it is safe")
    daemon.kill()
    client.kill()
    client.wait()
    daemon.start()
    safe = received(daemon)
    assert SIZE // 2 <= safe < SIZE
    vidqueue = CommandLine(tmp_path, daemon.url)
    job = vidqueue("submit", "transcode", str(clip), "--upload", "--run-at", "2099-01-01T00:00", "--json")
    assert job.code == 0, job.err
    file = daemon.http.get(f"/v1/{job.json['input']['video'].removeprefix('vq:')}").json()
    assert (file["id"], file["sha256"], file["size"]) == (begun.json()["id"], sha256, SIZE)
    # And once more: nothing is sent.
    again = vidqueue("submit", "transcode", str(clip), "--upload", "--run-at", "2099-01-01T00:00", "--json")
    assert again.json["input"]["video"] == job.json["input"]["video"]
    assert daemon.sql("SELECT count(*) AS n FROM vidqueue.files")[0]["n"] == 1


def _metadata(sha256: str) -> str:
    told = {"filename": "large.mp4", "sha256": sha256}
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())
