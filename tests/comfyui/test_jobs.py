"""Jobs of `comfyui` from submission to their files, with a real daemon."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.comfyui.conftest import GRAPH, Server
from tests.daemon import Daemon, until
from tests.media.clips import Samples


def uploaded(daemon: Daemon, path: Path) -> str:
    answer = daemon.http.post(f"/v1/files?name={path.name}", content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["reference"])


@pytest.fixture(scope="module")
def picture(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A picture that the daemon has."""
    import cv2
    import numpy as np

    path = tmp_path_factory.mktemp("picture") / "in.png"
    cv2.imwrite(str(path), np.full((48, 64, 3), 200, np.uint8))
    return uploaded(daemon, path)


def graph(**slow: Any) -> dict[str, Any]:
    """The usual graph; `slow` changes its slow node."""
    made = copy.deepcopy(GRAPH)
    made["3"]["inputs"].update(slow)
    return made


def refused(daemon: Daemon, **parameters: Any) -> dict[str, Any]:
    answer = daemon.http.post("/v1/jobs", json={"processor": "comfyui", "input": parameters})
    assert answer.status_code == 422, answer.text
    return dict(answer.json())


def asks(server: Server, path: str) -> Any:
    return httpx2.get(f"{server.url}{path}", timeout=10).json()


def ids_on(server: Server) -> list[str]:
    """What a server has run, runs, or will run."""
    line = asks(server, "/queue")
    return [*asks(server, "/history?max_items=100"), *(one[1] for one in line["queue_running"] + line["queue_pending"])]


def test_a_picture_becomes_a_video_with_progress_over_the_whole_graph_and_previews(
    daemon: Daemon, picture: str
) -> None:
    job_id = daemon.submit("comfyui", graph=graph(steps=12, seconds=0.25), inputs={"1.image": picture})
    seen = until(lambda: daemon.http.get(f"/v1/jobs/{job_id}/preview").content[:3] == b"\xff\xd8\xff", what="a preview")
    assert seen
    job = daemon.ended(job_id)
    assert job["state"] == "succeeded", job["error"]
    (output,) = job["outputs"]
    assert (output["name"], output["media_type"]) == ("output", "video/mp4")
    assert output["facts"]["node"] == "5"
    assert output["facts"]["class_type"] == "SaveVideo"
    assert output["facts"]["filename"].startswith(job_id)
    assert output["facts"]["duration_s"] > 0
    told = daemon.sql(
        f"SELECT data FROM vidqueue.events WHERE job_id = '{job_id}' AND kind = 'progress' ORDER BY number"
    )
    shares = [one["data"]["progress"] for one in told]
    assert shares == sorted(shares)
    assert len({share for share in shares if 0.1 < share < 0.9}) >= 3
    assert {"VQSlow"} <= {one["data"].get("stage") for one in told}


def test_a_video_goes_in_and_a_video_comes_out_and_sound_too(daemon: Daemon, samples: Samples) -> None:
    nodes = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": uploaded(daemon, samples("plain.mp4"))}},
        "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
        "3": {"class_type": "LoadAudio", "inputs": {"audio": uploaded(daemon, samples("audio.mp4"))}},
        "4": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "audio": ["3", 0], "fps": 25.0}},
        "5": {"class_type": "SaveVideo", "inputs": {"video": ["4", 0], "filename_prefix": "x", "format": "mp4",
                                                    "codec": "h264"}},
    }  # fmt: skip
    job = daemon.ended(daemon.submit("comfyui", graph=nodes))
    assert job["state"] == "succeeded", job["error"]
    (output,) = job["outputs"]
    assert output["facts"]["video"]
    assert output["facts"]["audio"]


def test_several_files_are_numbered_in_the_order_of_nodes_and_public_before_the_end(
    daemon: Daemon, picture: str
) -> None:
    nodes = graph(steps=20, seconds=0.2)
    for node_id in ("10", "9"):
        nodes[node_id] = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "y"}}
    # As the last of all, so that the others need not wait for it.
    nodes["20"] = nodes.pop("5")
    job_id = daemon.submit("comfyui", graph=nodes, inputs={"1.image": picture})
    early = until(lambda: (job := daemon.job(job_id))["outputs"] and job, what="an output before the end")
    if early["state"] == "running":
        assert [one["name"] for one in early["outputs"]][:1] == ["output_1"]
    job = daemon.ended(job_id)
    nodes_of = {one["name"]: one["facts"]["node"] for one in job["outputs"]}
    assert nodes_of == {"output_1": "9", "output_2": "10", "output_3": "20"}


def test_the_same_graph_once_more_comes_from_the_cache_and_still_gives_a_file(daemon: Daemon, picture: str) -> None:
    same = {"graph": graph(steps=3), "inputs": {"1.image": picture}, "server": "one"}
    jobs = [daemon.ended(daemon.submit("comfyui", **same)) for _ in range(2)]
    assert [job["state"] for job in jobs] == ["succeeded"] * 2
    assert len({job["outputs"][0]["facts"]["filename"] for job in jobs}) == 2


@pytest.mark.parametrize(
    ("fails", "code"), [("memory", "gpu_out_of_memory"), ("error", "model_failed"), ("face", "no_face")]
)
def test_what_a_node_fails_of_is_told_with_a_code(daemon: Daemon, picture: str, fails: str, code: str) -> None:
    nodes = graph(fails=fails, steps=1)
    job = daemon.ended(daemon.submit("comfyui", graph=nodes, inputs={"1.image": picture}, max_attempts=1))
    assert (job["state"], job["error"]["code"]) == ("failed", code)
    assert job["error"]["message"].startswith("VQSlow (node 3): ")


AT = "/input/graph/3/"


def slow(**inputs: Any) -> dict[str, Any]:
    return {"inputs": {"images": ["2", 0], "steps": 4, "seconds": 0.1, "fails": "no"} | inputs}


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"class_type": "Nope"}, "missing_model", f"{AT}class_type"),
        (slow(fails="?"), "invalid_params", f"{AT}inputs/fails"),
        (slow(steps=0), "invalid_params", f"{AT}inputs/steps"),
        ({"inputs": {"images": ["2", 0], "steps": 4, "seconds": 0.1}}, "invalid_params", f"{AT}inputs/fails"),
        (slow(images=["8", 0]), "invalid_params", f"{AT}inputs/images"),
        (
            {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "none.safetensors"}},
            "missing_model",
            f"{AT}inputs/ckpt_name",
        ),
    ],
)
def test_a_graph_that_the_servers_would_refuse_is_refused_at_submission(
    daemon: Daemon, picture: str, change: dict[str, Any], code: str, pointer: str
) -> None:
    nodes = graph()
    nodes["3"] |= change
    problem = refused(daemon, graph=nodes, inputs={"1.image": picture})
    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, pointer)
    batch = {"jobs": [{"processor": "comfyui", "input": {"graph": nodes, "inputs": {"1.image": picture}}}]}
    assert daemon.http.post("/v1/batches", json=batch).json()["code"] == code


def test_what_is_no_graph_or_names_what_there_is_not_is_refused(daemon: Daemon, picture: str) -> None:
    problem = refused(daemon, graph={"nodes": [], "links": []})
    assert (problem["code"], "Export (API)" in problem["hint"]) == ("invalid_params", True)
    assert refused(daemon)["code"] == "invalid_params"
    assert refused(daemon, workflow="shrink", graph=graph())["code"] == "invalid_params"
    assert "shrink" in refused(daemon, workflow="nope")["detail"]
    assert refused(daemon, workflow="../shrink")["code"] == "unknown_model"
    assert refused(daemon, graph=graph(), server="three")["code"] == "unknown_model"
    assert (
        refused(daemon, graph=graph(), inputs={"7.image": picture})["errors"][0]["pointer"] == "/input/inputs/7.image"
    )
    missing = "vq:files/01234567-89ab-7def-8123-456789abcdef"
    assert refused(daemon, graph=graph(), inputs={"1.image": missing})["code"] == "input_not_found"


def test_a_workflow_has_typed_parameters_and_draws_its_seed(daemon: Daemon, picture: str) -> None:
    for inputs, name in (
        ({}, "picture"),
        ({"picture": picture, "size": 50}, "size"),
        ({"picture": picture, "size": "64"}, "size"),
        ({"picture": picture, "width": 64}, "width"),
    ):
        problem = refused(daemon, workflow="shrink", inputs=inputs)
        assert (problem["code"], problem["errors"][0]["pointer"]) == ("invalid_params", f"/input/inputs/{name}")
    job = daemon.ended(daemon.submit("comfyui", workflow="shrink", inputs={"picture": picture, "size": 32, "steps": 3}))
    assert (job["state"], [one["name"] for one in job["outputs"]]) == ("succeeded", ["output"])


def test_a_cancel_stops_the_prompt_on_the_server(daemon: Daemon, pair: list[Server], picture: str) -> None:
    job_id = daemon.submit("comfyui", graph=graph(steps=500, seconds=0.1), inputs={"1.image": picture})
    until(lambda: daemon.job(job_id)["stage"] == "VQSlow", what="it runs")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    assert daemon.ended(job_id, within_s=15)["state"] == "canceled"
    until(
        lambda: not any(asks(one, "/queue")["queue_running"] for one in pair), within_s=10, what="the servers are idle"
    )


def test_two_servers_behind_one_name_work_at_once(daemon: Daemon, pair: list[Server], picture: str) -> None:
    jobs = [
        daemon.submit("comfyui", graph=graph(steps=40 + n, seconds=0.1), inputs={"1.image": picture}) for n in range(2)
    ]
    until(lambda: all(asks(one, "/queue")["queue_running"] for one in pair), what="both work")
    assert [daemon.ended(job_id)["state"] for job_id in jobs] == ["succeeded"] * 2


def test_more_jobs_than_servers_wait_without_a_lane_and_the_catalogue_says_what_is_available(
    daemon: Daemon, picture: str
) -> None:
    given = {"graph": graph(steps=33, seconds=0.1), "inputs": {"1.image": picture}, "server": "one"}
    jobs = [daemon.submit("comfyui", **given) for _ in range(2)]
    waiting = until(
        lambda: [job for job in map(daemon.job, jobs) if job["wait_reason"] == "endpoint_busy"], what="one waits"
    )
    assert waiting[0]["state"] == "queued"
    shown = {one["name"]: one for one in daemon.http.get("/v1/processors").json()["processors"]}
    assert shown["comfyui"]["available"]
    assert not shown["cog"]["available"]
    assert "cog.endpoints" in shown["cog"]["reason"]
    assert [daemon.ended(job_id)["state"] for job_id in jobs] == ["succeeded"] * 2
    assert {one["error"] for job_id in jobs for one in _attempts(daemon, job_id)} == {None}


def _attempts(daemon: Daemon, job_id: str) -> list[dict[str, Any]]:
    return list(daemon.http.get(f"/v1/jobs/{job_id}/attempts").json()["attempts"])


def test_a_server_that_is_killed_in_mid_run_costs_no_attempt(daemon: Daemon, pair: list[Server], picture: str) -> None:
    nodes = graph(steps=30, seconds=0.1)
    for node_id in ("10", "11"):
        nodes[node_id] = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "y"}}
    nodes["20"] = nodes.pop("5")
    job_id = daemon.submit("comfyui", graph=nodes, inputs={"1.image": picture}, server="one")
    until(lambda: daemon.job(job_id)["stage"] == "VQSlow", what="it runs")
    early = [one["name"] for one in daemon.job(job_id)["outputs"]]
    pair[0].kill()
    pair[0].start()
    job = daemon.ended(job_id, within_s=120)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job["error"]
    assert [one["name"] for one in job["outputs"]] == ["output_1", "output_2", "output_3"]
    assert set(early) <= {"output_1", "output_2"}
    log = daemon.http.get(f"/v1/jobs/{job_id}/logs?attempt=1", headers={"Accept": "text/plain"}).text
    assert "submitted again" in log


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_ends_in_mid_run_finds_the_work_again(
    daemon: Daemon, pair: list[Server], picture: str, ends_by: signal.Signals
) -> None:
    # The steps tell the graphs of both apart, for the cache of the server.
    before = {one for server in pair for one in ids_on(server)}
    job_id = daemon.submit("comfyui", graph=graph(steps=60 + ends_by, seconds=0.1), inputs={"1.image": picture})
    until(lambda: daemon.job(job_id)["stage"] == "VQSlow", what="it runs")
    begun = {one for server in pair for one in ids_on(server)} - before
    assert len(begun) == 1
    daemon.end(by=ends_by)
    daemon.start()
    job = daemon.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2), job["error"]
    assert {one for server in pair for one in ids_on(server)} - before == begun, "it ran once"
    assert daemon.violations() == []


def test_a_prompt_is_canceled_with_its_job_after_a_kill(daemon: Daemon, pair: list[Server], picture: str) -> None:
    """No attempt is there that could tell the server."""
    job_id = daemon.submit("comfyui", graph=graph(steps=500, seconds=0.1), inputs={"1.image": picture})
    until(lambda: daemon.job(job_id)["stage"] == "VQSlow", what="it runs")
    daemon.http.post("/v1/pause", json={}).raise_for_status()
    daemon.kill()
    daemon.start()
    until(lambda: daemon.job(job_id)["state"] == "queued")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    until(
        lambda: not any(asks(one, "/queue")["queue_running"] for one in pair), within_s=15, what="the servers are idle"
    )
    daemon.http.post("/v1/resume", json={}).raise_for_status()


def test_no_workspace_and_no_file_without_a_row_is_left(daemon: Daemon) -> None:
    until(lambda: not list((daemon.data_dir / "work").iterdir()), what="no scratch")
    named = {str(one["id"]) for one in daemon.sql("SELECT id FROM vidqueue.files")}
    assert {path.name for path in (daemon.data_dir / "files").glob("??/*")} == named
