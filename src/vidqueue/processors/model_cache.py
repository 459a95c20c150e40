"""A cache of models and other values that are slow to load. It lives as long as the executor."""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError


@dataclass(slots=True)
class _Kept:
    value: Any
    size: int
    pinned: bool


class ModelCache:
    """Keeps loaded values by key from one job to the next, and knows the folder where weights live.

    Beyond `limit_bytes` the least recently used values go, but no pinned one.

    Attributes:
        folder: the value of `models_dir` of the configuration. It need not exist.
        limit_bytes: the limit of the total size of the values; None for no limit.
    """

    def __init__(self, folder: Path = Path("models"), limit_bytes: int | None = None) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def get(self, key: str, load: Callable[[], Any], *, size: int | None = None, pinned: bool = False) -> Any:
        """Return the value under `key`; call `load` if it is not in the cache.

        Args:
            key: identifies the value, with everything that determines it, such as the device and the precision.
            load: creates the value.
            size: how many bytes it holds; room for them is made before it is loaded. Without it, a value of torch is
                measured once it is there.
            pinned: never evict it, until `drop` or `clear`.
        """
        kept = self._kept.get(key)
        if kept is None:
            self._make_room(size or 0)
            value = load()
            kept = self._kept[key] = _Kept(value, size_of(value) if size is None else size, pinned)
        kept.pinned = kept.pinned or pinned
        self._kept.move_to_end(key)
        self._make_room(0, but=key)
        return kept.value

    def drop(self, key: str) -> None:
        """Forget one value, if it is there, so that its memory is free."""
        self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget all values, also those that are pinned."""
        self._kept.clear()

    @property
    def size(self) -> int:
        """Return the total size of the values in bytes, as far as it is known."""
        return sum(kept.size for kept in self._kept.values())

    def _make_room(self, size: int, *, but: str | None = None) -> None:
        """Drop the least recently used values until `size` bytes more are within the limit."""
        if self.limit_bytes is None:
            return
        dropped = False
        for key in [key for key, kept in self._kept.items() if key != but and not kept.pinned]:
            if self.size + size <= self.limit_bytes:
                break
            del self._kept[key]
            dropped = True
        if dropped:
            _give_back()

    def file(self, name: str) -> Path:
        """The path of a file of weights, by its name below `folder`.

        Raises:
            VidqueueError: `weights_missing`; the hint says where the file has to lie.
        """
        path = self.folder / name
        outside = Path(name).is_absolute() or ".." in Path(name).parts
        if outside or not path.is_file():
            hint = f"Give its name below {self.folder}." if outside else f"Put the file at {path}."
            hint += " `models_dir` names another folder."
            raise VidqueueError("weights_missing", f"The weights {name} are not installed.", hint=hint)
        return path


def size_of(value: Any) -> int:
    """Return the bytes of the weights of a torch module or of a pipeline of them; 0 for anything else."""
    parts = getattr(value, "components", None)
    if isinstance(parts, dict):
        return sum(size_of(part) for part in parts.values())
    total = 0
    for name in ("parameters", "buffers"):
        tensors = getattr(value, name, None)
        if callable(tensors) and callable(getattr(value, "state_dict", None)):
            total += sum(int(one.numel() * one.element_size()) for one in tensors())
    return total


def _give_back() -> None:
    """Make torch release the cached memory of dropped values."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
