"""What a user of the 2.x beta of the `replicate` client does; run like `replicate_client.py`."""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import replicate
from replicate import Replicate
from replicate._exceptions import ModelError

warnings.simplefilter("ignore")
client = Replicate()


def run(ref: str, given: str) -> Any:
    return client.run(ref, input=json.loads(given))


def run_file(ref: str, name: str, path: str) -> Any:
    with Path(path).open("rb") as file:
        return client.run(ref, input={name: file})


def fail(ref: str, given: str) -> Any:
    try:
        client.run(ref, input=json.loads(given))
    except ModelError as error:
        return {"status": error.prediction.status, "error": error.prediction.error}
    return None


def refuse(version: str, given: str) -> Any:
    try:
        client.predictions.create(version=version, input=json.loads(given))
    except replicate.APIStatusError as error:
        return {"status": error.status_code, "detail": error.body["detail"]}
    return None


def life(version: str, given: str) -> Any:
    """Create, read, cancel and wait for it."""
    made = client.predictions.create(version=version, input=json.loads(given), cancel_after="1h30m")
    same = client.predictions.get(prediction_id=made.id)
    client.predictions.cancel(prediction_id=made.id)
    ended = client.predictions.wait(made.id)
    urls = [made.urls.get, made.urls.cancel, made.urls.stream, made.urls.web]
    return {
        "id": made.id,
        "same": same.id == made.id,
        "status": ended.status,
        "urls": urls,
        "removed": ended.data_removed,
    }


def use(ref: str, given: str) -> Any:
    """The newest way: the model as a function, whose output is a path that is fetched when it is read."""
    return Path(replicate.use(ref)(**json.loads(given))).read_text()


def stream(ref: str, given: str) -> Any:
    return "".join(map(str, replicate.stream(ref, input=json.loads(given))))


def look(owner: str, name: str) -> Any:
    names = [f"{one.owner}/{one.name}" for one in client.models.list()]
    model = client.models.get(model_owner=owner, model_name=name)
    versions = list(client.models.versions.list(model_owner=owner, model_name=name))
    same = client.models.versions.get(model_owner=owner, model_name=name, version_id=versions[0].id)
    return {
        "names": names,
        "same": model.latest_version is not None and model.latest_version.id == same.id == versions[0].id,
        "account": client.account.get().username,
        "secret": client.webhooks.default.secret.get().key,
    }


def page() -> Any:
    """Every prediction: the client goes from page to page by itself."""
    return [one.id for one in client.predictions.list()]


def files(path: str) -> Any:
    """Some files, all of them page by page, and one deleted."""
    made = [
        client.files.create(content=Path(path).read_bytes(), filename="a.txt", metadata={"a": 1}, type="text/plain")
        for _ in range(3)
    ]
    listed = [one.id for one in client.files.list()]
    same = client.files.get(file_id=made[0].id)
    client.files.delete(file_id=made[0].id)
    try:
        client.files.get(file_id=made[0].id)
    except replicate.NotFoundError:
        left = [one.id for one in client.files.list()]
        ids = [one.id for one in made]
        whole = all(getattr(same, name) is not None for name in ("expires_at", "created_at", "size", "urls"))
        return {"made": ids, "listed": listed, "left": left, "whole": whole, "sha256": same.checksums.sha256}
    return time.time()


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
