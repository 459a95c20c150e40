"""The Comfy API v2 with the official SDK, unchanged, in front of servers that answer as ComfyUI was recorded to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.comfyui.test_jobs import graph, picture
from tests.daemon import Daemon
from tests.processors.test_cog import PYTHON

__all__ = ["picture"]
CLIENT = Path(__file__).with_name("comfy_client.py")
SDK = PYTHON.parents[1] / "node_modules/@comfyorg/sdk/dist/index.js"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="no `comfy-sdk` here; `make .venv-others/.installed` installs it"
)


def ask(daemon: Daemon, *words: str | Path) -> Any:
    """What the client prints."""
    environment = {"COMFY_BASE_URL": daemon.url, "PATH": os.environ["PATH"]}
    done = subprocess.run([PYTHON, CLIENT, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture with bytes that nobody has sent before."""
    import cv2
    import numpy as np

    path = tmp_path / "in.png"
    cv2.imwrite(str(path), np.random.default_rng().integers(0, 255, (48, 64, 3), np.uint8))
    return path


def saved(tmp_path: Path, **slow: Any) -> Path:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(graph(**slow)))
    return path


def test_a_graph_is_run_followed_and_downloaded(daemon: Daemon, tmp_path: Path, image: Path) -> None:
    target = tmp_path / "out.mp4"
    told = ask(daemon, "run", saved(tmp_path, steps=12, seconds=0.25), image, target)
    assert told["status"][-1] == "succeeded"
    assert set(told["status"]) <= {"queued", "running", "succeeded"}
    values = [value for value, _ in told["progress"]]
    assert values == sorted(values)
    assert len({value for value in values if 0.1 < value < 0.9}) >= 2
    assert {total for _, total in told["progress"]} == {5}
    assert told["previews"] >= 1
    job = daemon.job(told["id"])
    (output,) = job["outputs"]
    content = daemon.http.get(f"/v1/jobs/{job['id']}/outputs/output").content
    assert target.read_bytes() == content
    assert told["range"] == content[4:8].decode("latin-1")
    assert len(told["outputs"]) == 1
    (shown,) = daemon.http.get(f"/api/v2/jobs/{job['id']}").json()["outputs"]
    assert (shown["id"], shown["size_bytes"]) == (told["outputs"][0], output["size"])
    assert daemon.http.get(shown["url"]).content == content
    assert (told["type"], told["node"], told["created_new"]) == ("video", "5", True)
    assert told["workflow"] == ["api", {"__type": "core/ASSET", "info": {"id": told["asset"]}}]
    assert told["metadata"] == {"film": "seven"}
    log = daemon.http.get(daemon.http.get(f"/api/v2/jobs/{job['id']}").json()["urls"]["logs"])
    assert (log.status_code, log.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert log.text == daemon.http.get(f"/v1/jobs/{job['id']}/logs", headers={"Accept": "text/plain"}).text
    assert told["id"] in told["listed"]
    assert told["others"] == []


@pytest.mark.skipif(
    not SDK.exists() or shutil.which("node") is None, reason="no node, or no `@comfyorg/sdk` (see the Makefile)"
)
def test_the_sdk_for_typescript_does_the_same(daemon: Daemon, tmp_path: Path, image: Path) -> None:
    target = tmp_path / "out.mp4"
    environment = {"COMFY_BASE_URL": daemon.url, "PATH": os.environ["PATH"], "COMFY_SDK": SDK.as_uri()}
    command: list[str | Path] = [
        "node",
        CLIENT.with_suffix(".mjs"),
        saved(tmp_path, steps=8, seconds=0.25),
        image,
        target,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == "succeeded"
    assert min(told["kinds"][kind] for kind in ("statusChange", "progress", "preview", "outputReady")) >= 1
    assert target.read_bytes() == daemon.http.get(f"/v1/jobs/{told['id']}/outputs/output").content


def test_no_asset_is_uploaded_twice(daemon: Daemon, tmp_path: Path) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(os.urandom(200_000))
    first = ask(daemon, "upload", data, "a.bin")
    assert (first["new"], first["hash"], first["path"]) == (
        True,
        f"blake3:{blake3(data.read_bytes()).hexdigest()}",
        "a.bin",
    )
    again, other = ask(daemon, "upload", data, "a.bin"), ask(daemon, "upload", data, "b.bin")
    assert (again["id"], again["new"]) == (first["id"], False)
    assert (other["new"], other["path"]) == (False, "b.bin")
    assert ask(daemon, "delete", first["id"]) == ["NotFound", "not_found"]
    # The bytes are sent all the same where they are not asked for first, and kept once.
    files = {"file": ("b.bin", data.read_bytes(), "application/octet-stream")}
    same = daemon.http.post("/api/v2/assets", files=files)
    assert (same.status_code, same.json()["id"], same.json()["created_new"]) == (200, other["id"], False)
    wrong = daemon.http.post("/api/v2/assets", files=files, data={"expected_hash": "blake3:" + "0" * 64})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "hash_mismatch")


def test_a_cancel_is_a_request_that_may_be_repeated(daemon: Daemon, tmp_path: Path, image: Path) -> None:
    told = ask(daemon, "cancel", saved(tmp_path, steps=100, seconds=0.2), image)
    assert told["asked"] in ("canceling", "canceled")
    assert (told["ended"], told["again"]) == ("canceled", "canceled")


def test_a_failure_and_every_refusal_have_the_codes_that_the_client_knows(
    daemon: Daemon, tmp_path: Path, image: Path
) -> None:
    failed = ask(daemon, "fail", saved(tmp_path, fails="memory"), image)
    assert failed["code"] == "gpu_out_of_memory"
    assert failed["message"]
    refused = ask(daemon, "refuse", saved(tmp_path))
    assert refused["missing"] == ["MissingAsset", "missing_asset"]
    assert refused["unknown"] == ["InvalidWorkflow", "invalid_workflow"]
    assert refused["ui"][1] == "workflow_format_ui"
    assert refused["no_job"] == ["NotFound", "not_found"]
    assert refused["hash"][1] == "blob_not_found"
    job_id, again = ask(daemon, "reuse", saved(tmp_path), image, os.urandom(8).hex())
    assert again == ["IdempotencyKeyReuse", "idempotency_key_reuse"]
    assert daemon.ended(job_id)["state"] == "succeeded"
