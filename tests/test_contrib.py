"""The alert rules and the dashboard that are shipped: each rule fires and is silent where it should.

promtool runs the cases of contrib/prometheus/alerts_test.yml; where it is not installed that test is skipped.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "contrib" / "prometheus"
DASHBOARD = ROOT / "contrib" / "grafana" / "vidqueue.json"
# Made by Prometheus itself, or by its client of our process.
OTHERS = {"up", "process_cpu_seconds_total"}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def documented() -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `vidqueue_"))
    return set(re.findall(r"`(vidqueue_\w+)`", table)) | OTHERS


def named(expression: str) -> set[str]:
    """The metrics of an expression; those of a histogram under the histogram's name."""
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"\b(?:vidqueue_\w+|process_\w+)", expression)}


def test_rules_and_dashboard_name_metrics_that_there_are() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 20
    used = set().union(*map(named, [rule["expr"] for rule in rules()] + expressions))
    assert used - documented() == set()
    # What the page tells of is shown or watched, but for what only details another figure.
    assert documented() - used - OTHERS == {
        "vidqueue_lane_work_seconds_total",
        "vidqueue_gpu_memory_bytes",
        "vidqueue_pool_connections_idle",
        "vidqueue_info",
    }


def test_each_rule_says_what_to_do_and_has_a_case_that_fires_and_one_that_is_silent() -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    fires: dict[str, set[bool]] = {}
    for case in cases:
        for alert in case["alert_rule_test"]:
            fires.setdefault(alert["alertname"], set()).add(bool(alert["exp_alerts"]))
    assert fires == {rule["alert"]: {True, False} for rule in rules()}
    assert all({"summary", "description"} <= rule["annotations"].keys() for rule in rules())


def test_each_rule_fires_and_is_silent_as_its_cases_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; `apt-get install prometheus` has it")
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yml"], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checked = subprocess.run(
        [promtool, "check", "rules", "alerts.yml"], cwd=PROMETHEUS, capture_output=True, check=False
    )
    assert checked.returncode == 0
