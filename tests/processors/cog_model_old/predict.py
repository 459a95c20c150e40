"""A model for a real Cog server of version 0.9: it does as it is told."""

import os
import sys
import time
from pathlib import Path as LocalPath
from typing import List  # noqa: UP035 - Cog of that time knows no `list[Path]`

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):  # type: ignore[misc]
    def setup(self) -> None:
        if os.environ.get("SETUP") == "fail":
            raise RuntimeError("no kernel image is available")

    def predict(
        self,
        act: str = Input(default="work", choices=["work", "fail", "out_of_memory", "crash_once", "hold"]),
        steps: int = Input(default=2, ge=1, le=50),
        marker: str = Input(default=""),
        video: Path = Input(default=None),  # noqa: B008 - how Cog declares inputs
    ) -> List[Path]:  # noqa: UP006
        if act == "fail":
            print("the model begins", flush=True)
            raise RuntimeError("the model is sad")
        if act == "out_of_memory":
            raise MemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        for step in range(steps):
            # As tqdm draws: no line ends before the last.
            print(f"\r{100 * (step + 1) // steps:3}%|###| {step + 1}/{steps}", end="", file=sys.stderr, flush=True)
            time.sleep(0.6)
        print(file=sys.stderr, flush=True)
        if act == "crash_once" and not LocalPath(marker).exists():
            LocalPath(marker).touch()
            os._exit(1)
        while act == "hold" and not LocalPath(marker).exists():
            time.sleep(0.05)
        return [self._made("one", video), self._made("two", None)]

    def _made(self, folder: str, source: Path) -> Path:
        # Both have one name, as frames of several folders have.
        made = LocalPath(os.environ["TMPDIR"]) / folder / "made it.mp4"
        made.parent.mkdir(exist_ok=True)
        made.write_bytes(LocalPath(source).read_bytes() if source else b"made\n")
        return Path(made)
