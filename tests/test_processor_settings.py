"""A processor from outside with a section of its own: checked with everything else, and its secrets are hidden."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.daemon import Daemon
from vidqueue.processors import registry
from vidqueue.sanitize import Redactor
from vidqueue.settings.load import ConfigError, load
from vidqueue.settings.secrets import revealed, secret_values
from vidqueue.worker.executor.messages import Broke, Done, RunJob, encode, without_secrets

GATE, KEY = "gate-secret-123", "cage-secret-456"
CAGES = {"savanna": {"animal": "lion", "key": KEY}}


def read(file: Path, text: str, *, incomplete: bool = False) -> object:
    file.write_text(text)
    return load(file=file, sections=registry.sections(), incomplete=incomplete).settings


def test_a_section_is_read_from_the_file_and_from_json_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[keeper]\ntoken = "t"\n[keeper.cages.savanna]\nanimal = "lion"\n'
    settings = read(tmp_path / "a.toml", text)
    assert settings.keeper.cages["savanna"].animal == "lion"  # type: ignore[attr-defined]
    monkeypatch.setenv("VIDQUEUE_KEEPER__CAGES", json.dumps({"pool": {"animal": "seal"}}))
    loaded = load(file=tmp_path / "a.toml", sections=registry.sections())
    assert loaded.settings.keeper.cages["pool"].animal == "seal"  # type: ignore[attr-defined]
    assert loaded.origins["keeper.cages"] == "VIDQUEUE_KEEPER__CAGES"


def test_every_fault_of_a_section_is_told_at_once_with_origin_and_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDQUEUE_KEEPER__TOKE", "x")
    monkeypatch.setenv("VIDQUEUE_LANES__CPU", "-1")
    text = (
        '[keeper]\ncage = 1\n[keeper.cages.a]\nanimal = "lion"\nbar = 3\n[keeper.cages.b]\nbars = 0\n[api]\nprot = 1\n'
    )
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "a.toml", text)
    told = "\n".join(caught.value.problems)
    for expected in (
        f"{tmp_path}/a.toml: unknown key 'keeper.cage'; did you mean 'keeper.cages'?",
        "unknown key 'api.prot'; did you mean 'api.port'?",
        "unknown variable 'VIDQUEUE_KEEPER__TOKE'; did you mean 'VIDQUEUE_KEEPER__TOKEN'?",
        f"{tmp_path}/a.toml: keeper.cages.a.bar: unknown key 'bar'; did you mean 'bars'?",
        f"{tmp_path}/a.toml: keeper.cages.b.animal: Field required",
        f"{tmp_path}/a.toml: keeper.cages.b.bars: ",
        "VIDQUEUE_LANES__CPU: lanes.cpu: ",
    ):
        assert expected in told
    monkeypatch.setenv("VIDQUEUE_KEEPER__CAGES", "{no json")
    with pytest.raises(ConfigError, match="keeper"):
        read(tmp_path / "a.toml", "")


def test_a_section_of_a_processor_that_cannot_be_imported_does_not_stop_the_daemon(tmp_path: Path) -> None:
    text = "[elsewhere]\nkey = 1\n"
    with pytest.raises(ConfigError, match=r"elsewhere\.key"):
        read(tmp_path / "a.toml", text)
    loaded = load(file=tmp_path / "a.toml", sections=registry.sections(), incomplete=True)
    assert "elsewhere.key" in loaded.warnings[0]


def test_secrets_are_revealed_to_the_executor_only() -> None:
    kind = registry.find("keeper").Settings
    config = kind.model_validate({"token": GATE, "cages": CAGES})
    assert set(secret_values(config)) == {GATE, KEY}
    assert revealed(config)["cages"]["savanna"]["key"] == KEY
    order = RunJob("keeper", {}, {}, "/", {}, settings=revealed(config))
    assert GATE not in repr(order)
    assert GATE in encode(order).decode()


def test_no_report_has_a_secret_not_even_half_of_one() -> None:
    redactor = Redactor([GATE, "abc", "two\nlines-of-it"])
    told = without_secrets(Broke("code", f"a {GATE}", "lines-of-it", "abc"), redactor)
    assert told == Broke("code", "a **********", "**********", "abc")
    done = Done([{"name": "a", "path": f"/{GATE}", "media_type": "a/b", "facts": {GATE: [GATE, 1, None]}}], {})
    assert without_secrets(done, redactor).outputs[0] == {  # type: ignore[union-attr]
        "name": "a", "path": f"/{GATE}", "media_type": "a/b", "facts": {"**********": ["**********", 1, None]}
    }  # fmt: skip
    circle: dict[str, object] = {}
    circle["circle"] = circle
    redactor.value(circle)
    assert str(SecretStr(GATE)) == "**********"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    variables = {"VIDQUEUE_KEEPER__TOKEN": GATE, "VIDQUEUE_KEEPER__CAGES": json.dumps(CAGES)}
    started = Daemon(tmp_path_factory.mktemp("keeper") / "data", **variables, VIDQUEUE_LOG__LEVEL="debug").start()
    yield started
    started.stop()


def test_a_submit_is_checked_against_the_settings(daemon: Daemon) -> None:
    answer = daemon.http.post("/v1/jobs", json={"processor": "keeper", "input": {"cage": "desert"}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/input/cage"
    assert "known: savanna" in answer.text
    assert GATE not in answer.text
    member = {"processor": "keeper", "input": {"cage": "desert"}}
    answer = daemon.http.post("/v1/batches", json={"jobs": [member]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/jobs/0/input/cage"


def test_settings_reach_the_executor_and_secrets_reach_nobody(daemon: Daemon, tmp_path: Path) -> None:
    jobs = {
        act: daemon.submit("keeper", cage="savanna", act=act, max_attempts=1)
        for act in ("open", "raise", "refuse", "shout", "crash")
    }
    ended = {act: daemon.ended(job_id) for act, job_id in jobs.items()}
    assert {act: job["state"] for act, job in ended.items()} == {
        "open": "succeeded", "raise": "failed", "refuse": "failed", "shout": "succeeded", "crash": "failed",
    }  # fmt: skip
    output = daemon.http.get(ended["open"]["outputs"][0]["url"])
    assert output.text == f"lion {len(GATE) + len(KEY) + 1}\n"
    seen = [daemon.log.read_text(), json.dumps(ended)]
    for job_id in jobs.values():
        seen += [daemon.http.get(f"/v1/jobs/{job_id}/{part}").text for part in ("logs?attempt=1", "attempts")]
    tables = daemon.sql("SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname !~ '^pg_|^inf'")
    assert len(tables) > 10
    seen += [str(daemon.sql(f"SELECT * FROM {table['name']}")) for table in tables]
    assert "lion behind 10 bars: ********** ********** **********" in "".join(seen)
    for secret in (GATE, KEY, "read-from-a-file"):
        assert secret not in "".join(seen)


def test_config_show_masks_and_config_check_reports(tmp_path: Path) -> None:
    file = tmp_path / "vidqueue.toml"
    file.write_text(f'[keeper]\ntoken = "{GATE}"\n[keeper.cages.savanna]\nanimal = "lion"\nkey = "{KEY}"\n')
    command = [sys.executable, "-m", "vidqueue", "config"]
    shown = subprocess.run(
        [*command, "show", "--origin", "--config", str(file)], capture_output=True, text=True, check=False
    )
    assert "keeper.cages = " in shown.stdout
    assert f"# {file}" in shown.stdout
    assert GATE not in shown.stdout + shown.stderr
    assert KEY not in shown.stdout + shown.stderr
    environment = os.environ | {"VIDQUEUE_KEEPER__CAGES": '{"a": {"animals": "lion"}}'}
    checked = subprocess.run(
        [*command, "check", "--config", str(file)], env=environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 78
    assert "VIDQUEUE_KEEPER__CAGES: keeper.cages.a.animals: unknown key" in checked.stderr
