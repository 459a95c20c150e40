"""Reports of executors are made storable at both ends of the socket, whatever a processor reports."""

from __future__ import annotations

import array
import json
from typing import Any

import numpy
import pytest

from vidqueue.progress import LogLine, Progress
from vidqueue.sanitize import (
    DEEPEST,
    MOST_CHARACTERS,
    MOST_VALUES,
    Redactor,
    Sanitizer,
    sanitize_number,
    sanitize_text,
)
from vidqueue.worker.executor.messages import (
    TOLD_IN_PART,
    Broke,
    Done,
    Report,
    RunJob,
    decode,
    encode,
    storable,
    without_secrets,
)


def through(facts: Any, times: int = 2) -> Any:
    """The facts as they come out of the socket, where both ends have made them storable."""
    message: Any = Done([{"name": "video", "path": "/x", "media_type": "video/mp4", "facts": facts}])
    for _ in range(times):
        message = decode(encode(storable(message)))
    return message.outputs[0]["facts"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (numpy.float32(0.5), 0.5),
        (numpy.int64(7), 7),
        (numpy.bool_(True), True),
        (numpy.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (numpy.float32("nan"), None),
        ({"scores": [numpy.float32(0.25)]}, {"scores": [0.25]}),
        (array.array("d", [1.5]), "array('d', [1.5])"),
    ],
)
def test_numbers_and_arrays_of_libraries_are_stored_as_numbers_and_lists(given: Any, stored: Any) -> None:
    assert Sanitizer().value(given) == stored


def test_a_large_array_is_told_in_words_and_not_copied() -> None:
    assert str(Sanitizer().value(numpy.zeros(MOST_CHARACTERS))).startswith("[0. 0.")


def nested(depth: int) -> Any:
    value: Any = "\ud800"
    for _ in range(depth):
        value = [{"a": value}]
    return value


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"a": ["\0"]}, {"a": ["\ufffd"]}),
        ({"a": {"b": [{"\ud800": "\udfff"}]}}, {"a": {"b": [{"\ufffd": "\ufffd"}]}}),
        ({"a": ("x\udc80", {"y\0"})}, {"a": ["x\ufffd", ["y\ufffd"]]}),
    ],
)
def test_what_postgresql_cannot_hold_is_replaced_at_any_depth_and_told(given: Any, stored: Any) -> None:
    assert through(given) == stored | {"warnings": [TOLD_IN_PART]}


def test_what_can_be_stored_is_left_as_it_is_without_a_warning() -> None:
    facts = {"width": 1920, "fps": 29.97, "ok": True, "none": None, "text": "Ünï🎬", "list": [1, [2.5]], "big": 2**70}
    assert through(facts) == facts


def test_numbers_that_are_not_finite_become_null_without_a_warning() -> None:
    assert through({"a": float("nan"), "b": [float("inf"), -1e300], "c": 10**400}) == {
        "a": None, "b": [None, None], "c": None,
    }  # fmt: skip


def test_warnings_of_the_processor_are_kept_and_the_loss_is_told_once() -> None:
    assert through({"warnings": ["dark"], "a": "\0"}, times=3)["warnings"] == ["dark", TOLD_IN_PART]
    assert through({"warnings": "dark\0"}, times=3)["warnings"] == [TOLD_IN_PART]


@pytest.mark.parametrize(
    "facts",
    [
        {"a": list(range(5 * MOST_VALUES))},
        {"a": "x" * (5 * MOST_CHARACTERS)},
        {str(index): "\ud800" * 1000 for index in range(1000)},
        {"a": nested(DEEPEST)},
        {"a": nested(400)},
        ["not", "a", "dictionary"],
        None,
    ],
)
def test_too_much_is_cut_and_told(facts: Any) -> None:
    told = through(facts)
    assert told["warnings"] == [TOLD_IN_PART]
    assert len(json.dumps(told)) < 8 * MOST_CHARACTERS


class Faulty:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class FaultyKeys(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class FaultyItems(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("no items")


class FaultyNumber(int):
    def __int__(self) -> int:
        raise RuntimeError("no number")


class FaultyArray:
    @property
    def nbytes(self) -> int:
        raise RuntimeError("no size")

    def __str__(self) -> str:
        return "an array"


@pytest.mark.parametrize("has_secrets", [False, True])
def test_a_value_whose_own_code_fails_does_not_take_the_others_with_it(has_secrets: bool) -> None:
    odd = {"text": Faulty(), "map": FaultyKeys(a=1), "list": FaultyItems([1]), "number": FaultyNumber(7)}
    facts: dict[Any, Any] = {"kept": 5, **odd, "array": FaultyArray(), Faulty(): 6}
    report: Any = Done([{"name": "video", "path": "/x", "media_type": "video/mp4", "facts": facts}])
    redactor = Redactor(["secret"] if has_secrets else [])
    told = storable(without_secrets(report, redactor)).outputs[0]["facts"]
    assert (told["kept"], told["array"], told["text"], told["number"]) == (5, "an array", "…", None)
    assert told["warnings"] == [TOLD_IN_PART]
    assert told["…"] == 6


def test_facts_that_hold_themselves_end() -> None:
    facts: dict[str, Any] = {"a": 1}
    facts["self"] = [facts, facts]
    assert through(facts)["warnings"] == [TOLD_IN_PART]


@pytest.mark.parametrize(
    ("given", "number"),
    [(1, 1.0), ("0.5", 0.5), ("half", None), (None, None), ([], None), (10**400, None), (float("nan"), None)],
)
def test_a_number_is_finite_or_none(given: Any, number: float | None) -> None:
    assert sanitize_number(given) == number


ODD: list[Any] = [
    "0.5",
    "half",
    "",
    b"0.5",
    None,
    [],
    {},
    {1},
    object(),
    10**400,
    float("nan"),
    -float("inf"),
    1j,
    True,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_any_value_for_a_number_is_harmless_at_both_ends(odd: Any) -> None:
    progress = decode(encode(storable(Progress(odd, odd, odd, fps=odd, speed=odd, eta_s=odd))))
    assert type(progress.fraction) is float
    assert progress.fraction == (sanitize_number(odd) or 0.0)
    assert {type(one) for one in (progress.fps, progress.speed, progress.eta_s)} <= {float, type(None)}
    assert (type(progress.stage), type(progress.message)) == (str, str)
    done = decode(encode(storable(Done([{"name": odd, "path": odd, "media_type": odd, "facts": {"a": odd}}], odd))))
    assert (type(done.outputs[0]["facts"]), type(done.metrics)) == (dict, dict)


@pytest.mark.parametrize("odd", [one for one in ODD if one is None or isinstance(one, str | list | dict | int | float)])
def test_what_comes_over_the_socket_is_not_trusted(odd: Any) -> None:
    """The process of a processor may have written the line itself, so the lane makes it harmless alone."""
    line = json.dumps({"kind": "Progress", "fraction": odd, "stage": odd, "message": odd, "fps": odd}).encode()
    progress = decode(line)
    assert type(progress.fraction) is float
    assert (type(progress.stage), type(progress.message)) == (str, str)


def test_texts_of_every_report_are_storable() -> None:
    reports: list[Report] = [
        Progress(0.5, "s\0", "\ud800"),
        LogLine("\ud800" * 5000, "\0"),
        Broke("c\0", "m\ud800", "h\udfff", "d\0" * 9000),
    ]
    for report in reports:
        text = repr(decode(encode(report)))
        assert sanitize_text(text) == text
        assert len(text) < 12_000


def test_an_order_keeps_every_byte_of_its_paths() -> None:
    order = RunJob("zoo", {"a": "\ud800"}, {"video": "/srv/\udcff.mp4"}, "/work", {})
    assert decode(encode(order)) == order


def test_a_line_that_is_nested_too_deep_is_no_message() -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode(b'{"kind": "Done", "outputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_a_sanitizer_reads_no_more_of_a_generous_value_than_its_budget() -> None:
    sanitizer = Sanitizer(values_left=10)
    assert len(sanitizer.value(list(range(1_000_000)))) <= 10
    assert sanitizer.lossy
