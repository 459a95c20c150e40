"""Parts of the command line that decide without a daemon: event streams, flags from models, lines, words."""

from __future__ import annotations

import enum
from inspect import Parameter as Argument
from inspect import Signature
from typing import Annotated, Any, Literal, get_args

import pytest
from cyclopts import App
from pydantic import BaseModel, Field

from vidqueue.cli.flags import Flag, flags_of, source_of
from vidqueue.cli.jobs import show
from vidqueue.cli.offered import model_of
from vidqueue.cli.options import Look
from vidqueue.cli.render import Lines, name_of, situation
from vidqueue.cli.stream import Message, Watchdog, parse
from vidqueue.cli.terminal import Screen, duration_text, size_text
from vidqueue.cli.watch import verdict
from vidqueue.processors.base import AudioInput, ImageInput, MediaRef, Parameters, VideoInput
from vidqueue.processors.media import schema_of


def test_a_stream_is_read_into_numbered_events_and_signs_of_life() -> None:
    lines = [
        "retry: 3000", "",
        ": ping", "",
        "id: 7", "event: running", 'data: {"job_id": "a",', 'data: "lane": "cpu0"}', "",
        "data:{}", "",
        "id: 9", "event: cut off",
    ]  # fmt: skip
    assert list(parse(lines)) == [
        Watchdog(),
        Message("7", "running", {"job_id": "a", "lane": "cpu0"}),
        Message("", "message", {}),
    ]


class Mood(enum.Enum):
    """Two of many."""

    GOOD = "good"
    BAD = "bad"


class Corner(BaseModel):
    """A place in a picture."""

    x: int
    y: int


class Rich(Parameters):
    """One field of each shape."""

    picture: VideoInput
    sound: Annotated[str | None, MediaRef("audio")] = None
    count: int = Field(3, ge=1, description="How many.")
    share: float | None = None
    loud: bool = False
    mood: Mood = Mood.GOOD
    codec: Literal["a", "b"] | None = None
    pace: Literal["slow", "fast"] | Literal["none"] | None = None
    words: list[str] = Field([], description="As many as you like.")
    corner: Corner | None = None
    title: str = "taken by the job"


def read_with(flags: list[Flag], *words: str) -> dict[str, Any]:
    """What a command line with these flags gives the model."""
    caught: dict[str, Any] = {}
    signature = Signature(sorted((flag.argument for flag in flags), key=lambda argument: argument.kind))

    def command(*positional: Any, **given: Any) -> None:
        caught.update(signature.bind(*positional, **given).arguments)

    vars(command)["__signature__"] = signature
    command.__annotations__ = {flag.argument.name: flag.argument.annotation for flag in flags}
    app = App()
    app.default(command)
    app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
    return {flag.field: flag.read(caught[flag.argument.name]) for flag in flags if flag.argument.name in caught}


def test_every_shape_of_parameter_becomes_a_flag_that_the_model_accepts() -> None:
    words = (
        "in.mp4", "--sound", "-", "--count", "5", "--share", "0.5", "--loud", "--mood", "bad", "--codec", "b",
        "--pace", "none", "--words", "x", "--words", "y", "--corner", '{"x": 1, "y": 2}', "--param-title", "mine",
    )  # fmt: skip
    given = read_with(flags_of(Rich, {"title"}), *words)
    assert Rich.model_validate(given) == Rich(
        picture="in.mp4", sound="-", count=5, share=0.5, loud=True, mood=Mood.BAD, codec="b", pace="none",
        words=["x", "y"], corner=Corner(x=1, y=2), title="mine",
    )  # fmt: skip


def test_what_is_not_given_is_not_sent() -> None:
    assert read_with(flags_of(Rich, set()), "in.mp4") == {"picture": "in.mp4"}
    assert read_with(flags_of(Rich, set()), "in.mp4", "--no-loud") == {"picture": "in.mp4", "loud": False}


def test_the_first_media_field_is_the_positional_argument_and_both_are_known_as_media() -> None:
    flags = {flag.field: flag for flag in flags_of(Rich, set())}
    assert [name for name, flag in flags.items() if flag.media] == ["picture", "sound"]
    positional = [name for name, flag in flags.items() if flag.argument.kind is Argument.POSITIONAL_OR_KEYWORD]
    assert positional == ["picture"]


class Optional(Parameters):
    """A field that may be left out stands before the one that may not."""

    logo: ImageInput | None = None
    video: VideoInput
    music: AudioInput | None = Field(None, description="Under the speech.")


@pytest.mark.parametrize("model", [Optional, model_of(Optional.model_json_schema())], ids=["here", "of a daemon"])
def test_an_optional_media_field_is_media_with_its_help_and_a_required_one_comes_first(model: type[Parameters]) -> None:
    flags = {flag.field: flag for flag in flags_of(model, set())}
    assert {name: flag.kind for name, flag in flags.items()} == {"logo": "image", "video": "video", "music": "audio"}
    source = source_of(list(flags.values()))
    assert source is flags["video"]
    assert schema_of(Optional)["properties"]["logo"]["description"].startswith("A picture: ")
    said = {name: get_args(flag.argument.annotation)[-1].help for name, flag in flags.items()}
    assert said["logo"] == "A picture: a file, or a reference or URL where a daemon runs it."
    assert said["music"] == "Under the speech."
    assert read_with(list(flags.values()), "in.mp4", "--logo", "-") == {"video": "in.mp4", "logo": "-"}


def test_a_source_whose_name_has_an_end_of_line_is_named_once() -> None:
    assert name_of(job(title="trip/two\nlines.mp4", source="twolines.mp4")) == "trip/two\nlines.mp4"
    assert name_of(job(title="Our wedding", source="in.mp4")) == "Our wedding (in.mp4)"


def test_the_default_is_shown_though_it_is_not_sent() -> None:
    (count,) = [flag for flag in flags_of(Rich, set()) if flag.field == "count"]
    how = get_args(count.argument.annotation)[-1]
    assert (how.show_default, how.help, count.argument.default) == ("3", "How many. (1..)", None)


def job(**known: Any) -> dict[str, Any]:
    return {"id": "01890000-0000-7000-8000-00000000beef", "processor": "transcode", "state": "running"} | known


def test_lines_tell_each_change_of_state_and_otherwise_keep_to_their_interval(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet, chatty = Lines(Screen(Look()), every_s=3600), Lines(Screen(Look()), every_s=0)
    for lines, expected in ((quiet, 3), (chatty, 5)):
        for known in (
            {"state": "queued"}, {"progress": 0.1}, {"progress": 0.2}, {"progress": 0.3},
            {"state": "succeeded"}, {"state": "succeeded"},
        ):  # fmt: skip
            lines.put(job(**known))
        assert len(capsys.readouterr().err.splitlines()) == expected


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"state": "queued", "position": 3, "wait_reason": "busy"}, "place 3  all lanes are busy"),
        (
            {"state": "queued", "position": 1000, "position_is_bound": True, "wait_reason": "busy"},
            "place 1000+  all lanes are busy",
        ),
        ({"state": "queued", "wait_reason": "no_lane"}, "no lane can take it"),
        ({"state": "queued", "wait_reason": "said_by_a_processor"}, "said by a processor"),
        (
            {"progress": 0.42, "stage": "encode", "fps": 61.3, "eta_s": 75.0, "lane": "gpu0"},
            "42%  encode  61 fps  1:15 left  gpu0",
        ),
        (
            {
                "progress": 0.4,
                "fps": 60,
                "eta_s": 7,
                "lane": "gpu0",
                "suspended_at": "2026-01-01",
                "suspended_by": "person",
            },
            "40%  gpu0",
        ),
        (
            {"progress": 0.4, "eta_s": 75.0, "suspended_at": "2026-01-01T00:00:00Z", "suspended_by": "window"},
            "40%  the window of its lane has ended",
        ),
        ({"state": "failed", "error": {"code": "stalled", "message": "No step."}}, "stalled  No step."),
        (
            {"state": "succeeded", "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:08.25Z"},
            "in 8.2 s",
        ),
    ],
)
def test_the_situation_of_a_job_in_words(known: dict[str, Any], words: str) -> None:
    assert situation(job(**known)) == words


def test_a_job_is_called_by_its_title_else_by_processor_and_id() -> None:
    assert name_of(job(title="holiday")) == "holiday"
    assert name_of(job(title=None)) == "transcode …00beef"


def test_a_failure_weighs_more_than_a_cancel() -> None:
    states = ("succeeded", "canceled", "failed")
    assert [verdict([{"state": state} for state in states[:count]]) for count in (1, 2, 3)] == [0, 5, 3]


def test_sizes_and_durations_read_well() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB",
    ]  # fmt: skip
    assert [duration_text(seconds) for seconds in (0.04, 59.9, 60, 3599.6, 86_400)] == [
        "0.0 s", "59.9 s", "1:00", "1:00:00", "24:00:00",
    ]  # fmt: skip


def test_a_waiting_job_says_in_words_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = job(state="queued", wait_reason="no_processor", position=1, title=None, source=None, attempt=0)
    show(Screen(Look(json=False)), waiting | {"created_at": "2026-11-26T10:00:00Z", "max_attempts": 3})
    shown = capsys.readouterr().out
    assert "place 1  no daemon has this processor\n" in shown
    assert "\n  Install its package where the daemon runs" in shown
