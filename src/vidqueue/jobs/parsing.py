"""Parsing of parameters. Large ones, and those that a peer is asked about, are parsed in threads of their own.

The event loop, which renews leases, goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from vidqueue.ops.threads import ThreadPool
from vidqueue.processors import registry

# Parameters with fewer values and characters than these are parsed in a millisecond.
VALUES, CHARACTERS = 200, 16_384

Args = ParamSpec("Args")
Result = TypeVar("Result")

_threads = ThreadPool("large parameters", size=2)
# Others wait for their servers here, and not for each other's parameters.
_peers = ThreadPool("checks that ask a peer", size=4)


async def parsed(raw: Any, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
    """Return what a function makes of these raw parameters, which is called in a thread if they are large."""
    if is_large(raw):
        return await _threads.run(function, *args, **kwargs)
    return function(*args, **kwargs)


async def accepted(
    requests: Iterable[Any], function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
) -> Result:
    """Return what a function that accepts these requests makes of them; in a thread if one is large or asks a peer."""
    known = registry.catalogue()
    inputs = []
    for request in requests:
        inputs.append(getattr(request, "input", None))
        processor = known.get(getattr(request, "processor", ""))
        if processor is not None and processor.asks_peer:
            return await _peers.run(function, *args, **kwargs)
    return await parsed(inputs, function, *args, **kwargs)


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
