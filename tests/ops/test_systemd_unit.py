"""The unit file: what systemd itself says of it, and that its times fit those of the program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vidqueue.daemon import REFUSALS
from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded
from vidqueue.settings.schema import Settings
from vidqueue.worker import lanes

UNIT = Path(__file__).parents[2] / "systemd" / "vidqueue.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings_of_unit() -> dict[str, list[str]]:
    """Every setting with its values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # It asks for the program, which is installed on no machine that tests: a copy names another one.
    copy = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert text.count("ExecStart=/opt/vidqueue/bin/vidqueue serve\n") == 1
    copy.write_text(text.replace("/opt/vidqueue/bin/vidqueue serve\n", f"{sys.executable} serve\n"))
    done = _analyze("verify", "--man=no", str(copy))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_the_check_of_the_unit_would_notice_a_fault(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text() + "[Service]\nWatchdogSex=30\n")
    assert "WatchdogSex" in _analyze("verify", "--man=no", str(copy)).stderr


@needs_systemd
def test_the_service_may_do_little() -> None:
    done = _analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stdout


def test_systemd_waits_longer_than_the_program_takes() -> None:
    unit = settings_of_unit()
    drain_s = Settings().running.drain_timeout_s
    assert int(unit["TimeoutStopSec"][0]) >= drain_s + 2 * lanes.REST_S + 30
    assert int(unit["TimeoutStartSec"][0]) >= embedded.START_TIMEOUT_S + 2 * migrate.LOCK_TIMEOUT_S + 30


def test_a_restart_of_postgresql_does_not_stop_the_daemon() -> None:
    unit = settings_of_unit()
    assert "postgresql.service" in unit["After"][0]
    assert not {"Requires", "Requisite", "BindsTo", "PartOf"} & unit.keys()


def test_only_what_cannot_mend_itself_is_not_tried_again() -> None:
    unit = settings_of_unit()
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert {code for _, code in REFUSALS.values()} == {69, 75, 78}
    assert unit["StartLimitIntervalSec"] == ["0"]


def test_a_fresh_install_needs_no_file_that_is_not_there() -> None:
    assert "LoadCredential" not in settings_of_unit()


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
