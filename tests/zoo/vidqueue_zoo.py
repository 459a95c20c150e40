"""A zoo of bad citizens, installed from outside like anyone's processors: the daemon must survive them all."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import field_validator

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, MediaField, MediaRef, Parameters, Processor, WaitingError
from vidqueue.progress import Progress


class AcceleratorError(RuntimeError):
    """torch's, by name; torch itself is too large for a zoo."""


class OutOfMemoryError(RuntimeError):
    """torch's, by name, for a GPU."""


class Zoo(Processor):
    """Behaves as told: well or badly."""

    name = "zoo"

    class Params(Parameters):
        """What to do."""

        act: Literal[
            "work", "raise", "refuse", "exit_silently", "segfault", "abort", "hang", "ignore_cancel", "flood", "lie",
            "out_of_memory", "stray_output", "die_once", "print_secrets", "raise_nul", "folder_output", "odd_name",
            "same_name_twice", "odd_facts", "odd_words", "odd_numbers", "odd_types", "odd_outputs", "no_list",
            "odd_error", "odd_last_words", "steal", "grandchild", "shout",
            "read", "doze", "fill_disk", "cuda_error", "gpu_out_of_memory", "gpu_too_small", "sign", "linger_once",
            "publish", "publish_only", "publish_twice", "publish_stray", "publish_and_fail", "publish_and_die", "show",
            "wait_for", "odd_wait", "stop_late", "repeat", "wander", "ask_place",
        ] = "work"  # fmt: skip
        seconds: float = 0
        marker: str = ""
        media: Annotated[str | None, MediaRef("any")] = None

        @field_validator("marker")
        @classmethod
        def _counted(cls, marker: str) -> str:
            if marker == "odd_check":
                raise TypeError("the zoo cannot count animals")
            return marker

    def media(self, params: Any) -> Iterable[MediaField]:
        """The reference, where the zoo finds it."""
        if params.marker == "odd_media":
            raise KeyError("a cage")
        return super().media(params)

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Act."""
        made = getattr(self, f"_{params.act}")(params, ctx)
        made = self._result(ctx) if made is None else made
        return made if isinstance(made, list) else [made]

    def _result(self, ctx: Context) -> OutputDraft:
        path = ctx.output_path("result.txt")
        path.write_text("done\n")
        return OutputDraft("text", path, "text/plain")

    def _work(self, params: Any, ctx: Context) -> None:
        steps = int(params.seconds / 0.05)
        for step in range(steps):
            ctx.progress(Progress(step / steps, stage="work"))
            time.sleep(0.05)

    def _wander(self, params: Any, ctx: Context) -> None:
        os.chdir(ctx.workspace)
        os.umask(0o777)
        os.environ["ZOO_WAS_HERE"] = "yes"
        del os.environ["PATH"]

    def _ask_place(self, params: Any, ctx: Context) -> None:
        umask = os.umask(0o022)
        os.umask(umask)
        ctx.log(f"{Path.cwd()} {umask:o} {sorted(os.environ)}")

    def deterministic_for(self, params: Any) -> bool:
        """Only one of its acts is."""
        return bool(params.act == "repeat")

    def _repeat(self, params: Any, ctx: Context) -> OutputDraft:
        """Copy the input, publish an output early, and leave a dot for each time that it was done."""
        with Path(params.marker).open("a") as marker:
            marker.write(".")
        ctx.publish(self._early(ctx, "first"))
        return self._read(params, ctx)

    def _read(self, params: Any, ctx: Context) -> OutputDraft:
        """Copy the input."""
        result = self._result(ctx)
        result.path.write_bytes(ctx.inputs["media"].read_bytes())
        return result

    def _doze(self, params: Any, ctx: Context) -> None:
        for fraction in (0.2, 0.4, 0.6, 0.8):
            ctx.progress(Progress(fraction, stage="work"))
            time.sleep(params.seconds)

    def _sign(self, params: Any, ctx: Context) -> OutputDraft:
        """Work, and leave the name of the place where it was done."""
        self._work(params, ctx)
        result = self._result(ctx)
        result.path.write_text(str(result.path.parent))
        return result

    def _linger_once(self, params: Any, ctx: Context) -> None:
        """Work for long at the first attempt, and not at all at the next."""
        marker = Path(params.marker)
        if not marker.exists():
            marker.touch()
            self._work(params, ctx)

    def _early(self, ctx: Context, name: str) -> OutputDraft:
        path = ctx.output_path(f"{name}.txt")
        path.write_text(f"{name}\n")
        return OutputDraft(name, path, "text/plain")

    def _publish(self, params: Any, ctx: Context) -> None:
        """Publish two outputs, and go on until the marker is there."""
        ctx.publish(self._early(ctx, "first"))
        ctx.publish(self._early(ctx, "second"))
        while not Path(params.marker).exists():
            ctx.progress(Progress(0.5, stage="published"))
            time.sleep(0.05)

    def _publish_only(self, params: Any, ctx: Context) -> list[OutputDraft]:
        ctx.publish(self._early(ctx, "text"))
        return []

    def _publish_twice(self, params: Any, ctx: Context) -> OutputDraft:
        ctx.publish(self._early(ctx, "text"))
        return self._result(ctx)

    def _publish_stray(self, params: Any, ctx: Context) -> None:
        ctx.publish(OutputDraft("first", Path("/etc/hostname"), "text/plain"))

    def _publish_and_fail(self, params: Any, ctx: Context) -> None:
        self._publish(params, ctx)
        raise VidqueueError("unsupported_format", "The zoo refuses this after all.")

    def _publish_and_die(self, params: Any, ctx: Context) -> None:
        self._publish(params, ctx)
        self._die_once(params.model_copy(update={"marker": f"{params.marker}.died"}), ctx)

    def _show(self, params: Any, ctx: Context) -> None:
        """Show pictures as fast as it goes, numbered, until the marker is there."""
        number = 0
        while not Path(params.marker).exists():
            number += 1
            ctx.preview(b"\xff\xd8\xff" + str(number).encode() + b"\xff\xd9")
            ctx.progress(Progress(0.5, stage="shown"))
            time.sleep(0.01)

    def _wait_for(self, params: Any, ctx: Context) -> None:
        """Work once the marker is there; the first attempts are put back."""
        if not Path(params.marker).exists():
            raise WaitingError("keeper_asleep", "The keeper sleeps.", retry_after_s=params.seconds)

    def _odd_wait(self, params: Any, ctx: Context) -> None:
        raise WaitingError("No\0Word", "before\0after", retry_after_s=float("nan"))

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

    def _stop_late(self, params: Any, ctx: Context) -> None:
        ctx.progress(Progress(0.5, stage="work"))
        ctx.canceled.wait()
        time.sleep(params.seconds)
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

    def _raise_nul(self, params: Any, ctx: Context) -> None:
        raise RuntimeError("before\0after")

    def _folder_output(self, params: Any, ctx: Context) -> OutputDraft:
        ctx.output_path("folder").mkdir()
        return OutputDraft("text", ctx.output_path("folder"), "text/plain")

    def _odd_name(self, params: Any, ctx: Context) -> OutputDraft:
        return OutputDraft("Not A Name", self._result(ctx).path, "text/plain")

    def _same_name_twice(self, params: Any, ctx: Context) -> list[OutputDraft]:
        return [self._result(ctx), self._result(ctx)]

    def _odd_facts(self, params: Any, ctx: Context) -> OutputDraft:
        facts: dict[Any, Any] = {
            "nan": float("nan"), "huge": 1e300, "nul\0": "a\0b", "\ud800": "\udfff", 7: 10**400,
            "list": ["a\0b", ["\ud83d", {"deep\0": ["\0"]}]], "tuple": ("x\udc80",), "ok": "fine",
        }  # fmt: skip
        facts["circle"] = facts
        facts["many"] = list(range(1_000_000))
        facts["long"] = "\ud800" * 10_000_000
        return OutputDraft("text", self._result(ctx).path, "text/\ud800plain\r\nX-Forged: 1", facts)

    def _odd_outputs(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Bytes in names that are not UTF-8, and facts that are no dictionary."""
        made = []
        for index in range(3):
            path = ctx.output_path(f"result{index}.t\udcffxt")
            path.write_text("done\n")
            made.append(OutputDraft(f"text{index}", path, "text/plain", ["\ud800"]))  # type: ignore[arg-type]
        return made

    def _no_list(self, params: Any, ctx: Context) -> Any:
        return [None]

    def _odd_error(self, params: Any, ctx: Context) -> None:
        raise VidqueueError("odd\0\ud800", "a\ud800b\0", hint="c\udfffd\0")

    def _odd_last_words(self, params: Any, ctx: Context) -> None:
        os.write(1, b"last\0words \xff\xed\xa0\x80\n")
        os.abort()

    def _odd_words(self, params: Any, ctx: Context) -> None:
        ctx.log("a word\0 \ud800", "w\udfffarn")
        ctx.progress(Progress(float("nan"), stage="s\0\ud800", message="m\0\ud800", fps=1e300, eta_s=float("inf")))

    def _odd_numbers(self, params: Any, ctx: Context) -> None:
        odd: list[Any] = ["0.5", "half", None, 10**400, -(10**400), float("-inf"), [], True]
        for one in odd:
            ctx.progress(Progress(one, stage="s", fps=odd[0], speed=odd[1], eta_s=odd[6]))

    def _odd_types(self, params: Any, ctx: Context) -> None:
        ctx.log(None)  # type: ignore[arg-type]
        ctx.log(b"bytes", 7)  # type: ignore[arg-type]
        ctx.progress(Progress(0.5, stage=None, message=["m\0"]))  # type: ignore[arg-type]

    def _steal(self, params: Any, ctx: Context) -> OutputDraft:
        return OutputDraft("text", Path(params.marker), "text/plain")

    def _grandchild(self, params: Any, ctx: Context) -> None:
        subprocess.Popen(["sleep", "20"], start_new_session=True)
        ctx.progress(Progress(0.5, stage="left alone"))
        time.sleep(60)

    def _shout(self, params: Any, ctx: Context) -> None:
        ctx.log("x" * (9 << 20))
        print("y" * (1 << 20), flush=True)

    def _fill_disk(self, params: Any, ctx: Context) -> None:
        with ctx.output_path("filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * (1 << 20))
                ctx.progress(Progress(0.5, stage="fill"))

    def _cuda_error(self, params: Any, ctx: Context) -> None:
        if params.marker:
            Path(params.marker).touch()
        # What torch raises when the GPU fell off the bus.
        raise AcceleratorError("CUDA error: no CUDA-capable device is detected\nCUDA kernel errors might be ...")

    def _gpu_out_of_memory(self, params: Any, ctx: Context) -> None:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ...")

    def _gpu_too_small(self, params: Any, ctx: Context) -> None:
        raise OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 210.60 GiB. GPU 0 has a total capacity of 139.80 GiB of which ..."
        )

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
