"""Flags, defaults and types of parameters whose shapes a flag cannot have."""

from __future__ import annotations

import datetime
import enum
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, Field

from tests.cli.test_pieces import read_with
from vidqueue.cli.exits import CommandError
from vidqueue.cli.flags import flags_of
from vidqueue.cli.offered import model_of
from vidqueue.cli.system import type_text
from vidqueue.processors.base import Parameters


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Box(BaseModel):
    width: int = Field(ge=1)


class Odd(Parameters):
    """Parameters whose shapes a flag cannot have, and defaults of odd types."""

    box: Box = Field(default_factory=lambda: Box(width=3))
    frame: Box = Box(width=4)
    boxes: list[Box] = Field([])
    moods: list[Mood] = Field([Mood.GOOD])
    pick: int | float | str = 3
    day: datetime.date = datetime.date(2026, 1, 2)
    days: list[datetime.date] = Field([])
    folder: Path | None = None
    pause: datetime.timedelta = datetime.timedelta(seconds=3)
    note: str = ""


def test_defaults_are_shown_as_one_would_write_them() -> None:
    shown = {flag.field: get_args(flag.argument.annotation)[-1].show_default for flag in flags_of(Odd, set())}
    assert shown == {
        "box": False, "frame": '{"width": 4}', "boxes": "[]", "moods": '["good"]', "pick": "3", "day": "2026-01-02",
        "days": "[]", "folder": False, "pause": "PT3S", "note": False,
    }  # fmt: skip


@pytest.mark.parametrize("model", [Odd, model_of(Odd.model_json_schema())], ids=["here", "of a daemon"])
def test_what_is_text_in_json_is_written_without_quotation_marks(model: type[Parameters]) -> None:
    words = ("--day", "2026-11-26", "--days", "2026-11-27", "--folder", "7", "--pause", "PT5S", "--pick", "abc")
    given = read_with(flags_of(model, set()), *words)
    assert Odd.model_validate(given) == Odd(
        day=datetime.date(2026, 11, 26), days=[datetime.date(2026, 11, 27)], folder=Path("7"),
        pause=datetime.timedelta(seconds=5), pick="abc",
    )  # fmt: skip
    assert read_with(flags_of(model, set()), "--pick", "2.5") == {"pick": 2.5}
    assert read_with(flags_of(model, set()), "--pick", "true") == {"pick": "true"}


def test_a_flag_that_takes_json_says_so_and_gives_an_example() -> None:
    flags = {flag.field: flag for flag in flags_of(Odd, set())}
    assert get_args(flags["boxes"].argument.annotation)[-1].help == "(JSON: array)"
    with pytest.raises(CommandError, match="--frame takes JSON") as refused:
        read_with(flags_of(Odd, set()), "--frame", "4x3")
    assert refused.value.hint == """Write an object, such as '{"name": 1}'."""


def test_types_are_told_through_references_and_in_lists() -> None:
    schema = Odd.model_json_schema()
    told = {name: type_text(about, schema) for name, about in schema["properties"].items()}
    assert told == {
        "box": "object", "frame": "object", "boxes": "array of object", "moods": "array of (good | bad)",
        "pick": "integer | number | string", "day": "string", "days": "array of string", "folder": "string",
        "pause": "string", "note": "string",
    }  # fmt: skip
