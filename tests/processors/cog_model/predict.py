"""A model for a real Cog server: it does as it is told."""

import contextlib
import os
import time
from pathlib import Path as LocalPath

from cog import BaseRunner, Input, Path


class Runner(BaseRunner):  # type: ignore[misc]
    def run(
        self,
        act: str = Input(default="work"),
        steps: int = Input(default=2),
        marker: str = Input(default=""),
        video: Path = Input(default=None),  # noqa: B008 - how Cog declares inputs
    ) -> list[Path]:
        if act == "fail":
            print("the model begins", flush=True)
            raise RuntimeError("the model is sad")
        if act == "environment":
            print({name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "EXTRA", "HOME")}, flush=True)
        while act == "deaf" and not LocalPath(marker).exists():
            with contextlib.suppress(BaseException):
                time.sleep(30)
        if act == "out_of_memory":
            raise MemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        for step in range(steps):
            print(f"{100 * (step + 1) // steps}%|###| {step + 1}/{steps}", flush=True)
            self.record_metric("progress", (step + 1) / steps)
            time.sleep(0.6)
        if act == "crash_once" and not LocalPath(marker).exists():
            LocalPath(marker).touch()
            os._exit(1)
        while act == "hold" and not LocalPath(marker).exists():
            time.sleep(0.05)
        return [self._made("first.mp4", video), self._made("second.txt", None)]

    def _made(self, name: str, source: Path | None) -> Path:
        made = LocalPath(os.environ["TMPDIR"]) / name
        made.write_bytes(LocalPath(source).read_bytes() if source else b"made\n")
        return Path(made)
