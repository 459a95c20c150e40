"""What a user of the official `replicate` client does; run by a Python that has it, against REPLICATE_BASE_URL.

Each function prints one JSON value. It is no part of the tests' own environment.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.prediction import Prediction
from replicate.webhook import InvalidSignatureError, Webhooks


def shown(prediction: Prediction) -> dict[str, Any]:
    return {name: getattr(prediction, name) for name in ("id", "status", "output", "error", "logs", "metrics", "model")}


def run(ref: str, given: str) -> Any:
    return replicate.run(ref, input=json.loads(given))


def run_file(ref: str, name: str, path: str) -> Any:
    with Path(path).open("rb") as file:
        return replicate.run(ref, input={name: file})


def fail(ref: str, given: str) -> Any:
    try:
        replicate.run(ref, input=json.loads(given))
    except ModelError as error:
        return shown(error.prediction)
    return None


def refuse(version: str, given: str) -> Any:
    try:
        replicate.predictions.create(version=version, input=json.loads(given))
    except ReplicateError as error:
        return {"status": error.status, "title": error.title, "detail": error.detail}
    return None


def follow(version: str, given: str) -> Any:
    """Create without waiting, and look until it has ended; every status and progress that was seen."""
    prediction = replicate.predictions.create(version=version, input=json.loads(given))
    seen, percent = [prediction.status], []
    while prediction.status not in ("succeeded", "failed", "canceled"):
        time.sleep(0.1)
        prediction.reload()
        seen.append(prediction.status)
        if prediction.progress is not None:
            percent.append(prediction.progress.percentage)
    return {"seen": seen, "percent": percent, **shown(prediction)}


def cancel(version: str, given: str) -> Any:
    prediction = replicate.predictions.create(version=version, input=json.loads(given), wait=1)
    waited = prediction.status
    prediction.cancel()
    prediction.wait()
    prediction.cancel()
    return {"waited": waited, **shown(prediction)}


def look(owner_and_name: str) -> Any:
    """The catalogue: every model, one of them, and a run of its exact version."""
    names = [f"{one.owner}/{one.name}" for one in replicate.models.list()]
    model = replicate.models.get(owner_and_name)
    version = model.versions.list()[0]
    same = model.versions.get(version.id)
    return {
        "names": names,
        "inputs": sorted(same.openapi_schema["components"]["schemas"]["Input"]["properties"]),
        "latest": model.latest_version.id == version.id,
        "version": version.id,
    }


def page() -> Any:
    """Every prediction, page by page."""
    ids, found = [], replicate.predictions.list()
    while True:
        ids += [one.id for one in found.results]
        if found.next is None:
            return ids
        found = replicate.predictions.list(cursor=found.next)


def stream(ref: str, given: str) -> Any:
    """Every event of a stream, and the error that it ends with."""
    seen: list[Any] = []
    try:
        for event in replicate.stream(ref, input=json.loads(given)):
            seen.append([event.event.value, str(event.data), event.id != ""])
    except RuntimeError as error:
        return {"seen": seen, "error": str(error)}
    return {"seen": seen, "error": None}


def listed() -> Any:
    """Every file that was uploaded."""
    return [one.id for one in replicate.files.list()]


def files(path: str) -> Any:
    made = replicate.files.create(path, metadata={"a": 1})
    same = replicate.files.get(made.id)
    told = {"size": same.size, "type": same.content_type, "get": same.urls["get"], "sha256": same.checksums["sha256"]}
    replicate.files.delete(made.id)
    try:
        replicate.files.get(made.id)
    except ReplicateError as error:
        return told | {"then": error.status}
    return told


def hook(version: str, given: str, url: str) -> Any:
    filters = ["start", "completed"]
    made = replicate.predictions.create(
        version=version, input=json.loads(given), webhook=url, webhook_events_filter=filters
    )
    made.wait()
    return made.id


def validate(headers: str, body: str) -> Any:
    """Check a delivery as the receiver of a user would."""
    secret = replicate.webhooks.default.secret()
    Webhooks.validate(headers=json.loads(headers), body=body, secret=secret, tolerance=300)
    try:
        Webhooks.validate(headers=json.loads(headers), body=body + " ", secret=secret, tolerance=300)
    except InvalidSignatureError:
        return True
    return False


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
