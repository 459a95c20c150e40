"""Getting a narration: the recording of the request, or the script spoken by the program of the configuration."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.ops import active_time
from vidqueue.ops.processes import DAEMON, MARK
from vidqueue.processors.base import Context
from vidqueue.processors.parts.compose_params import ComposeParams
from vidqueue.processors.parts.film_settings import ComposeSettings
from vidqueue.processors.parts.script_writer import ScriptWriter

_TICK_S = 0.1
_LAST_WORDS = 2000
_PLACE = re.compile(r"\{(?:text_file|voice|rate|out)\}")
# What a program finds in its environment: nothing of the daemon's own but the mark by which it is found and ended.
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES", MARK, DAEMON)


def narrated(params: ComposeParams, ctx: Context, stage: Callable[[str], None]) -> tuple[str, Path]:
    """The script, empty where there is none, and the file of the narration.

    Args:
        params: of the job.
        ctx: of the run; its settings are those of `compose`.
        stage: told the name of the stage that begins.

    Raises:
        VidqueueError: `model_failed`, the program did not speak; `invalid_params`, there is nothing to speak.
        CanceledError: the job was canceled.
    """
    script = params.script.strip()
    if params.audio is not None:
        return script, ctx.input("audio")
    config: ComposeSettings = ctx.settings or ComposeSettings()
    if not script and config.script_url:
        script = ScriptWriter(config, ctx.check_canceled, ctx.redact).script(params.subject.strip())
    if not script or not config.speech_command:
        raise VidqueueError("invalid_params", "There is neither a narration nor a program that speaks the script.")
    stage("audio")
    return script, _spoken(script, params, config, ctx)


def _spoken(script: str, params: ComposeParams, config: ComposeSettings, ctx: Context) -> Path:
    text, out = ctx.output_path("script.txt"), ctx.output_path("speech.wav")
    text.write_text(script, encoding="utf-8")
    values = {"{text_file}": str(text), "{voice}": params.voice, "{rate}": f"{params.voice_rate:g}", "{out}": str(out)}
    argv = [_filled(word, values) for word in config.speech_command]
    status, words = _run(argv, config.speech_timeout_s, ctx)
    for line in words.splitlines():
        ctx.log(line)
    if status != 0 or not out.is_file() or not out.stat().st_size:
        last = next((line for line in reversed(words.splitlines()) if line.strip()), "no output")
        how = f"status {status}" if status else f"status 0 and wrote no sound to {out.name}"
        raise VidqueueError("model_failed", f"The speech program ended with {how}: {last[:300]}")
    return out


def _filled(word: str, values: dict[str, str]) -> str:
    # In one pass: what a person wrote is no placeholder.
    return _PLACE.sub(lambda place: values[place[0]], word)


def _run(argv: list[str], timeout_s: float, ctx: Context) -> tuple[int, str]:
    """Run a program to its end, or end it with everything that it started; return its exit status and last output."""
    log = ctx.output_path("speech.log")
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    until = active_time.now() + timeout_s
    with log.open("wb") as writing:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=environment, start_new_session=True
            )
        except OSError as error:
            raise VidqueueError("model_failed", f"The program that speaks cannot be started: {error}.") from error
    try:
        while process.poll() is None:
            ctx.check_canceled()
            if active_time.now() > until:
                raise VidqueueError("timed_out", f"The program that speaks took longer than {timeout_s:g} s.")
            ctx.canceled.wait(_TICK_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    words = log.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace")
    log.unlink()
    return process.returncode, words
