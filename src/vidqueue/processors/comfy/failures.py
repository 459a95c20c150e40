"""What a failed prompt means: out of memory, a model that is missing, no face, or the model's own error. No IO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vidqueue.errors import VidqueueError

_MEMORY = re.compile(
    r"out of memory|Allocation on device|OutOfMemoryError|ran out of memory on your GPU", re.IGNORECASE
)
_MISSING = re.compile(
    r"download the model|No such file or directory: .*\.(?:safetensors|pth?|ckpt|bin|onnx)|model .{0,80}not found",
    re.IGNORECASE,
)
_NO_FACE = re.compile(r"no face|face (?:was )?not (?:found|detected)|not detect(?:ed)? (?:any |a )?face", re.IGNORECASE)
_STUMBLES = frozenset({"TypeError", "IndexError", "AttributeError", "UnboundLocalError", "ValueError"})


def failure_of(ended: Mapping[str, Any]) -> VidqueueError | None:
    """The error that a prompt ended with; None if somebody interrupted it."""
    status = ended.get("status")
    messages = status.get("messages") if isinstance(status, dict) else None
    told = {str(one[0]): one[1] for one in messages or () if isinstance(one, list) and len(one) == 2}
    if "execution_interrupted" in told and "execution_error" not in told:
        return None
    error = told.get("execution_error")
    if not isinstance(error, dict):
        return VidqueueError("model_failed", "ComfyUI says that the graph failed, and not why.")
    return _named(error)


def _lost_its_face(error: Mapping[str, Any], kind: str) -> bool:
    """True if Sonic's preparation stumbled over a face that it had not found: it says so only by where it fails."""
    if error.get("node_type") != "SONIC_PreData" or kind.rpartition(".")[2] not in _STUMBLES:
        return False
    trace = error.get("traceback")
    return isinstance(trace, list) and any("face" in str(line) or "crop" in str(line) for line in trace[-6:])


def _named(error: Mapping[str, Any]) -> VidqueueError:
    kind = str(error.get("exception_type") or "")
    text = str(error.get("exception_message") or "").strip()[:2000]
    where = f"{error.get('node_type')} (node {error.get('node_id')})"
    message = f"{where}: {text or kind}"
    if "OutOfMemory" in kind or _MEMORY.search(text):
        return VidqueueError("gpu_out_of_memory", message)
    if _MISSING.search(text):
        return VidqueueError("missing_model", message)
    if _NO_FACE.search(text) or _lost_its_face(error, kind):
        return VidqueueError("no_face", message)
    return VidqueueError("model_failed", message)
