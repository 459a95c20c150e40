"""What people install: the wheel carries migrations, SQL and assets, and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(pip, cwd=ROOT, check=True)
    (built,) = folder.glob("vidqueue-*.whl")
    return built


def test_the_wheel_carries_everything_that_is_not_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    migrations = {f"vidqueue/_migrations/{path.name}" for path in (ROOT / "migrations").glob("*.sql")}
    assert migrations
    assert migrations <= names
    others = [path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {str(path.relative_to(ROOT / "src")) for path in others if "egg-info" not in str(path)} <= names


def test_the_wheel_brings_the_unit_of_the_service_along(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (carried,) = [name for name in archive.namelist() if name.endswith(".data/data/share/vidqueue/vidqueue.service")]
    assert archive.read(carried) == (ROOT / "systemd" / "vidqueue.service").read_bytes()


@pytest.mark.slow
def test_an_installed_wheel_runs_the_demo_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installed aside and put before everything else; the packages it needs are those of this environment."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIDQUEUE_")}
    environment["PYTHONPATH"] = str(site)
    where = [sys.executable, "-c", "import vidqueue; print(vidqueue.__file__)"]
    told = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(str(site))
    demo = subprocess.run(
        [sys.executable, "-m", "vidqueue", "demo", "--out", str(tmp_path / "out")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert len(list((tmp_path / "out").iterdir())) >= 4
