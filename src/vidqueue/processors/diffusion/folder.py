"""Reads the folder of a diffusers pipeline without importing diffusers: class, native size, and files of weights.

The API checks jobs with this, and never loads torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError

INDEX = "model_index.json"
# Formats of weights that can execute code when they are loaded.
_PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl"})
_RULE = re.compile(r"(\d+)k(?:\+(\d+))?")
# An index of shards names every tensor of a large model.
_LARGEST_JSON = 1 << 24
_WHOLE = "Download the whole pipeline into this folder."
_USUAL_SIDE = 512
_SMALLEST_VIDEO = 5


@dataclass(frozen=True, slots=True)
class Native:
    """The native sizes of a kind of pipeline: width, height and frames; the sides are multiples of `multiple`."""

    width: int
    height: int
    frames: int = 1
    multiple: int = 8
    frames_rule: str = ""


# By the prefix of the class name; the values are those of the documentation and the defaults.
_KINDS: Mapping[str, Native] = {
    "Wan": Native(832, 480, 81, 16, "4k+1"),
    "LTX": Native(704, 480, 97, 32, "8k+1"),
    "HunyuanVideo": Native(832, 480, 61, 16, "4k+1"),
    "CogVideoX": Native(720, 480, 49, 16, "4k+1"),
    "StableVideoDiffusion": Native(1024, 576, 14),
    "AnimateDiff": Native(512, 512, 16),
    "Flux": Native(1024, 1024, 1, 16),
    "QwenImage": Native(1024, 1024, 1, 16),
}


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a pipeline."""

    path: Path
    class_name: str
    native: Native
    files: tuple[Path, ...]


def read(path: Path) -> Folder:
    """Read a folder. It blocks while the disk answers.

    Raises:
        VidqueueError: `missing_model`, it is no folder of a pipeline with safetensors.
    """
    index = _json(path / INDEX)
    class_name = index.get("_class_name")
    if not isinstance(class_name, str) or not class_name:
        raise VidqueueError(
            "missing_model",
            f"{path} is not the folder of a diffusers pipeline: it has no {INDEX}.",
            hint="Save a pipeline there with save_pretrained, or download one completely.",
        )
    files = tuple(sorted(_weights(path, index)))
    return Folder(path, class_name, _native(path, class_name), files)


def _weights(path: Path, index: Mapping[str, Any]) -> list[Path]:
    """Return the files of weights of each part that the index names.

    Raises:
        VidqueueError: `missing_model`, a part is missing, or has weights that are no safetensors.
    """
    found: list[Path] = []
    for part, made_by in index.items():
        if part.startswith("_") or not isinstance(made_by, list) or None in made_by:
            continue
        try:
            inside = {file.name: file for file in (path / part).iterdir()}
        except OSError:
            raise VidqueueError("missing_model", f"{path} has no part {part}.", hint=_WHOLE) from None
        found += _weights_of(part, path, inside)
    if not found:
        raise VidqueueError("missing_model", f"{path} has no safetensors.", hint=_WHOLE)
    return found


def _weights_of(part: str, path: Path, inside: Mapping[str, Path]) -> list[Path]:
    safe = [file for name, file in inside.items() if name.endswith(".safetensors")]
    if not safe and any(file.suffix in _PICKLES for file in inside.values()):
        raise VidqueueError(
            "missing_model",
            f"The part {part} of {path} has no safetensors.",
            hint="Convert its weights: files of other formats can run code and are not read.",
        )
    # What has a `config.json` is a model; schedulers and tokenizers have other files.
    is_model = "config.json" in inside and "tokenizer_config.json" not in inside
    if not inside or (is_model and not safe):
        raise VidqueueError("missing_model", f"The part {part} of {path} has no weights.", hint=_WHOLE)
    for name, file in inside.items():
        shards = _json(file).get("weight_map") if name.endswith(".safetensors.index.json") else None
        if isinstance(shards, Mapping) and (lacking := {str(one) for one in shards.values()} - inside.keys()):
            raise VidqueueError("missing_model", f"The part {part} of {path} has no {min(lacking)}.", hint=_WHOLE)
    return safe


def _native(path: Path, class_name: str) -> Native:
    for beginning, native in _KINDS.items():
        if class_name.startswith(beginning):
            return native
    side = _USUAL_SIDE
    for part in ("unet", "transformer"):
        size = _json(path / part / "config.json").get("sample_size")
        blocks = _json(path / "vae" / "config.json").get("block_out_channels")
        if isinstance(size, int) and size > 0:
            side = size * 2 ** (len(blocks) - 1 if isinstance(blocks, list) and blocks else 3)
            break
    return Native(side, side)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            read = json.loads(file.read(_LARGEST_JSON))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, Mapping) else {}


def lora_file(folder: Path | None, name: str) -> Path:
    """The file of a LoRA.

    Raises:
        VidqueueError: `unknown_model`.
    """
    if folder is not None and not Path(name).name.startswith(".") and name == Path(name).name:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    known = sorted(one.stem for one in folder.glob("*.safetensors")) if folder is not None and folder.is_dir() else []
    raise VidqueueError("unknown_model", f"There is no LoRA {name!r}. Known: {', '.join(known[:100]) or 'none'}.")


def fits_rule(frames: int, rule: str) -> bool:
    """True if a pipeline with this rule, such as `4k+1`, can make that many frames."""
    step, rest = _parsed(rule)
    return frames >= rest and (frames - rest) % step == 0


def fewer_frames(frames: int, rule: str) -> int | None:
    """Return about three quarters of a number of frames, as the rule allows; None if too few would be left."""
    step, rest = _parsed(rule)
    fitting = (frames * 3 // 4 - rest) // step * step + rest
    return fitting if fitting >= _SMALLEST_VIDEO else None


def _parsed(rule: str) -> tuple[int, int]:
    found = _RULE.fullmatch(rule)
    return (int(found[1]), int(found[2] or 0)) if found else (1, 0)
