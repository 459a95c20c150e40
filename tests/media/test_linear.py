"""Every pattern and loop over outside bytes takes time in proportion to its input, whatever the input is.

Each compiled pattern of the program meets inputs that are made from the pattern itself: everything that almost matches,
many times over. A pattern that backtracks needs seconds for what a linear one does in a millisecond.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import vidqueue
from tests.media.clips import Samples
from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.probe import probe
from vidqueue.media.source import check_source, is_playlist

# Characters of input. The small ones first: they are enough for a pattern that is exponential.
SIZES = (60, 120, 1_000, 20_000, 80_000)
# Linear patterns need a few milliseconds for the largest size, quadratic ones a second and more.
MOST_S = 0.25


def compiled() -> dict[str, re.Pattern[Any]]:
    """Each module-level pattern of the program, by its name."""
    found: dict[str, re.Pattern[Any]] = {}
    for module in pkgutil.walk_packages(vidqueue.__path__, "vidqueue."):
        # `__main__` starts a program.
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                found |= {f"{module.name}.{name}{place}": one for place, one in _patterns_in(value)}
    return found


def _patterns_in(value: object) -> Iterator[tuple[str, re.Pattern[Any]]]:
    if isinstance(value, re.Pattern):
        yield "", value
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from ((f"[{number}]{place}", one) for place, one in _patterns_in(item))


PATTERNS = compiled()
CALLS = ("match", "search", "fullmatch")


def asked(name: str) -> list[str]:
    """How the module of a pattern asks it; all ways where that is not plain from its text."""
    module, _, variable = name.rpartition(".")
    text = Path(importlib.import_module(module).__file__ or "").read_text()
    calls = set(re.findall(rf"\b{re.escape(variable)}\.(\w+)\(", text))
    return [call for call in CALLS if call in calls] if calls and calls <= set(CALLS) else list(CALLS)


def example(node: tuple[Any, Any]) -> str:
    """A text that one node of a parsed pattern matches, or nearly."""
    kind, details = node
    if kind in (kinds.LITERAL, kinds.NOT_LITERAL):
        return chr(int(details)) if kind is kinds.LITERAL else "a"
    if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT):
        least, most, inner = details
        return "".join(map(example, inner)) * max(int(least), 1 if most else 0)
    if kind is kinds.SUBPATTERN:
        return "".join(map(example, details[3]))
    if kind is kinds.BRANCH:
        return "".join(map(example, details[1][0]))
    if kind is kinds.IN:
        return example_in(details)
    return "" if kind is kinds.AT else "a"


def example_in(members: list[tuple[Any, Any]]) -> str:
    for kind, details in members:
        if kind is kinds.LITERAL:
            return chr(details)
        if kind is kinds.RANGE:
            return chr(details[0])
        if kind is kinds.CATEGORY:
            return str({kinds.CATEGORY_DIGIT: "1", kinds.CATEGORY_SPACE: " "}.get(details, "a"))
    return "a"


def sequences(tree: Any) -> Iterator[list[tuple[Any, Any]]]:
    """The sequence of nodes of a pattern, and of every group and repeat in it."""
    yield list(tree)
    for kind, details in tree:
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT):
            yield from sequences(details[2])
        elif kind is kinds.SUBPATTERN:
            yield from sequences(details[3])
        elif kind is kinds.BRANCH:
            for branch in details[1]:
                yield from sequences(branch)


def almost_matching(pattern: re.Pattern[Any]) -> set[tuple[str, str]]:
    """What to begin with and what to repeat: each part of the pattern, from and to each of its nodes."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = parser.parse(text, pattern.flags & ~re.UNICODE)
    whole = [example(node) for node in tree]
    found = {("", unit) for unit in (" ", "a", "1", ".", ",", ":", "(", "<!---->", "\n", "a ", "1.", "()")}
    for nodes in sequences(tree):
        words = [example(node) for node in nodes]
        for end in range(1, len(words) + 1):
            found.add(("", "".join(words[:end])))
            found.add(("", words[end - 1]))
            found.add(("".join(whole), words[end - 1]))
            found.add(("".join(words[: end - 1]), words[end - 1]))
    return {(head, unit) for head, unit in found if unit}


def seconds_of(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_a_pattern_takes_time_in_proportion_to_its_input(name: str) -> None:
    pattern = PATTERNS[name]
    calls = [getattr(pattern, call) for call in asked(name)]
    for head, unit in sorted(almost_matching(pattern)):
        for size in SIZES:
            text = head + unit * (size // len(unit)) + "\x00"
            given = text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")
            for ask in calls:
                assert seconds_of(lambda ask=ask, given=given: ask(given)) < MOST_S, (head, unit, size, ask)  # type: ignore[misc]


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"x.*y", r"(?:<!--.*?-->\s*)*<MPD"])
def test_a_pattern_that_backtracks_would_be_noticed(pattern: str) -> None:
    texts = (
        head + unit * (size // len(unit)) + "\x00"
        for head, unit in sorted(almost_matching(re.compile(pattern, re.S)))
        for size in (24, 26, 28, 80_000)
    )
    assert any(seconds_of(lambda text=text: re.compile(pattern, re.S).search(text)) > MOST_S for text in texts)  # type: ignore[misc]


HEADS = {
    "comments": b"<!---->",
    "comments and spaces": b"<!-- -->\n",
    "open comments": b"<!--",
    "almost comments": b"<!--->",
    "declarations": b"<?xml ?>",
    "open declarations": b"<?xml",
    "document types": b"<!DOCTYPE a>",
    "open document types": b"<!DOCTYPE ",
    "prefixes": b"<a:",
    "blank": b" ",
    "blank and comment": b" <!-- x -->  ",
}


@pytest.mark.parametrize("unit", HEADS.values(), ids=HEADS.keys())
def test_the_look_for_playlists_takes_time_in_proportion_to_what_it_sees(unit: bytes) -> None:
    for size in SIZES:
        assert seconds_of(lambda size=size: is_playlist(unit * (size // len(unit)) + b"x")) < MOST_S  # type: ignore[misc]


@pytest.mark.parametrize("unit", HEADS.values(), ids=HEADS.keys())
def test_an_upload_that_looks_like_a_playlist_for_long_is_judged_at_once(unit: bytes, tmp_path: Path) -> None:
    path = tmp_path / "upload.mp4"
    path.write_bytes(unit * 50)
    assert seconds_of(lambda: check_source(path)) < MOST_S
    with pytest.raises(VidqueueError) as caught:
        probe(path, Limits())
    assert caught.value.code == "unsupported_format"


def test_a_manifest_behind_many_comments_is_still_a_playlist(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "manifest.mp4"
    path.write_bytes(b"\xef\xbb\xbf \n<?xml version='1.0'?>\n" + b"<!-- x -->\n" * 50 + b"<MPD></MPD>")
    with pytest.raises(VidqueueError) as caught:
        check_source(path)
    assert caught.value.code == "input_is_a_playlist"
    assert check_source(samples("plain.mp4")).size > 0
