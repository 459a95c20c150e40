"""A folder of packages that is on the path of the programs that tests start, as if they were installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import NOBODY, CommandLine

HERE = Path(__file__).parent


class Site:
    """Installs modules with their processors by hand, which takes no time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, module: str, text: str, **points: str) -> None:
        """Put a module there, with entry points such as `mirror="mirror:Mirror"`."""
        (self.folder / f"{module}.py").write_text(text, encoding="utf-8")
        metadata = self.folder / f"{module}-1.0.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (metadata / "entry_points.txt").write_text(f"[vidqueue.processors]\n{lines}")

    @property
    def path(self) -> str:
        return os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


@pytest.fixture
def talking(tmp_path: Path, site: Site) -> CommandLine:
    """The program with the processor `talker`, and no daemon anywhere."""
    site.install("talker", (HERE / "talker.py").read_text(encoding="utf-8"), talker="talker:Talker")
    (tmp_path / "here").mkdir()
    line = CommandLine(tmp_path / "here", NOBODY)
    line.variables["PYTHONPATH"] = site.path
    return line


def python(folder: Path, path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a person would in a folder."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("VIDQUEUE_")}
    # A pytest that starts closes the common folder of all of them to other users, embedded servers among them.
    variables["PYTEST_DEBUG_TEMPROOT"] = str(folder)
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=variables | {"PYTHONPATH": path, "COLUMNS": "120"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
