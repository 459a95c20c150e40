"""The first results that the pages about compatible APIs and peers promise, followed word for word on one daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.conftest import GRAPH, workflows
from tests.comfyui.contract import PNG, ContractServer
from tests.daemon import Daemon
from tests.docs.reading import ROOT
from tests.media.clips import Samples, run_ffmpeg, samples

__all__ = ["samples", "workflows"]

OTHERS = ROOT / ".venv-others/bin"
STAND_IN = ROOT / "tests/processors/facefusion/facefusion.py"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What installs or starts programs of others.
_NOT_RUN = re.compile(r"(pip|git|cd|docker|python main\.py|\.venv/bin/python|vidqueue processors)\b")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not OTHERS.exists(), reason="no clients here; `make .venv-others/.installed` installs them"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, samples: Samples) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("here")
    for name in ("film.mp4", "video.mp4"):
        shutil.copy(samples("plain.mp4"), folder / name)
    for name in ("fox.png", "photo.png", "portrait.png", "face.jpg"):
        (folder / name).write_bytes(PNG)
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=2", folder / "speech.wav")
    graph = json.loads(json.dumps(GRAPH))
    (folder / "workflow_api.json").write_text(json.dumps(graph))
    return folder


@pytest.fixture(scope="module")
def daemon(here: Path, samples: Samples, workflows: Path) -> Iterator[Daemon]:
    home = here / "facefusion"
    home.mkdir()
    shutil.copy(STAND_IN, home)
    server = ContractServer(here, samples("plain.mp4").read_bytes()).start()
    comfy = {"main": {"url": server.url, "device": "cpu"}}
    videos = tomllib.loads(blocks("videos", "toml")[0])["videos"]
    started = Daemon(
        here / "data", VIDQUEUE_COMFYUI__SERVERS=json.dumps(comfy), VIDQUEUE_FACEFUSION__HOME=str(home),
        VIDQUEUE_FACEFUSION__PYTHON=sys.executable, VIDQUEUE_VIDEOS__MODELS=json.dumps(videos["models"]),
        VIDQUEUE_VIDEOS__DEFAULT_MODEL=videos["default_model"], VIDQUEUE_COMFYUI__WORKFLOWS=str(workflows),
    ).start()  # fmt: skip
    yield started
    started.stop()
    server.stop()


def blocks(page: str, *languages: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return [block for language, block in _BLOCK.findall(text) if language in languages]


def commands(page: str, here: Path) -> list[str]:
    """What a reader types until the first result; a file that is shown with `cat` is written."""
    found: list[str] = []
    for block in blocks(page, "console", "sh"):
        if "cat first.py" in block:
            shown = block.partition("$ cat first.py\n")[2].partition("\n$ ")[0]
            (here / "first.py").write_text(shown)
        typed = block.replace(
            f"$ cat first.py\n{(here / 'first.py').read_text()}\n" if "cat first" in block else "", ""
        )
        lines = [line.removeprefix("$ ") for line in typed.replace("\\\n", "").splitlines() if line.strip()]
        found += [line.strip() for line in lines if not _NOT_RUN.match(line.strip())]
    return found


def run(command: str, daemon: Daemon, here: Path, python: Path) -> str:
    address = daemon.url.removeprefix("http://")
    folder = here / "bin"
    folder.mkdir(exist_ok=True)
    for name, words in (("python", f"{python}"), ("vidqueue", f"{sys.executable} -m vidqueue")):
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "VIDQUEUE_URL": daemon.url}
    ran = subprocess.run(
        ["/bin/bash", "-ec", command.replace("127.0.0.1:8765", address)], cwd=here, env=environment, check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.mark.parametrize(
    ("page", "python", "results"),
    [
        ("replicate", OTHERS / "python", ()),
        ("videos", Path(sys.executable), ("fox.mp4",)),
        ("comfy-api", OTHERS / "python", ()),
        ("facefusion", Path(sys.executable), ("swapped.mp4",)),
        ("sonic", Path(sys.executable), ("talking.mp4",)),
    ],
)
def test_a_page_leads_to_its_first_result(
    daemon: Daemon, here: Path, page: str, python: Path, results: tuple[str, ...]
) -> None:
    typed = [one for one in commands(page, here) if not one.startswith(("curl", "vidqueue watch", "vidqueue result"))]
    said = run("; ".join(typed), daemon, here, python)
    for name in results:
        assert (here / name).stat().st_size > 100, said
    jobs: list[dict[str, Any]] = daemon.http.get("/v1/jobs", params={"limit": 1}).json()["jobs"]
    assert jobs[0]["state"] == "succeeded", said


def test_the_page_of_comfyui_leads_to_its_first_result(daemon: Daemon, here: Path) -> None:
    upload, submit = [one for one in commands("comfyui", here) if one.startswith("curl")]
    stored = json.loads(run(upload, daemon, here, Path(sys.executable)))
    job = json.loads(run(submit.replace("<id>", stored["id"]), daemon, here, Path(sys.executable)))
    ended = daemon.ended(job["id"])
    assert (ended["state"], [one["name"] for one in ended["outputs"]]) == ("succeeded", ["output"]), ended["error"]
