"""The servers of other programs in a storm: what the daemons start, a video server that is outside, and their journals.

A video server writes down what it takes. It forgets everything when it is killed, and counts its ids from 1 again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.daemon import until
from tests.storm.history import BrokenError, History
from vidqueue.worker.peers.process import free_port

ROOT = Path(__file__).parents[2]
# Programs of the servers, as they stand in their command lines.
COMFYUI, COG, VIDEOS = "tests.comfyui.program", "cog.server.http", "compat/video_server.py"
# The worker of a Cog server is a process of its own.
COG_WORKER = "coglet"
PYTHON_OF_COG = ROOT / ".venv-others/bin/python"
IDLE_STOP_S = 20
# How long a video may be left at work there after its job has ended: a server that was away is told once a minute.
LEFT_S = 90
_SILENT: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def managed(folder: Path) -> dict[str, str]:
    """Variables of a daemon with servers that it starts for its lanes, and the video server outside of it."""
    common = {"device": "cpu", "idle_stop_s": IDLE_STOP_S}
    comfyui = [sys.executable, "-m", COMFYUI, "--port", "{port}", "--video", str(folder / "clip.mp4")]
    cog = [str(PYTHON_OF_COG), "-m", COG, "--host", "127.0.0.1"]
    model, stub = ROOT / "tests/processors/cog_model", {"COG_PREDICT_TYPE_STUB": "predict.py:Runner"}
    endpoints = {"model": {"command": cog, "directory": str(model), "environment": stub, **common}}
    return {
        "VIDQUEUE_COMFYUI__SERVERS": json.dumps({"main": {"command": comfyui, "directory": str(ROOT), **common}}),
        "VIDQUEUE_COG__ENDPOINTS": json.dumps(endpoints if PYTHON_OF_COG.exists() else {}),
        "VIDQUEUE_VIDEOS__SERVERS": json.dumps(
            {
                "outside": {"url": f"http://127.0.0.1:{(folder / 'port').read_text()}/v1", "concurrency": 3},
                "inside": {"command": _video_server("{port}", folder), **common},
            }
        ),
    }


def _video_server(port: str, folder: Path) -> list[str]:
    return [sys.executable, str(ROOT / "tests" / VIDEOS), port, str(folder / "journal")]


@dataclass
class VideoServer:
    """The video server that no daemon starts; its port and its journal are in a folder."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it where it was, and wait until it answers."""
        port = self.folder / "port"
        if not port.exists():
            port.write_text(str(free_port()))
        self.process = subprocess.Popen(_video_server(port.read_text(), self.folder), **_SILENT)
        until(self._answers, what="the video server answers")

    def kill(self) -> None:
        """Kill it with all its videos."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def at_work(self) -> list[str]:
        """The ids of its videos that are not done."""
        listed = httpx2.get(self._url, timeout=10).json()["data"]
        return [one["id"] for one in listed if one["status"] != "completed"]

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{(self.folder / 'port').read_text()}/v1/videos"

    def _answers(self) -> bool:
        try:
            return httpx2.get(self._url, timeout=2).status_code == 200
        except httpx2.TransportError:
            return False


def nothing_was_done_twice(folder: Path, history: History) -> Iterator[BrokenError]:
    """No video was made a second time by a server that still had it, unless somebody asked for that."""
    orders = {order.body["input"].get("prompt"): order for order in history.orders.values()}
    lines: list[dict[str, Any]] = [json.loads(line) for line in _journal(folder)]
    history.counts["videos taken"] = len(lines)
    for (server, prompt), times in Counter((one["server"], one["prompt"]) for one in lines).items():
        order = orders.get(prompt)
        if times == 1 or order is None or order.retry_sent:
            continue
        first = min(one["at"] for one in lines if (one["server"], one["prompt"]) == (server, prompt))
        # On a full disk nothing can be kept, the id of the video included.
        if not any(fault.name.startswith("full disk") for fault in history.faults_during(first, first)):
            yield BrokenError(f"a video server was asked {times} times for the same video", order.job_id)


def nothing_is_left_at_work(server: VideoServer) -> Iterator[BrokenError]:
    """All jobs have ended: the server works for nobody."""
    try:
        until(lambda: not server.at_work(), within_s=LEFT_S)
    except AssertionError:
        yield BrokenError(f"the video server is still at work on {server.at_work()}, and no job is left")


def _journal(folder: Path) -> list[str]:
    path = folder / "journal"
    return path.read_text().splitlines() if path.exists() else []
