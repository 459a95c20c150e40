"""How wild a storm has to have been to prove anything; a calmer one is a broken promise like any other.

From 50 s on: one acknowledged job a second, one fault in 10 s, 6 different faults, an attempt that was interrupted;
from 300 s on every fault that the machine allows has struck. `--only` waives all of it but a strike of what it names.
Two busy cores were seen to make 200 to 420 jobs and 12 to 16 faults a minute, and 109 and 8 when badly overloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.storm.history import BrokenError

# A shorter storm is a look, not a proof.
PROVES_FROM_S = 50
ACKNOWLEDGED_PER_S = 1
SECONDS_PER_FAULT = 10
DIFFERENT_FAULTS = 6
# From here on the deck of faults has been through a few times.
EVERY_FAULT_FROM_S = 300


@dataclass(frozen=True)
class Tally:
    """What a storm came to.

    Attributes:
        struck: how often each fault hit something, by name; one that was missed is not in it.
        possible: the names of the faults that could be drawn.
    """

    seconds: float
    acknowledged: int
    interrupted: int
    struck: dict[str, int]
    possible: frozenset[str]


def too_calm(tally: Tally, *, only: bool) -> Iterator[BrokenError]:
    """What there was too little of."""
    if not tally.possible:
        yield BrokenError("this machine allows none of the faults that were asked for")
    elif tally.seconds < PROVES_FROM_S:
        return
    elif only:
        yield from _below("faults", sum(tally.struck.values()), 1)
    else:
        yield from _below("acknowledged jobs", tally.acknowledged, int(tally.seconds * ACKNOWLEDGED_PER_S))
        yield from _below("faults", sum(tally.struck.values()), int(tally.seconds / SECONDS_PER_FAULT))
        yield from _below("different faults", len(tally.struck), DIFFERENT_FAULTS)
        yield from _below("interrupted attempts", tally.interrupted, 1)
        never = sorted(tally.possible - tally.struck.keys())
        if never and tally.seconds >= EVERY_FAULT_FROM_S:
            yield BrokenError(f"too calm: these faults never struck: {', '.join(never)}")


def _below(what: str, seen: int, floor: int) -> Iterator[BrokenError]:
    if seen < floor:
        yield BrokenError(f"too calm: {seen} {what}, at least {floor} are wanted")
