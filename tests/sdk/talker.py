"""A processor that talks in every way there is, and misbehaves when asked to; tests install it."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import time
import warnings
from typing import Any

from pydantic import Field
from tqdm import tqdm

from vidqueue.sdk import Context, Parameters, Processor, RefusedError, VideoInput

print("imported")


class Talker(Processor):
    """Talk."""

    name = "talker"
    stall_timeout_s = 4

    class Params(Parameters):
        """What to do."""

        act: str = Field("talk", description="What to do.")
        video: VideoInput | None = None
        loud: float = Field(0.5, gt=0, le=1, description="How loud.")
        often: int | None = Field(None, ge=1, le=9, description="How often.")

    def run(self, params: Any, ctx: Context) -> None:
        """Act, and leave a result."""
        getattr(self, f"_{params.act}")(ctx)
        ctx.output("text", "result.txt").path.write_text(str(ctx.models.folder))

    def _talk(self, ctx: Context) -> None:
        print("printed", "words", sep=" ")
        print("without an end", end="", file=sys.stderr)
        logging.getLogger("model").warning("logged a warning")
        logging.info("logged an info\nof two lines")
        logging.debug("not this")
        warnings.warn("warned of something", stacklevel=1)
        subprocess.run(["sh", "-c", "echo from a child"], check=True)
        os.write(2, b"from the descriptor\n")
        sys.stdout.buffer.write(b"from the buffer\n")
        sys.stdout.buffer.flush()

    def _bar(self, ctx: Context) -> None:
        for _ in tqdm(range(4), desc="frames", mininterval=0, miniters=1):
            time.sleep(0.05)

    def _bar_and_better(self, ctx: Context) -> None:
        ctx.progress(0.9, "mine")
        self._bar(ctx)

    def _fail(self, ctx: Context) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("it broke") from error

    def _silent(self, ctx: Context) -> None:
        """Say nothing."""

    def _refuse(self, ctx: Context) -> None:
        raise RefusedError("It is too dark.", hint="Take a brighter one.")

    def _abort(self, ctx: Context) -> None:
        print("the last words")
        os.abort()

    def _crash(self, ctx: Context) -> None:
        ctypes.string_at(0)

    def _exit(self, ctx: Context) -> None:
        sys.exit(3)

    def _exit_well(self, ctx: Context) -> None:
        sys.exit()

    def _hoard(self, ctx: Context) -> None:
        bytearray(10**15)

    def _stall(self, ctx: Context) -> None:
        for _ in range(600):
            ctx.progress(0.5, "work")
            time.sleep(0.1)

    def _stray(self, ctx: Context) -> None:
        ctx.output("other", "missing.txt")

    def _hold(self, ctx: Context) -> None:
        ctx.log("ready")
        ctx.run(["sleep", "77"])
