"""How a history is drawn: what is offered, what is asked for, what is done at a step, each deed as often as it says.

The deeds are no Hypothesis rules of their own: it leaves whole rules out of a history, and one without jobs, or without
dispatch, tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from hypothesis import strategies as st

from tests.jobs.model import FINAL, Attempt, Backoff, Job, Lane, Model, Processor

Method = TypeVar("Method", bound=Callable[..., None])
# What to draw a value from, where the queue has something to choose.
Choice: TypeAlias = Callable[[Model], st.SearchStrategy[Any] | None]

NODES = (UUID(int=1), UUID(int=2))
# They wait 3 to 18 s after a failure: longer than a history takes, and shorter than the time that passes at once.
MILL = Processor("mill", 2, Backoff(6, 9))
SAW = Processor("saw", 3, Backoff(9, 18))


def offered() -> list[Lane]:
    """Two nodes: one with CPU lanes, of which one stands in for a GPU, one with a GPU, which lacks a processor."""
    both, one = {MILL.name: "1", SAW.name: "1"}, {MILL.name: "2"}
    return [
        Lane("cpu0", NODES[0], "cpu", ("cpu", "gpu"), 0, processors=both),
        Lane("cpu1", NODES[0], "cpu", ("cpu",), 0, processors=both),
        Lane("gpu0", NODES[1], "gpu", ("gpu",), 8000, processors=one),
    ]


# The places: any CPU lane, a certain one, a GPU that is there, a GPU that only a CPU lane can stand in for.
REQUEST = st.fixed_dictionaries(
    {
        "owner": st.sampled_from(["ann", "bob"]),
        "processor": st.sampled_from([MILL, SAW]),
        "place": st.sampled_from(
            [("cpu", 0, None), ("cpu", 0, None), ("cpu", 0, "cpu1"), ("gpu", 6000, None), ("gpu", 9000, None)]
        ),
        "priority": st.sampled_from([0, 0, 0, 1, 5]),
        "start_s": st.sampled_from([0, 0, 0, 100]),
        "deadline_s": st.sampled_from([None, None, None, 90, 110]),
        "max_attempts": st.sampled_from([None, None, 2, 5]),
    }
)


@dataclass(frozen=True)
class Deed:
    """One thing that is done, as the trace tells it."""

    name: str
    values: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.values.items())})"


def deed(weight: int, **values: Choice | st.SearchStrategy[Any]) -> Callable[[Method], Method]:
    """Make a method of the machine something that is done about so often."""

    def known(method: Method) -> Method:
        method.__dict__["deed"] = (weight, values)
        return method

    return known


def one(what: Callable[[Model], Sequence[Any]]) -> Choice:
    """One of these; the deed is not possible without any."""
    return lambda model: st.sampled_from(what(model)) if what(model) else None


def few(what: Callable[[Model], Sequence[Any]]) -> Choice:
    """One or two of these; the deed is not possible without any."""

    def choice(model: Model) -> st.SearchStrategy[Any] | None:
        there = what(model)
        return st.lists(st.sampled_from(there), min_size=1, max_size=2, unique=True) if there else None

    return choice


@st.composite
def deeds(draw: st.DrawFn) -> Deed:
    """One of the deeds that can be done now."""
    machine = draw(st.runner())
    model: Model = machine.model
    possible: dict[str, dict[str, st.SearchStrategy[Any]]] = {}
    weighted: list[str] = []
    for name, weight, values in _known(type(machine)):
        choices = {key: value(model) if callable(value) else value for key, value in values.items()}
        there = {key: choice for key, choice in choices.items() if choice is not None}
        # Nothing is worth doing to an empty queue but to fill it.
        if len(there) == len(values) and (model.jobs or name == "submit"):
            possible[name] = there
            weighted += [name] * weight
    name = draw(st.sampled_from(weighted))
    return Deed(name, {key: draw(choice) for key, choice in possible[name].items()})


def _known(machine: type) -> list[tuple[str, int, dict[str, Choice | st.SearchStrategy[Any]]]]:
    methods = (getattr(machine, name) for name in dir(machine))
    return [(method.__name__, *method.deed) for method in methods if hasattr(method, "deed")]


def jobs(model: Model) -> list[Job]:
    return model.jobs


def ended(model: Model) -> list[Job]:
    """Any job, but rather one that has ended."""
    return model.jobs + 2 * [job for job in model.jobs if job.state in FINAL]


def running(model: Model) -> list[Job]:
    """Any job, but rather one that runs."""
    return model.jobs + 2 * [job for job in model.jobs if job.state == "running"]


def needed(model: Model) -> list[Job]:
    """Any job, but rather one that has ended, and rather yet one that another one needs that has not."""
    waiting = [job for job in model.jobs if job.state not in FINAL]
    return ended(model) + 6 * [need for job in waiting for need in job.needs if need.state in FINAL]


def open_(model: Model) -> list[Attempt]:
    return [attempt for attempt in model.attempts if attempt.open]


def lost(model: Model) -> list[Attempt]:
    """Any attempt that has ended, but rather one whose job runs again."""
    over = [attempt for attempt in model.attempts if not attempt.open]
    return over + 5 * [attempt for attempt in over if attempt.job.state == "running"]


def lanes(model: Model) -> list[Lane]:
    return model.lanes


def nodes(model: Model) -> list[UUID]:
    """Any daemon's, but rather one that has left."""
    return [*NODES] + 3 * [lane.node for lane in model.lanes if not lane.online]


def kept(model: Model) -> list[Lane]:
    return [lane for lane in model.lanes if lane.blocked_by or lane.paused]


def free(model: Model) -> list[Lane]:
    """Any lane, but rather one that will be given a job; none while nobody waits."""
    waiting = [job for job in model.jobs if job.state == "queued"]
    useful = [lane for lane in model.lanes if model.choice(lane, model.now.until)]
    return model.lanes + 3 * useful if waiting else []
