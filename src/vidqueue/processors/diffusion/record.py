"""The reproducibility record of a generated file: versions, hashes of the model, the device, and all parameters."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import vidqueue
from vidqueue.processors.context import Context

_BLOCK = 8 << 20
_HASHES = "generate-hashes.json"
_MOST_KEPT = 2000


def versions() -> dict[str, str]:
    """Return the versions of the libraries that determine the result."""
    named = ("torch", "diffusers", "transformers", "accelerate")
    return {"vidqueue": vidqueue.__version__} | {name: version(name) for name in named}


def device_name(device: str) -> str:
    """Return the GPU's name, or `cpu`."""
    import torch

    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else device


def hashes(files: Iterable[Path], ctx: Context) -> dict[str, str]:
    """Return the SHA-256 of each file by path. Files that have not changed since an earlier job are not read again.

    Raises:
        CanceledError: the job was canceled.
    """
    kept_at = ctx.cache_dir / _HASHES if ctx.cache_dir is not None else None
    known = _read(kept_at)
    told: dict[str, str] = {}
    new = False
    for file in files:
        stat = file.stat()
        key = f"{file}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in known:
            known[key] = _sha256(file, ctx)
            new = True
        told[str(file)] = known[key]
    if new and kept_at is not None:
        _write(kept_at, dict(list(known.items())[-_MOST_KEPT:]))
    return told


def _sha256(file: Path, ctx: Context) -> str:
    digest = hashlib.sha256()
    size, done = max(file.stat().st_size, 1), 0
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
            done += len(block)
            ctx.progress(0.0, "hash", f"{file.name}: {100 * done // size} %")
    return digest.hexdigest()


def _read(path: Path | None) -> dict[str, str]:
    if path is not None:
        with suppress(OSError, ValueError):
            read = json.loads(path.read_bytes())
            if isinstance(read, dict):
                return {str(key): str(value) for key, value in read.items()}
    return {}


def _write(path: Path, known: dict[str, str]) -> None:
    """Write the cache of hashes. If two lanes write at once, one update is lost, and its files are hashed again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(known), encoding="utf-8")
        fresh.replace(path)
