"""The kinds of jobs a storm is made of: what is asked for, how it may end, and what its attempts may burn on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.storm.peers import PYTHON_OF_COG

SUCCEEDED = "succeeded"
OFTEN = 6
# A lane that only daemon B has: what is pinned to it finds the bytes of the job before it.
ONLY_B = "cpu3"
OF_PEERS = frozenset({"peer_lost", "peer_setup_failed"})


@dataclass
class Scene:
    """What a body may refer to."""

    random: random.Random
    clip: Path
    marks: Path
    # Acknowledged jobs of this client that a chain may hang on, newest last.
    texts: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    pinned_videos: list[str] = field(default_factory=list)
    # Part of the names of kinds that are drawn more often.
    often: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        ends: how it may end when nobody disturbs it: `succeeded`, or the code of its failure.
        burns: codes that its attempts may fail with although the job does not end so.
        outputs: how many it has.
    """

    name: str
    weight: int
    body: Callable[[Scene], dict[str, Any] | None]
    ends: frozenset[str]
    burns: frozenset[str] = frozenset()
    outputs: int = 1


def _zoo(act: str, *ends: str, weight: int = 2, burns: tuple[str, ...] = (), **more: Any) -> Kind:
    """A job of the zoo; what `more` says is part of the request."""
    parameters, name = more.pop("parameters", {}), more.pop("name", act)

    def body(scene: Scene) -> dict[str, Any]:
        return {"processor": "zoo", "input": {"act": act, **parameters}, "max_attempts": 2, **more}

    return Kind(name, weight, body, frozenset(ends), frozenset(burns))


def _work(scene: Scene) -> dict[str, Any]:
    return {"processor": "zoo", "input": {"act": "work", "seconds": round(scene.random.choice([0, 0, 0, 0.1, 0.3]), 2)}}


def _long_work(scene: Scene) -> dict[str, Any]:
    """Longer than a lease."""
    return {"processor": "zoo", "input": {"act": "work", "seconds": round(scene.random.uniform(3, 7), 2)}}


def _later(scene: Scene) -> dict[str, Any]:
    return _work(scene) | {"run_at": (datetime.now(UTC) + timedelta(seconds=scene.random.uniform(0.5, 6))).isoformat()}


def _hasty(scene: Scene) -> dict[str, Any]:
    """Gives up when it has waited too long."""
    soon = datetime.now(UTC) + timedelta(seconds=scene.random.uniform(0.5, 8))
    return _work(scene) | {"expires_at": soon.isoformat()}


def _die_once(scene: Scene) -> dict[str, Any]:
    marker = scene.marks / f"{scene.random.getrandbits(64):016x}"
    return {"processor": "zoo", "input": {"act": "die_once", "marker": str(marker)}}


def _after_text(scene: Scene) -> dict[str, Any] | None:
    """Waits for another job; whatever looks like a reference is a dependency, so the zoo's marker will do."""
    if not scene.texts:
        return None
    return {
        "processor": "zoo",
        "input": {"act": "work", "marker": f"vq:jobs/{scene.random.choice(scene.texts[-10:])}/text"},
    }


def _transcode(scene: Scene) -> dict[str, Any]:
    """Mostly work that nobody has done yet; what was done before is known, and its bytes are taken."""
    return {"processor": "transcode", "input": {"video": str(scene.clip), "crf": scene.random.randint(20, 45)}}


def _comfyui(scene: Scene) -> dict[str, Any]:
    """A graph on a server that the daemon starts for the lane."""
    picture = {"width": 64, "height": 64, "batch_size": 1, "color": scene.random.getrandbits(24)}
    slow = {"images": ["1", 0], "steps": 4, "seconds": 0.2, "fails": "no"}
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": picture},
        "2": {"class_type": "VQSlow", "inputs": slow},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "storm"}},
    }
    return {"processor": "comfyui", "input": {"graph": graph}}


def _cog(scene: Scene) -> dict[str, Any]:
    """A model on a Cog server that the daemon starts for the lane; one server for each daemon."""
    steps = scene.random.randint(1, 3)
    return {"processor": "cog", "input": {"endpoint": "model", "input": {"steps": steps}}, "lane": "cpu0"}


def _video(server: str, seconds: str, scene: Scene) -> dict[str, Any]:
    """A video that no other job asks for. Its id is kept by one daemon."""
    prompt = f"take {seconds} {scene.random.getrandbits(64):016x}"
    return {"processor": "videos", "input": {"server": server, "prompt": prompt}, "lane": ONLY_B}


def _outside_video(scene: Scene) -> dict[str, Any]:
    return _video("outside", f"{scene.random.uniform(0.5, 4):.1f}", scene)


def _inside_video(scene: Scene) -> dict[str, Any]:
    return _video("inside", f"{scene.random.uniform(0.5, 3):.1f}", scene)


def _endless_video(scene: Scene) -> dict[str, Any]:
    """The server has to be told to stop."""
    return _video("outside", "9999", scene) | {"timeout_s": 4, "max_attempts": 1}


def _pinned_transcode(scene: Scene) -> dict[str, Any]:
    return _transcode(scene) | {"lane": ONLY_B}


def _after_video(scene: Scene) -> dict[str, Any] | None:
    if not scene.videos:
        return None
    return {
        "processor": "transcode",
        "input": {"video": f"vq:jobs/{scene.random.choice(scene.videos[-3:])}/video", "quality": "low"},
    }


def _after_pinned_video(scene: Scene) -> dict[str, Any] | None:
    if not scene.pinned_videos:
        return None
    reference = f"vq:jobs/{scene.random.choice(scene.pinned_videos[-3:])}/video"
    return {"processor": "transcode", "input": {"video": reference, "quality": "low"}, "lane": ONLY_B}


def _kind(name: str, weight: int, body: Callable[[Scene], dict[str, Any] | None], *ends: str, **more: Any) -> Kind:
    return Kind(name, weight, body, frozenset(ends), **more)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in [
        _kind("work", 320, _work, SUCCEEDED),
        _kind("long_work", 4, _long_work, SUCCEEDED),
        _kind("later", 10, _later, SUCCEEDED),
        _kind("hasty", 6, _hasty, SUCCEEDED, "expired"),
        _kind("die_once", 2, _die_once, SUCCEEDED, burns=frozenset({"executor_crashed"})),
        _kind("after_text", 10, _after_text, SUCCEEDED, "dependency_failed"),
        _kind("transcode", 8, _transcode, SUCCEEDED),
        _kind("pinned_transcode", 2, _pinned_transcode, SUCCEEDED),
        _kind("comfyui", 4, _comfyui, SUCCEEDED, burns=OF_PEERS),
        *([_kind("cog", 4, _cog, SUCCEEDED, burns=OF_PEERS, outputs=3)] if PYTHON_OF_COG.exists() else []),
        _kind("outside_video", 5, _outside_video, SUCCEEDED, burns=OF_PEERS),
        _kind("inside_video", 4, _inside_video, SUCCEEDED, burns=OF_PEERS),
        _kind("endless_video", 2, _endless_video, "timed_out", burns=OF_PEERS),
        # Its input may lie on the other daemon's disk, or be deleted by people.
        _kind("after_video", 2, _after_video, SUCCEEDED, "dependency_failed", "input_not_found", "file_elsewhere"),
        _kind("after_pinned_video", 1, _after_pinned_video, SUCCEEDED, "dependency_failed", "input_not_found"),
        _zoo("raise", "processor_error"),
        _zoo("raise_nul", "processor_error", weight=1),
        _zoo("refuse", "unsupported_format"),
        _zoo("exit_silently", "no_result", weight=1, max_attempts=1),
        _zoo("segfault", "executor_crashed", weight=1, max_attempts=1),
        _zoo("abort", "poison", weight=1, burns=("executor_crashed",), max_attempts=5),
        _zoo("hang", "stalled", weight=2, stall_timeout_s=0.7),
        # These two last longer than a daemon is frozen, which ends no attempt meanwhile.
        _zoo("ignore_cancel", "stalled", weight=1, stall_timeout_s=0.7, parameters={"seconds": 30}),
        _zoo("work", "timed_out", name="too_long", weight=1, timeout_s=0.5, parameters={"seconds": 30}),
        _zoo("grandchild", "stalled", weight=1, stall_timeout_s=0.7, max_attempts=1),
        _zoo("flood", SUCCEEDED, weight=1, max_attempts=10),
        _zoo("shout", SUCCEEDED, weight=1, max_attempts=10),
        _zoo("lie", "bad_output", weight=1),
        _zoo("stray_output", "bad_output", weight=1),
        _zoo("folder_output", "bad_output", weight=1),
        _zoo("odd_name", "bad_output", weight=1),
        _zoo("same_name_twice", "bad_output", weight=1),
        _zoo("odd_facts", SUCCEEDED, weight=1, max_attempts=10),
        _zoo("odd_words", SUCCEEDED, weight=1, max_attempts=10),
        _zoo("out_of_memory", "out_of_memory", weight=1),
    ]
}


def draw(scene: Scene) -> tuple[Kind, dict[str, Any]]:
    """A kind by weight, and a request of it."""
    kinds = list(KINDS.values())
    weights = [kind.weight * (OFTEN if scene.often and scene.often in kind.name else 1) for kind in kinds]
    while True:
        (kind,) = scene.random.choices(kinds, weights)
        if (body := kind.body(scene)) is not None:
            break
    # Faults burn attempts: who is to succeed may lose many.
    body.setdefault("max_attempts", 10)
    if scene.random.random() < 0.3:
        body["priority"] = scene.random.randint(-10, 10)
    return kind, {"title": kind.name, **body}
