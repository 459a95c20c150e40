"""The public modules are stable: their names and signatures are those of a list that is committed."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.sdk.page import modules
from tests.sdk.surface import described
from vidqueue import sdk, testing

HERE = Path(__file__).parent


@pytest.mark.parametrize("module", [sdk, testing], ids=lambda module: module.__name__)
def test_names_and_signatures_are_those_of_the_committed_list(module: ModuleType) -> None:
    committed = HERE / f"{module.__name__.rpartition('.')[2]}.txt"
    promised, there = set(committed.read_text(encoding="utf-8").splitlines()), set(described(module).splitlines())
    # A probe may find out more: fields of facts may be added, and none is taken away.
    added = {line for line in there - promised if not re.match(r"    \w+Facts\.", line)}
    assert (added, promised - there) == (set(), set()), f"Tell it in CHANGELOG.md, and change {committed}."


PROCESSOR = """
from vidqueue.sdk import Context, MediaFacts, Output, Parameters, Processor, Progress, RefusedError, VideoInput


class Mirror(Processor):
    name = "mirror"

    class Params(Parameters):
        video: VideoInput
        strength: float = 0.5

    def run(self, params: Params, ctx: Context) -> list[Output]:
        facts: MediaFacts = ctx.probe(ctx.input("video"))
        if facts.video is None:
            raise RefusedError("no pictures")
        ctx.progress(Progress(0.5, "half"))
        ctx.progress(0.6)
        made = ctx.output("video", "out.mp4")
        ctx.ffmpeg(["-i", ctx.input("video"), "-vf", "hflip", made], span=(0.6, 1.0))
        ctx.run(["true"], progress=r"(\\d+)%").returncode
        net: object = ctx.models.get("net", lambda: ctx.models.file("net.pt"))
        ctx.log(f"{params.strength} {net} {ctx.temporary()}")
        return [made]


reveal_type(Mirror().run)
broken: int = Mirror.name
"""


def test_an_installed_package_has_types_that_a_checker_uses(tmp_path: Path) -> None:
    """mypy reads modules of other projects, strictly; the one error shows that it sees our types."""
    (tmp_path / "mirror.py").write_text(PROCESSOR)
    for name, text in modules().items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "mirror.py", *modules()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert 'expression has type "str", variable has type "int"' in errors[0]


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(pip, cwd=HERE.parents[1], check=True)
    (built,) = tmp_path.glob("vidqueue-*.whl")
    assert {"vidqueue/py.typed", "vidqueue/sdk.py", "vidqueue/testing.py"} <= set(zipfile.ZipFile(built).namelist())
