"""The servers of these tests: the contract server, or a real checkout where $VIDQUEUE_TEST_COMFYUI names one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.contract import ContractServer
from tests.comfyui.real import RealServer
from tests.daemon import Daemon
from tests.media.clips import Samples, samples

__all__ = ["samples"]

CHECKOUT = os.environ.get("VIDQUEUE_TEST_COMFYUI")
Server = ContractServer | RealServer

SONIC = Path(__file__).parents[2] / "src" / "vidqueue" / "processors" / "comfy" / "workflows"


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, samples: Samples) -> Iterator[list[Server]]:
    """Two servers."""
    made: list[Server] = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(f"comfyui-{name}")
        video = samples("plain.mp4").read_bytes()
        server = RealServer(folder / "base", Path(CHECKOUT)) if CHECKOUT else ContractServer(folder, video)
        made.append(server.start())
    yield made
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's folder of workflows."""
    folder = tmp_path_factory.mktemp("workflows")
    (folder / "shrink.json").write_text(json.dumps(GRAPH))
    (folder / "shrink.toml").write_text(TEMPLATE)
    # Sonic with a checkpoint that needs no weights: a workflow of the operator goes before the shipped one.
    graph = json.loads((SONIC / "sonic.json").read_text())
    graph["16"]["class_type"] = "VQCheckpoint"
    (folder / "sonic.json").write_text(json.dumps(graph))
    (folder / "sonic.toml").write_text((SONIC / "sonic.toml").read_text())
    return folder


GRAPH: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "ImageScale", "inputs": {
        "image": ["1", 0], "upscale_method": "bilinear", "width": 64, "height": 64, "crop": "disabled"}},
    "3": {"class_type": "VQSlow", "inputs": {"images": ["2", 0], "steps": 4, "seconds": 0.05, "fails": "no"}},
    "4": {"class_type": "CreateVideo", "inputs": {"images": ["3", 0], "fps": 8.0}},
    "5": {"class_type": "SaveVideo", "inputs": {
        "video": ["4", 0], "filename_prefix": "mine", "format": "mp4", "codec": "h264"}},
}  # fmt: skip
TEMPLATE = """
description = "Shrink a picture into a video."

[parameters.picture]
sets = "1.image"
type = "image"

[parameters.size]
sets = ["2.width", "2.height"]
type = "integer"
default = 64
minimum = 16
maximum = 512
multiple_of = 16
description = "Side in pixels."

[parameters.steps]
sets = "3.steps"
type = "seed"
"""


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory, pair: list[Server], workflows: Path) -> Iterator[Daemon]:
    """A daemon with two lanes and both servers."""
    started = Daemon(tmp_path_factory.mktemp("comfyui") / "data", **variables(pair, workflows)).start()
    yield started
    assert started.stop() == 0


def variables(pair: list[Server], workflows: Path) -> dict[str, str]:
    """The configuration."""
    servers = {name: {"url": server.url} for name, server in zip(("one", "two"), pair, strict=True)}
    return {
        "VIDQUEUE_COMFYUI__SERVERS": json.dumps(servers),
        "VIDQUEUE_COMFYUI__WORKFLOWS": str(workflows),
    }
