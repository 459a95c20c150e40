"""A faulty package says what is wrong with it, and troubles nobody else."""

from __future__ import annotations

import pytest

from tests.cli.conftest import CommandLine
from tests.sdk.conftest import Site

GOOD = """
from vidqueue.sdk import Context, Parameters, Processor


class Mine(Processor):
    name = "mine"

    class Params(Parameters):
        level: int = 1

    def run(self, params, ctx: Context) -> None:
        ctx.output("text", "x.txt").path.write_text("done")
"""

FAULTS = {
    "syntax": (("def run(self, params, ctx: Context) -> None:", "def run(self"), "SyntaxError"),
    "no name": (('name = "mine"', 'nam = "mine"'), "Mine has no name"),
    "odd name": (('name = "mine"', 'name = "My Own"'), "cannot be the name"),
    "taken name": (('name = "mine"', 'name = "transcode"'), "there is a processor 'transcode' already"),
    "no parameters": (("class Params(Parameters)", "class Parms(Parameters)"), "Params is no subclass of Parameters"),
    "foreign parameters": (("class Params(Parameters)", "class Params"), "Params is no subclass of Parameters"),
    "no schema": (("level: int = 1", "level: type(lambda: 0) = None"), "Schema"),
    "no run": (("def run(", "def ran("), "abstract"),
    "no processor": (("class Mine(Processor)", "class Mine"), "Mine is no subclass of Processor"),
    "odd device": (('name = "mine"', 'name = "mine"\n    device = "tpu"'), "device is 'tpu'"),
    "exit": (("class Mine", "raise SystemExit(3)\nclass Mine"), "SystemExit: 3"),
    "missing module": (("from vidqueue.sdk import Context", "import no_such_module"), "no_such_module"),
}


@pytest.mark.parametrize("fault", ["syntax", "no name"])
def test_a_trial_says_what_is_wrong_with_a_processor_and_where(talking: CommandLine, site: Site, fault: str) -> None:
    (before, after), said = FAULTS[fault]
    site.install("mine", GOOD.replace(before, after), mine="mine:Mine")
    ran = talking("try", "mine")
    assert ran.code == 1, ran.out
    assert "The processor mine cannot be loaded" in ran.err
    assert said in ran.err
    # Of a fault in the module's text there is no traceback: nothing of it has run.
    assert ("Traceback" in ran.err) != ("SyntaxError" in ran.err)


def test_faulty_processors_are_told_by_doctor_and_do_not_matter_to_others(talking: CommandLine, site: Site) -> None:
    for number, ((before, after), _) in enumerate(FAULTS.values()):
        assert before in GOOD
        site.install(f"bad{number}", GOOD.replace(before, after), **{f"bad{number}": f"bad{number}:Mine"})
    site.install("mine", GOOD, mine="mine:Mine")
    checked = talking("doctor", "--json")
    (found,) = [line for line in checked.lines if line["name"] == "processors"]
    assert found["level"] == "error"
    assert found["found"].startswith(f"{len(FAULTS)} cannot be loaded: ")
    for _, said in FAULTS.values():
        assert said in found["found"]
    assert talking("try", "mine").out == "mine-out/mine-text.txt\n"
    assert "`vidqueue try bad0` shows why" in talking("submit", "bad0", "in.mp4").err


def test_a_processor_that_is_not_installed_is_told_so(talking: CommandLine) -> None:
    ran = talking("try", "talkr", "in.mp4", "--amount", "3")
    assert ran.code == 2
    for words in ("There is no processor 'talkr'", "Did you mean 'talker'?", "pip install -e"):
        assert words in ran.err
