"""Jobs of all kinds of peers beside work of our own, of two owners on four lanes: each ends as it should, and once.

The Cog server is real, ComfyUI is the contract server, FaceFusion the stand-in; the processors `videos` and `replicate`
ask the doors of the same daemon, whose jobs run on the same lanes.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.comfyui.conftest import GRAPH, variables, workflows
from tests.comfyui.contract import PNG, ContractServer
from tests.compat.test_videos import ALIASES
from tests.daemon import Daemon, until
from tests.media.clips import Samples, samples
from tests.processors.test_cog import PYTHON, CogServer
from tests.processors.test_facefusion import STAND_IN

__all__ = ["samples", "workflows"]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no Cog here; `make .venv-others/.installed` installs it")

OWNERS = ("ann", "bob")
# Kinds whose jobs no other one keeps from running: they begin in the order in which they were submitted.
UNBOUND = ("transcode", "verify", "extract-audio", "thumbnails")


@dataclass(frozen=True)
class Wanted:
    """A job, and how it must end: its outputs or its error. `failures` are what it may burn."""

    body: dict[str, Any]
    ends: str = "succeeded"
    outputs: tuple[str, ...] = ()
    failures: int = 0


@dataclass
class Peers:
    """The servers of a test."""

    cog: CogServer
    comfy: list[ContractServer]


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, samples: Samples) -> Iterator[Peers]:
    video = samples("plain.mp4").read_bytes()
    comfy = [ContractServer(tmp_path_factory.mktemp("comfyui"), video).start() for _ in range(2)]
    cog = CogServer(tmp_path_factory.mktemp("cog")).start()
    yield Peers(cog, comfy)
    cog.stop()
    for server in comfy:
        server.stop()


@pytest.fixture(scope="module")
def daemon(peers: Peers, workflows: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with four lanes; its doors are servers of its own processors."""
    home, folder = tmp_path_factory.mktemp("facefusion"), tmp_path_factory.mktemp("mixed")
    shutil.copy(STAND_IN, home)
    for act in ("face", "faceless"):
        (folder / f"{act}.png").write_bytes(PNG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"url": f"http://127.0.0.1:{port}/v1"}
    started = Daemon(
        folder / "data",
        **variables([*peers.comfy], workflows),
        VIDQUEUE_API__PORT=str(port),
        VIDQUEUE_LANES__CPU="4",
        VIDQUEUE_COG__ENDPOINTS=json.dumps({"model": {"url": peers.cog.url, "device": "cpu"}}),
        VIDQUEUE_FACEFUSION__HOME=str(home),
        VIDQUEUE_FACEFUSION__PYTHON=sys.executable,
        VIDQUEUE_VIDEOS__MODELS=json.dumps(ALIASES),
        VIDQUEUE_VIDEOS__SERVERS=json.dumps({"ours": own | {"key_file": str(folder / "key")}}),
        VIDQUEUE_REPLICATE__ACCOUNTS=json.dumps({"ours": own | {"token_file": str(folder / "key")}}),
    ).start()
    started.http.headers["Authorization"] = f"Bearer {key(started, 'boss', 'admin')}"
    (folder / "key").write_text(key(started, "door"))
    yield started
    assert started.violations() == []
    assert started.stop() == 0


def key(daemon: Daemon, owner: str, role: str = "submit") -> str:
    return str(daemon.http.post("/v1/keys", json={"owner": owner, "role": role}).json()["key"])


def stored(client: httpx2.Client, name: str, content: bytes) -> str:
    return str(client.post("/v1/files", files={"file": (name, content)}).json()["reference"])


@pytest.fixture(scope="module")
def clients(daemon: Daemon) -> dict[str, httpx2.Client]:
    """A client of each owner."""
    return {
        owner: httpx2.Client(base_url=daemon.url, timeout=30, headers={"Authorization": f"Bearer {key(daemon, owner)}"})
        for owner in OWNERS
    }


def media_of(client: httpx2.Client, samples: Samples) -> dict[str, str]:
    """The uploads of one owner."""
    video = samples("plain.mp4").read_bytes()
    return {
        "video": stored(client, "plain.mp4", video),
        "sound": stored(client, "audio.mp4", samples("audio.mp4").read_bytes()),
        "picture": stored(client, "in.png", PNG),
        "broken": stored(client, "broken.mp4", video[:900]),
    }


def one_of_each(media: dict[str, str], folder: Path) -> list[Wanted]:
    """Twenty jobs: of each kind one that succeeds, and of some one that must fail."""
    video, sound, picture = media["video"], media["sound"], media["picture"]

    def job(processor: str, **given: Any) -> dict[str, Any]:
        return {"processor": processor, "input": given}

    def cog(**given: Any) -> dict[str, Any]:
        return job("cog", endpoint="model", input={"steps": 1} | given)

    def comfy(**slow: Any) -> dict[str, Any]:
        graph = json.loads(json.dumps(GRAPH))
        graph["3"]["inputs"] |= {"steps": 2, "seconds": 0.02} | slow
        return job("comfyui", graph=graph, inputs={"1.image": picture})

    def face(act: str) -> dict[str, Any]:
        return job("facefusion", sources=[str(folder / f"{act}.png")], target=video) | {"max_attempts": 1}

    film = job("videos", server="ours", model="still", prompt="a fox", image=picture, seconds=1)
    model = job("replicate", account="ours", model="vidqueue/zoo", input={"act": "work"})
    sonic = job("sonic", image=picture, audio=sound, inference_steps=2)
    return [
        Wanted(cog(), outputs=("output_1", "output_2", "result")),
        Wanted(cog(act="fail"), "model_failed", failures=1),
        Wanted(cog(act="out_of_memory") | {"max_attempts": 1}, "gpu_out_of_memory", failures=1),
        Wanted(comfy(), outputs=("output",)),
        Wanted(comfy(), outputs=("output",)),
        Wanted(comfy(fails="error"), "model_failed", failures=1),
        Wanted(sonic, outputs=("video",)),
        Wanted(face("face"), outputs=("video",)),
        Wanted(face("faceless"), "no_face", failures=1),
        Wanted(film, outputs=("video",)),
        Wanted(model, outputs=("output", "result")),
        Wanted(job("transcode", video=video, effort="fast"), outputs=("video",)),
        Wanted(job("transcode", video=media["broken"], effort="fast"), "unsupported_format", failures=1),
        Wanted(job("transcode", video="vq:batch/0/output_1", effort="fast"), "unsupported_format", failures=1),
        Wanted(job("verify", media="vq:batch/1/output_1"), "dependency_failed"),
        Wanted(job("thumbnails", video=video), outputs=("poster.jpg",)),
        Wanted(job("extract-audio", media=sound), outputs=("audio",)),
        Wanted(job("export", clips=[{"media": video}, {"media": picture, "duration_s": 0.5}]), outputs=("video",)),
        Wanted(job("verify", media=video), outputs=("report",)),
        Wanted(job("transcode", video="vq:batch/3/output", effort="fast"), outputs=("video",)),
    ]


def in_batches(client: httpx2.Client, wanted: list[list[Wanted]]) -> list[tuple[str, Wanted]]:
    """Submit each list as a batch."""
    made: list[tuple[str, Wanted]] = []
    for jobs in wanted:
        answer = client.post("/v1/batches", json={"jobs": [one.body for one in jobs]})
        assert answer.status_code == 202, answer.text
        made += zip(answer.json()["jobs"], jobs, strict=True)
    return made


def own(media: dict[str, str]) -> list[Wanted]:
    """Jobs that no peer has a part in."""
    return [one for one in one_of_each(media, Path("/")) if one.body["processor"] in UNBOUND and not depends(one)]


def depends(wanted: Wanted) -> bool:
    return "vq:batch/" in json.dumps(wanted.body)


@pytest.mark.long
@pytest.mark.parametrize("rounds", [1, 2])
def test_jobs_of_all_kinds_end_as_they_should(
    daemon: Daemon, peers: Peers, clients: dict[str, httpx2.Client], samples: Samples, rounds: int
) -> None:
    boss, folder = daemon.http, daemon.data_dir.parent
    assert boss.post("/v1/pause", json={}).status_code == 200
    ran, asked = sum(len(server.ran) for server in peers.comfy), asked_at_doors(daemon)
    ann, bob = (media_of(clients[owner], samples) for owner in OWNERS)
    first = in_batches(clients["ann"], [one_of_each(ann, folder)] * rounds)
    second = in_batches(clients["bob"], [one_of_each(bob, folder) if rounds > 1 else own(bob)])
    assert set(reasons(boss)) == {"paused", "dependency"}
    assert boss.post("/v1/resume", json={}).status_code == 200

    seen = set[str | None]()

    def all_ended() -> bool:
        seen.update(reasons(boss))
        return not daemon.sql("SELECT id FROM vidqueue.jobs WHERE state IN ('queued', 'running')")

    until(all_ended, within_s=240)
    assert None not in seen, "a job waits, and nothing says why"
    assert rounds == 1 or "endpoint_busy" in seen, "the Cog server takes one job at a time"
    for job_id, wanted in (*first, *second):
        check(daemon, job_id, wanted)
    # Nothing runs twice on a peer.
    kinds = Counter(wanted.body["processor"] for _, wanted in (*first, *second))
    assert sum(len(server.ran) for server in peers.comfy) - ran == kinds["comfyui"] + kinds["sonic"]
    assert asked_at_doors(daemon) - asked == Counter(export=kinds["videos"], zoo=kinds["replicate"])
    # Each owner's jobs of a kind begin in their order, and the second owner does not wait for all those of the first.
    begun = [row["id"] for row in daemon.sql(BEGUN)]
    for made in (first, second):
        for kind in UNBOUND:
            ids = [job_id for job_id, one in made if one.body["processor"] == kind and not depends(one)]
            assert [one for one in begun if one in ids] == ids, kind
    of_bob, ours = dict(second), dict((*first, *second))
    turns = [one in of_bob for one in begun if one in ours]
    half = sum(turns) // 2
    assert sum(turns[: 3 * half + 4]) >= half, turns


# The jobs in the order in which they were dispatched first.
BEGUN = "SELECT job_id::text AS id FROM vidqueue.attempts WHERE number = 1 ORDER BY fence"


def reasons(boss: httpx2.Client) -> list[str | None]:
    """Why the jobs wait that wait."""
    waiting = boss.get("/v1/jobs", params={"state": "queued", "limit": 100}).json()["jobs"]
    return [one["wait_reason"] for one in waiting]


def asked_at_doors(daemon: Daemon) -> Counter[str]:
    """The jobs that the processors `videos` and `replicate` have asked for."""
    rows = daemon.sql("SELECT processor, count(*) AS jobs FROM vidqueue.jobs WHERE owner = 'door' GROUP BY processor")
    return Counter({row["processor"]: row["jobs"] for row in rows})


def check(daemon: Daemon, job_id: str, wanted: Wanted) -> None:
    """Compare the end of a job, its outputs and its attempts with what they must be."""
    job = daemon.job(job_id)
    what = (wanted.body["processor"], job["error"], job["outputs"])
    if wanted.ends == "succeeded":
        assert job["state"] == "succeeded", what
        assert {one["name"] for one in job["outputs"]} >= set(wanted.outputs), what
        assert all(one["size"] > 0 for one in job["outputs"]), what
    else:
        assert (job["state"], job["error"]["code"]) == ("failed", wanted.ends), what
        assert job["outputs"] == []
    rows = daemon.sql(f"SELECT outcome FROM vidqueue.attempts WHERE job_id = '{job_id}'")
    outcomes = Counter(row["outcome"] for row in rows)
    assert (outcomes["failed"], outcomes["interrupted"]) == (wanted.failures, 0), what
    assert outcomes["succeeded"] == (wanted.ends == "succeeded"), what
