"""Parsing of parameters: large ones in threads of their own, so that the event loop, which renews leases, goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from vidqueue.ops.threads import ThreadPool

# Parameters with fewer values and characters than these are parsed in a millisecond.
VALUES, CHARACTERS = 200, 16_384

Args = ParamSpec("Args")
Result = TypeVar("Result")

_threads = ThreadPool("large parameters", size=2)


async def parsed(raw: Any, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
    """Return what a function makes of these raw parameters, which is called in a thread if they are large."""
    if is_large(raw):
        return await _threads.run(function, *args, **kwargs)
    return function(*args, **kwargs)


def is_large(raw: Any) -> bool:
    """True if a JSON value is too large to be parsed on the event loop. Looks at a bounded part of it."""
    left, values, characters = [raw], 0, 0
    while left:
        value = left.pop()
        values += 1
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, dict | list):
            if len(value) > VALUES:
                return True
            left.extend(value)
            left.extend(value.values() if isinstance(value, dict) else ())
        if values > VALUES or characters > CHARACTERS:
            return True
    return False
