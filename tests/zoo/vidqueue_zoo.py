"""A zoo of bad citizens, installed from outside like anyone's processors: the daemon must survive them all."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, Parameters, Processor
from vidqueue.progress import Progress


class Zoo(Processor):
    """Behaves as told: well or badly."""

    name = "zoo"

    class Params(Parameters):
        """What to do."""

        act: Literal[
            "work", "raise", "refuse", "exit_silently", "segfault", "abort", "hang", "ignore_cancel", "flood", "lie",
            "out_of_memory", "stray_output", "die_once", "print_secrets",
        ] = "work"  # fmt: skip
        seconds: float = 0
        marker: str = ""

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Act."""
        return [getattr(self, f"_{params.act}")(params, ctx) or self._result(ctx)]

    def _result(self, ctx: Context) -> OutputDraft:
        path = ctx.output_path("result.txt")
        path.write_text("done\n")
        return OutputDraft("text", path, "text/plain")

    def _work(self, params: Any, ctx: Context) -> None:
        steps = int(params.seconds / 0.05)
        for step in range(steps):
            ctx.progress(Progress(step / steps, stage="work"))
            time.sleep(0.05)

    def _raise(self, params: Any, ctx: Context) -> None:
        raise RuntimeError("an animal escaped")

    def _refuse(self, params: Any, ctx: Context) -> None:
        raise VidqueueError("unsupported_format", "The zoo refuses this.")

    def _exit_silently(self, params: Any, ctx: Context) -> None:
        os._exit(0)

    def _segfault(self, params: Any, ctx: Context) -> None:
        ctypes.string_at(0)

    def _abort(self, params: Any, ctx: Context) -> None:
        print("last words of the zoo", flush=True)
        os.abort()

    def _hang(self, params: Any, ctx: Context) -> None:
        ctx.canceled.wait(params.seconds or 3600)
        ctx.check_canceled()

    def _ignore_cancel(self, params: Any, ctx: Context) -> None:
        time.sleep(params.seconds or 3600)

    def _flood(self, params: Any, ctx: Context) -> None:
        for step in range(20_000):
            ctx.progress(Progress(step / 20_000, stage="flood", message="x" * 100))
            ctx.log("y" * 200)

    def _lie(self, params: Any, ctx: Context) -> OutputDraft:
        return OutputDraft("text", Path("/nonexistent/result"), "text/plain")

    def _stray_output(self, params: Any, ctx: Context) -> OutputDraft:
        ctx.output_path("link").symlink_to("/etc/passwd")
        return OutputDraft("text", ctx.output_path("link"), "text/plain")

    def _out_of_memory(self, params: Any, ctx: Context) -> None:
        raise MemoryError

    def _die_once(self, params: Any, ctx: Context) -> None:
        marker = Path(params.marker)
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)

    def _print_secrets(self, params: Any, ctx: Context) -> None:
        ctx.log(" ".join(sorted(os.environ)))
        ctx.log(" ".join(sys.argv))
