"""docs/write-a-processor.md as a newcomer would follow it: every block, in order, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.daemon import Daemon, promised
from tests.docs.reading import ROOT
from tests.sdk.page import PAGE, blocks, modules


class Environment:
    """A virtual environment that has our packages as well, and takes further ones for itself."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        (site,) = folder.glob("lib/python*/site-packages")
        shared = [path for path in sys.path if path and Path(path).is_dir() and path != str(ROOT)]
        (site / "shared.pth").write_text("\n".join([*shared, str(ROOT / "src")]))
        self.python = folder / "bin" / "python"
        for name in ("pip", "vidqueue"):
            program = folder / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{self.python}" -m {name} "$@"\n')
            program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIDQUEUE_", "PYTHON"))}
        self.variables = kept | {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            # A pytest that starts closes the common folder of all of them to other users, embedded servers among them.
            "PYTEST_DEBUG_TEMPROOT": str(folder),
            "VIRTUAL_ENV": str(folder),
            "VIDQUEUE_DATA_DIR": str(folder.parent / "data"),
            "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_QUIET": "1",
            "PIP_NO_BUILD_ISOLATION": "false",  # pip's way to say that there is none
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }  # fmt: skip


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


def test_every_block_of_the_page_does_what_the_page_says(environment: Environment, tmp_path: Path) -> None:
    here = tmp_path / "anywhere"
    here.mkdir()
    daemon: Daemon | None = None
    assert len(blocks()) == PAGE.read_text(encoding="utf-8").count("```") / 2 >= 12
    try:
        for file, language, text in blocks():
            if file:
                (here / file).parent.mkdir(exist_ok=True)
                (here / file).write_text(text, encoding="utf-8")
            elif text == "vidqueue serve\n":
                daemon = _started(environment, tmp_path)
            else:
                assert language == "bash", f"nobody runs this: {text}"
                _run(text, environment, here)
    finally:
        if daemon is not None:
            daemon.stop()
    assert (here / "mirrored.mp4").stat().st_size > 1000
    assert (here / "mirror-out" / "in-video.mp4").stat().st_size > 1000


def test_the_first_processor_is_at_most_twenty_lines() -> None:
    assert len(modules()["vidqueue_mirror.py"].splitlines()) <= 20


def _started(environment: Environment, folder: Path) -> Daemon:
    daemon = Daemon(folder / "data", **{name: environment.variables[name] for name in ("PATH", "VIRTUAL_ENV")})
    daemon.python = str(environment.python)
    environment.variables["VIDQUEUE_URL"] = daemon.start().url
    return daemon


def _run(text: str, environment: Environment, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment.variables,
        capture_output=True, text=True, check=False, timeout=promised(120),
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
