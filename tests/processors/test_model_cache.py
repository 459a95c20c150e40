"""The cache of models: what it keeps, and what goes when there is no room."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vidqueue.processors.model_cache import ModelCache, size_of


class Loads:
    """Makes values, and counts how often."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def of(self, key: str) -> Callable[[], str]:
        def load() -> str:
            self.made.append(key)
            return key

        return load


def filled(cache: ModelCache, *keys: str) -> list[str]:
    """Ask for values of 100 bytes each; return those that had to be loaded."""
    loads = Loads()
    for key in keys:
        assert cache.get(key, loads.of(key), size=100) == key
    return loads.made


def test_without_a_limit_everything_is_kept() -> None:
    assert filled(ModelCache(), "a", "b", "c", "a", "b", "c") == ["a", "b", "c"]


def test_the_least_recently_used_values_go_first() -> None:
    cache = ModelCache(limit_bytes=250)
    assert filled(cache, "a", "b", "a", "c") == ["a", "b", "c"]
    assert filled(cache, "a", "c") == []
    assert filled(cache, "b") == ["b"]
    assert cache.size == 200


def test_a_pinned_value_stays_whatever_others_need() -> None:
    cache, loads = ModelCache(limit_bytes=250), Loads()
    cache.get("kept", loads.of("kept"), size=100, pinned=True)
    assert filled(cache, "a", "b", "c", "kept") == ["a", "b", "c"]
    cache.drop("kept")
    assert filled(cache, "a", "b", "kept") == ["a", "b", "kept"]


def test_room_is_made_before_a_value_is_loaded() -> None:
    cache, seen = ModelCache(limit_bytes=250), list[int]()
    filled(cache, "a", "b")
    cache.get("large", lambda: seen.append(cache.size), size=200)
    assert seen == [0]


def test_a_value_that_is_larger_than_the_limit_is_kept_alone_and_goes_with_the_next() -> None:
    cache = ModelCache(limit_bytes=250)
    loads = Loads()
    assert cache.get("huge", loads.of("huge"), size=1000) == "huge"
    assert cache.get("huge", loads.of("huge"), size=1000) == "huge"
    assert filled(cache, "a") == ["a"]
    assert (loads.made, cache.size) == (["huge"], 100)


def test_models_of_torch_are_measured() -> None:
    model = torch.nn.Linear(10, 10, bias=False)
    assert size_of(model) == 400
    cache = ModelCache(limit_bytes=700)
    cache.get("first", lambda: model)
    cache.get("second", lambda: torch.nn.Linear(10, 10, bias=False))
    assert cache.size == 400


def test_clear_forgets_everything() -> None:
    cache = ModelCache(limit_bytes=250)
    cache.get("kept", lambda: "x", size=100, pinned=True)
    cache.clear()
    assert cache.size == 0
