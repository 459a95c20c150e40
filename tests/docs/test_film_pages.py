"""The pages about films as a newcomer would follow them: every command, in order, against a daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.daemon import Daemon, promised, until
from tests.docs.reading import ROOT, blocks
from tests.media.clips import run_ffmpeg

# What the pages speak of; short, because the shape of the files is what matters.
FILES: dict[str, tuple[str, ...]] = {
    "beach.mp4": ("testsrc2=s=64x36:r=10:d=7.5", "-pix_fmt", "yuv420p"),
    "boat.mov": ("color=red:s=64x36:r=10:d=1", "-pix_fmt", "yuv420p"),
    "sea.mp4": ("color=blue:s=64x64:r=10:d=1", "-pix_fmt", "yuv420p"),
    "boats.mov": ("color=red:s=64x64:r=10:d=1", "-pix_fmt", "yuv420p"),
    "title.png": ("color=green:s=64x36", "-frames:v", "1"),
    "gull.jpg": ("color=green:s=64x64", "-frames:v", "1"),
    "voice.wav": ("aevalsrc='0.4*sin(300*2*PI*t)*between(t,0.1,0.3)':d=0.4:s=48000",),
    "voice.mp3": ("sine=300:d=0.4",),
    "hello.wav": ("sine=300:d=0.4",),
    "tune.mp3": ("sine=880:d=1",),
}
# An id on the pages that stands for the one that the command before it has answered.
SOME_ID = "01890000-0000-7000-8000-000000000000"
LAST_ID = "$(grep -o '[0-9a-f-]\\{36\\}' answers | tail -1)"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, and the programs that the commands name."""
    folder = tmp_path_factory.mktemp("anywhere")
    for name, words in FILES.items():
        run_ffmpeg("-f", "lavfi", "-i", *words, folder / name)
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    (folder / "bin").mkdir()
    # A refusal fails the command.
    programs = {"vidqueue": f"{sys.executable} -m vidqueue", "curl": f"{curl} -sS --fail-with-body"}
    for name, command in programs.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("pages") / "data").start()
    yield started
    started.stop()


def follow(page: str, daemon: Daemon, here: Path, replaced: Mapping[str, str]) -> None:
    """Run the commands of a page in one shell, and see every job succeed."""
    lines = [line for text in blocks(ROOT / "docs" / page, "console") for line in text.splitlines()]
    assert lines
    assert all(line.startswith("$ ") for line in lines), lines
    commands = [line[2:] for line in lines if not line.startswith("$ pip install")]
    script = "\n".join(f"{one} | tee -a answers" if one.startswith("curl") else one for one in commands)
    for old, new in {"http://127.0.0.1:8765": daemon.url, SOME_ID: LAST_ID, **replaced}.items():
        script = script.replace(old, new)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=here, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIDQUEUE_URL": daemon.url},
        timeout=promised(240),
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    until(lambda: not daemon.sql("SELECT 1 FROM vidqueue.jobs WHERE state IN ('queued', 'running')"), within_s=120)
    assert daemon.sql("SELECT processor, error_code FROM vidqueue.jobs WHERE state != 'succeeded'") == []


def uploaded(daemon: Daemon, path: Path) -> str:
    return str(daemon.http.post("/v1/files", files={"file": (path.name, path.read_bytes())}).json()["id"])


@pytest.mark.parametrize("page", ["export.md", pytest.param("compose.md", marks=pytest.mark.long), "moneyprinter.md"])
def test_every_command_of_the_page_works(daemon: Daemon, here: Path, page: str) -> None:
    speech = f'"audio": "vq:files/{uploaded(daemon, here / "voice.wav")}"'
    follow(page, daemon, here, {'"audio": "vq:files/<id>"': speech, "<id>": uploaded(daemon, here / "beach.mp4")})
    if page != "moneyprinter.md":
        assert (here / "film.mp4").stat().st_size > 1000
        # The pages are followed in any order.
        (here / "film.mp4").unlink()


@pytest.mark.long
def test_every_command_about_generation_works(tmp_path: Path, here: Path) -> None:
    pytest.importorskip("diffusers", reason="the extra `generate` is not installed")
    from tests.processors.tiny_pipelines import make_all

    tiny = make_all(tmp_path / "pipelines")
    models = {"flux": tiny["mini-sd"], "wan": tiny["tiny-wan-i2v"]}
    started = Daemon(tmp_path / "data", VIDQUEUE_GENERATE__MODELS=json.dumps(models)).start()
    try:
        smaller = {
            "--width 1024 --height 768": "--width 64 --height 64 --steps 2",
            "--frames 81": "--frames 5 --steps 2 --width 32 --height 32",
        }
        follow("generate.md", started, here, smaller)
    finally:
        started.stop()
    assert (here / "lighthouse.png").stat().st_size > 100
    assert (here / "waves.mp4").stat().st_size > 100
