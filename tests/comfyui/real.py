"""A real ComfyUI checkout as a server for the same tests: `make test-comfyui DIR=...`. It runs on the CPU."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
START_S = 120


def python_of(checkout: Path) -> str:
    """The Python that runs it: $COMFYUI_PYTHON, that of a virtual environment inside, or ours."""
    inside = [checkout / name / "bin" / "python" for name in (".venv", "venv")]
    return os.environ.get("COMFYUI_PYTHON") or next((str(one) for one in inside if one.exists()), sys.executable)


class RealServer:
    """A process of ComfyUI with folders of its own and the nodes of these tests."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.folder = folder
        self._checkout = checkout
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(HERE / "nodes" / "vidqueue_tests", folder / "custom_nodes" / "vidqueue_tests")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> RealServer:
        """Start it, and wait until it answers."""
        command = [
            python_of(self._checkout), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self._port),
            "--disable-auto-launch", "--disable-api-nodes", "--base-directory", str(self.folder),
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(HERE / "stand_ins")}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._checkout, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, f"it ended; see {self.folder}/server.log"
            assert time.monotonic() < deadline, f"it does not answer; see {self.folder}/server.log"
            time.sleep(0.2)
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/queue", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    stop = kill
