"""The command line takes its flags from the daemon that it talks to, whatever is installed beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import NOBODY, CommandLine
from tests.daemon import Daemon
from tests.sdk.conftest import Site
from vidqueue.cli.flags import flags_of
from vidqueue.cli.offered import model_of, url_of
from vidqueue.processors import registry
from vidqueue.processors.media import schema_of

FAR = '''
from enum import Enum
from typing import Literal

from pydantic import BaseModel, Field

from vidqueue.sdk import Context, Parameters, Processor, VideoInput


class Mood(Enum):
    """Of an enum."""

    CALM = "calm"
    WILD = "wild"


class Point(BaseModel):
    """Nested."""

    x: int = 0


class Far(Processor):
    """Write down what it was told."""

    name = "far"

    class Params(Parameters):
        """One of each shape."""

        video: VideoInput | None = None
        mood: Mood = Mood.CALM
        level: Literal["low", "high"] = "low"
        strength: float | None = Field(None, ge=0, le=1, description="How much.")
        count: int = Field(1, gt=0)
        loud: bool = False
        names: list[str] = []
        point: Point = Point()
        tone: str = ""

    def run(self, params, ctx: Context) -> None:
        ctx.output("text", "x.txt").path.write_text(params.model_dump_json(exclude={"video"}))
'''


class Apart:
    """A daemon with a processor that the command line beside it does not have, and the other way round."""

    def __init__(self, folder: Path) -> None:
        theirs, ours, self.here = folder / "theirs", folder / "ours", folder / "here"
        for one in (theirs, ours, self.here):
            one.mkdir()
        Site(theirs).install("far", FAR, far="far:Far")
        Site(ours).install("near", FAR.replace("far", "near").replace("Far", "Near"), near="near:Near")
        self.daemon = Daemon(folder / "data", PYTHONPATH=Site(theirs).path).start()
        self.line = CommandLine(self.here, self.daemon.url)
        self.line.variables["PYTHONPATH"] = Site(ours).path


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    opened = Apart(tmp_path_factory.mktemp("apart"))
    yield opened
    assert opened.daemon.stop() == 0


def test_flags_are_those_of_the_daemons_processors(apart: Apart) -> None:
    shown = apart.line("submit", "far", "--help")
    assert "How much." in shown.out
    assert "--strength" in shown.out
    ran = apart.line(
        "submit", "far", "--mood", "wild", "--level", "high", "--strength", "0.5", "--count", "3", "--loud",
        "--names", "a", "--names", "b", "--point", '{"x": 7}', "--tone", "that", "-o", "-",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.out == (
        '{"mood":"wild","level":"high","strength":0.5,"count":3,"loud":true,"names":["a","b"],"point":{"x":7},'
        '"tone":"that"}'
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strength", "2"], "less than or equal to 1"),
        (["--level", "best"], "best"),
        (["--count", "0"], "greater than 0"),
        (["--shade", "1"], "--shade"),
    ],
)
def test_what_the_daemons_schema_refuses_is_refused_before_anything_is_sent(
    apart: Apart, words: list[str], said: str
) -> None:
    for url in ([], [f"--url={apart.daemon.url}"]):
        ran = apart.line("submit", "far", *words, *url)
        assert (ran.code, said in ran.err) == (2, True), ran.err


def test_batches_know_the_daemons_processors_too(apart: Apart) -> None:
    (apart.here / "jobs.ndjson").write_text('{"input": {"strength": 0.5}}\n{"input": {"count": 2}}\n')
    ran = apart.line("batch", "jobs.ndjson", "--processor", "far", "--loud", "--wait")
    assert ran.code == 0, ran.err


def test_a_processor_that_only_the_command_line_has_is_refused_with_advice(apart: Apart) -> None:
    ran = apart.line("submit", "near")
    assert ran.code == 4
    assert "has no processor near" in ran.err
    assert "vidqueue reload" in ran.err


def test_without_a_daemon_the_installed_ones_have_their_flags(apart: Apart) -> None:
    ran = apart.line("submit", "near", "--help", variables={"VIDQUEUE_URL": NOBODY})
    assert (ran.code, "--strength" in ran.out) == (0, True)
    ran = apart.line("submit", "near", variables={"VIDQUEUE_URL": NOBODY})
    assert (ran.code, "No daemon answers" in ran.err) == (69, True)


@pytest.mark.parametrize("name", list(registry.OURS))
def test_a_model_made_from_a_schema_makes_the_same_flags(name: str) -> None:
    """As where the daemon is of another version."""
    theirs = registry.find(name).Params
    flags = [
        {flag.field: (flag.media, flag.as_json, flag.argument.default) for flag in flags_of(model, ())}
        for model in (model_of(schema_of(theirs)), theirs)
    ]
    assert flags[0] == flags[1]


def test_a_union_of_choices_is_one_flag_of_them_all() -> None:
    union = {"anyOf": [{"enum": ["slow", "fast"]}, {"const": "none"}, {"type": "null"}], "default": None}
    (flag,) = flags_of(model_of({"properties": {"pace": union}}), ())
    assert not flag.as_json
    assert "Literal['slow', 'fast', 'none']" in str(flag.argument.annotation)


@pytest.mark.parametrize(
    ("words", "url"),
    [
        (["submit", "x", "--url", "http://a:1"], "http://a:1"),
        (["--url=http://a:2", "submit"], "http://a:2"),
        (["submit", "--", "--url", "http://a:3"], "http://env:1"),
        (["submit", "--url"], "http://env:1"),
    ],
)
def test_the_address_is_found_before_the_command_line_is_parsed(
    monkeypatch: pytest.MonkeyPatch, words: list[str], url: str
) -> None:
    monkeypatch.setenv("VIDQUEUE_URL", "http://env:1")
    assert url_of(words) == url
