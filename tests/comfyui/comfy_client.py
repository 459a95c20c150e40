"""What a user of the official `comfy-sdk` does; run by a Python that has it, against COMFY_BASE_URL.

Each function prints one JSON value. It is no part of the tests' own environment.
"""

import json
import sys
from pathlib import Path
from typing import Any

from comfy_sdk import Comfy
from comfy_sdk.events import OutputReady, Preview, Progress, StatusChange
from comfy_sdk.exceptions import ComfyError, JobFailed


def workflow(client: Comfy, graph: str, picture: str) -> Any:
    made = client.workflows.from_file(graph)
    made.set_input("1", "image", client.assets.from_file(picture))
    return made


def run(graph: str, picture: str, target: str) -> Any:
    """Submit, follow with previews, and download."""
    with Comfy() as client:
        asset = client.assets.from_file(picture)
        made = client.workflows.from_file(graph)
        made.set_input("1", "image", asset)
        job = client.submit(made, metadata={"film": "seven"})
        seen: dict[str, Any] = {"status": [], "progress": [], "previews": 0, "outputs": []}
        for event in job.events():
            match event:
                case StatusChange(status=status):
                    seen["status"].append(status)
                case Progress(value=value, nodes_total=total):
                    seen["progress"].append([value, total])
                case Preview(data=data):
                    seen["previews"] += data[:3] == b"\xff\xd8\xff"
                case OutputReady(output=output):
                    seen["outputs"].append(output.id)
        job.result()
        (output,) = job.outputs
        output.to_file(target)
        again = client.jobs.get(job.id)
        same = again.get_workflow()
        return seen | {
            "id": job.id, "type": output.type, "name": output.name, "node": output.node_id,
            "created_new": asset.created_new, "asset": asset.id, "metadata": again.metadata,
            "workflow": [same.format, same.graph["1"]["inputs"]["image"]],
            "range": output.to_bytes(range=(4, 7)).decode("latin-1"),
            "listed": [one.id for one in client.list_jobs(metadata={"film": "seven"})],
            "others": [one.id for one in client.list_jobs(metadata={"film": "eight"})],
        }  # fmt: skip


def upload(path: str, name: str) -> Any:
    with Comfy() as client:
        asset = client.assets.from_bytes(Path(path).read_bytes(), filename=name)
        asset.commit()
        same = client.assets.get(asset.id)
        return {"id": asset.id, "new": asset.created_new, "hash": same.hash, "path": same.file_path}


def delete(asset_id: str) -> Any:
    with Comfy() as client:
        client.assets.delete(asset_id)
        return refusal(lambda: client.assets.get(asset_id))


def cancel(graph: str, picture: str) -> Any:
    with Comfy() as client:
        job = client.submit(workflow(client, graph, picture))
        for event in job.events():
            if isinstance(event, Progress):
                break
        asked = job.cancel().status
        job.wait(timeout=60)
        return {"asked": asked, "ended": job.status, "again": job.cancel().status}


def fail(graph: str, picture: str) -> Any:
    with Comfy() as client:
        try:
            client.run(workflow(client, graph, picture))
        except JobFailed as error:
            return {"code": error.code, "message": error.error.message}
        return None


def refuse(graph: str) -> Any:
    """What each refusal becomes in the client."""
    with Comfy() as client:
        good = json.loads(Path(graph).read_text())
        missing = client.workflows.from_json(json.loads(json.dumps(good)))
        missing.json["1"]["inputs"]["image"] = {
            "__type": "core/ASSET", "info": {"id": "9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b"}
        }  # fmt: skip
        unknown = client.workflows.from_json({"1": {"class_type": "NoSuchNode", "inputs": {}}})
        low = client._low
        ui = {"nodes": [], "links": [], "version": 0.4}
        return {
            "missing": refusal(lambda: client.submit(missing)),
            "unknown": refusal(lambda: client.submit(unknown)),
            "ui": refusal(lambda: low.post_jobs(ui)),
            "no_job": refusal(lambda: client.jobs.get("9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b")),
            "hash": refusal(lambda: low.asset_from_hash("blake3:" + "0" * 64)),
        }


def reuse(graph: str, picture: str, key: str) -> Any:
    with Comfy() as client:
        made = workflow(client, graph, picture)
        first = client.submit(made, idempotency_key=key)
        return [first.id, refusal(lambda: client.submit(made, idempotency_key=key))]


def refusal(act: Any) -> Any:
    try:
        act()
    except ComfyError as error:
        return [type(error).__name__, error.code]
    except Exception as error:
        return [type(error).__name__, getattr(error, "code", str(error))]
    return None


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
