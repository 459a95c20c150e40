"""A cache of models and other values that are slow to load. It lives as long as the executor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError


class ModelCache:
    """Keeps loaded values by key from one job to the next, and knows the folder where weights live.

    Attributes:
        folder: the value of `models_dir` of the configuration. It need not exist.
    """

    def __init__(self, folder: Path = Path("models")) -> None:
        self.folder = folder
        self._loaded: dict[str, Any] = {}

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        """The value under `key`; `load` is called if it is not in the cache.

        Args:
            key: names the value with everything that decides what it is, such as the device and the precision.
            load: makes the value.
        """
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]

    def drop(self, key: str) -> None:
        """Forget one value, if it is there, so that its memory is free."""
        self._loaded.pop(key, None)

    def clear(self) -> None:
        """Forget all values."""
        self._loaded.clear()

    def file(self, name: str) -> Path:
        """The path of a file of weights, by its name below `folder`.

        Raises:
            VidqueueError: `weights_missing`; the hint says where the file has to lie.
        """
        path = self.folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_file():
            raise VidqueueError(
                "weights_missing",
                f"The weights {name} are not installed.",
                hint=f"Put the file into {self.folder}; `models_dir` names another folder.",
            )
        return path
