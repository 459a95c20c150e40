"""`vidqueue reload`: a real daemon takes new and changed processors while its jobs run on."""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until
from tests.sdk.conftest import Site

VERSION = '''
import time
from pathlib import Path

from vidqueue.sdk import Context, Parameters, Processor, Section
from vidqueue_words import WORD


class Numbered(Processor):
    """Say which code runs."""

    name = "numbered"
    settings = "{section}"

    class Settings(Section):
        """What it is told."""

        greeting: str = "none"

    class Params(Parameters):
        wait_for: str = ""
        {parameter}: int = 0

    def run(self, params, ctx: Context) -> None:
        while params.wait_for and not Path(params.wait_for).exists():
            time.sleep(0.05)
            ctx.check_canceled()
        ctx.output("text", "x.txt").path.write_text(f"{{WORD}} {version} {{ctx.settings.greeting}}")
'''


class House:
    """A daemon, a command line beside it, and a folder where packages are installed."""

    def __init__(self, folder: Path) -> None:
        (folder / "site").mkdir()
        (folder / "here").mkdir()
        self.site = Site(folder / "site")
        self.config = folder / "vidqueue.toml"
        self.config.write_text("")
        self.daemon = Daemon(folder / "data", PYTHONPATH=self.site.path, VIDQUEUE_CONFIG=str(self.config)).start()
        self.line = CommandLine(folder / "here", self.daemon.url)
        self.line.variables |= {
            "PYTHONPATH": self.site.path,
            "VIDQUEUE_DATA_DIR": str(folder / "data"),
            "VIDQUEUE_CONFIG": str(self.config),
        }  # fmt: skip

    def install(self, version: str, *, word: str = "word", parameter: str = "old", section: str = "numbered") -> None:
        self.site.install("vidqueue_words", f"WORD = {word!r}\n", words="vidqueue_words:nothing")
        (self.site.folder / "vidqueue_words-1.0.dist-info" / "entry_points.txt").write_text("")
        text = VERSION.format(version=version, parameter=parameter, section=section)
        self.site.install("numbered", text, numbered="numbered:Numbered")

    def text(self, job_id: str) -> str:
        job = self.daemon.ended(job_id)
        assert job["state"] == "succeeded", job
        return self.daemon.http.get(f"/v1/jobs/{job_id}/outputs/text").text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    opened = House(tmp_path_factory.mktemp("house"))
    yield opened
    assert opened.daemon.stop() == 0


def test_a_daemon_takes_new_and_changed_processors_and_loses_no_job(house: House, tmp_path: Path) -> None:
    daemon = house.daemon
    known = {one["name"] for one in daemon.http.get("/v1/processors").json()["processors"]}
    assert "numbered" not in known

    house.install("1")
    house.config.write_text('[numbered]\ngreeting = "hello"\n')
    ran = house.line("reload")
    assert ran.code == 0, ran.err
    assert "new: numbered" in ran.out
    schema = daemon.http.get("/v1/processors/numbered").json()["input_schema"]
    assert "old" in schema["properties"]
    assert "numbered" in daemon.http.get("/openapi.json").text
    assert house.text(daemon.submit("numbered", old=1)) == "word 1 hello"

    gate = tmp_path / "gate"
    running = daemon.submit("numbered", wait_for=str(gate))
    until(lambda: daemon.job(running)["state"] == "running")
    house.install("2", parameter="new")
    assert house.line("reload").code == 0
    assert daemon.http.post("/v1/jobs", json={"processor": "numbered", "input": {"old": 1}}).status_code == 422
    assert house.text(daemon.submit("numbered", new=1)) == "word 2 hello", "lanes have new code at once"
    assert daemon.job(running)["state"] == "running"
    gate.touch()
    assert house.text(running) == "word 1 hello", "a running job ends with the code that it began with"
    assert daemon.job(running)["attempt"] == 1
    # Both lanes, one of which ran the old code to its end.
    assert {house.text(daemon.submit("numbered", lane=lane)) for lane in ("cpu0", "cpu1")} == {"word 2 hello"}
    assert daemon.violations() == []


@pytest.mark.parametrize("fault", ["package", "configuration"])
def test_a_reload_with_a_fault_changes_nothing_and_says_why(house: House, fault: str) -> None:
    house.install("3")
    house.config.write_text('[numbered]\ngreeting = "hello"\n')
    assert house.line("reload").code == 0
    if fault == "package":
        (house.site.folder / "numbered.py").write_text("import no_such_module\n")
    else:
        house.install("4")
        house.config.write_text("[numbered]\ngreting = 'hello'\n")
    # Not read by the command itself, which would refuse it before the daemon does.
    ran = house.line("reload", variables={"VIDQUEUE_CONFIG": os.devnull})
    assert ran.code == 1, ran.err
    assert ("no_such_module" if fault == "package" else "greting") in ran.err
    assert "keeps its earlier processors" in ran.err
    schema = house.daemon.http.get("/v1/processors/numbered").json()["input_schema"]
    assert "old" in schema["properties"]
    house.config.write_text("")


def test_a_new_package_that_cannot_be_imported_does_not_keep_the_others_away(house: House) -> None:
    house.install("5")
    house.site.install("broken", "import no_such_module\n", broken="broken:Broken")
    ran = house.line("reload")
    assert ran.code == 0, ran.err
    assert "not loaded: broken" in ran.out
    assert "no_such_module" in ran.out


def test_of_two_packages_with_one_name_the_first_module_is_used_and_the_other_one_is_told(house: House) -> None:
    text = VERSION.replace('"numbered"', '"twice"', 1).replace('settings = "{section}"', "")
    for module in ("second_twice", "first_twice"):
        house.site.install(module, text.format(version=module, parameter="old"), twice=f"{module}:Numbered")
    try:
        for _ in range(2):  # the clash does not keep the next reload from its work
            ran = house.line("reload")
            assert (ran.code, "not loaded: twice" in ran.out) == (0, True), ran.err
        said = "twice of second_twice:Numbered cannot be loaded: ValueError: there is a processor 'twice' already"
        assert said in " ".join(house.line("processors").err.split())
        assert "of first_twice, which comes first and is used" in house.line("doctor").out
    finally:
        for module in ("second_twice", "first_twice"):
            (house.site.folder / f"{module}-1.0.dist-info" / "entry_points.txt").unlink()
    assert house.line("reload").code == 0


def test_what_a_processor_says_and_its_traceback_are_in_the_log_and_on_the_attempt(house: House) -> None:
    house.site.install("talker", (Path(__file__).parent / "talker.py").read_text(), talker="talker:Talker")
    assert house.line("reload").code == 0
    spoken = house.daemon.submit("talker", act="talk")
    house.text(spoken)
    said = house.line("logs", spoken).out
    for line in ("info     printed words", "warning  model: logged a warning", "info     from a child"):
        assert line in said, said
    broken = house.daemon.submit("talker", act="fail", max_attempts=1)
    assert house.daemon.ended(broken)["error"]["code"] == "processor_error"
    (attempt,) = house.daemon.http.get(f"/v1/jobs/{broken}/attempts").json()["attempts"]
    for text in (house.line("logs", broken).out, attempt["error"]["detail"]):
        assert "RuntimeError: it broke" in text
        assert "in _fail" in text
    stray = house.daemon.submit("talker", act="stray")
    error = house.daemon.ended(stray)["error"]
    assert error["message"] == "The output missing.txt was not written.", "as `vidqueue try` says it"
    waited = house.line("submit", "talker", "--act", "silent", "--wait")
    (quiet,) = waited.out.split()
    assert f"vidqueue result {quiet}" in waited.err, waited.err
    ran = house.line("logs", quiet)
    assert (ran.code, ran.out, "Attempt 1 has written no lines." in ran.err) == (0, "", True), ran.err
    shown = house.line("processors", "talker").out
    assert "number > 0, <= 1" in shown
    assert "integer 1..9" in shown


def test_where_no_daemon_runs_a_reload_says_so(house: House, tmp_path: Path) -> None:
    ran = house.line("reload", "--data-dir", str(tmp_path / "nothing"))
    assert (ran.code, "No daemon runs" in ran.err) == (69, True)
    assert "found by its data folder, not by its address" in " ".join(ran.err.split())


def test_a_daemon_whose_terminal_was_closed_drains_and_ends(tmp_path: Path) -> None:
    """The same signal means a reload where there is no terminal, or one that is still open."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {
            "VIDQUEUE_DATA_DIR": str(tmp_path / "data"), "VIDQUEUE_API__PORT": "0",
            "VIDQUEUE_DATABASE__DISK_RESERVE_MIB": "0", "VIDQUEUE_LANES__CPU": "1", "VIDQUEUE_LOG__FORMAT": "json",
        }  # fmt: skip
        os.execv(sys.executable, [sys.executable, "-m", "vidqueue", "serve"])
    said = b""
    while b'"daemon_ready"' not in said:
        said += os.read(terminal, 65536)
    os.kill(pid, signal.SIGHUP)
    while b'"processors_reloaded"' not in said:
        said += os.read(terminal, 65536)
    # A person at a terminal is told where it listens and how it ends.
    assert b"vidqueue listens at http://127.0.0.1:" in said
    assert b"Ctrl-C stops it" in said
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 1)
