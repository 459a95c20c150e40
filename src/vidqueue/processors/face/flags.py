"""The flags of the installed FaceFusion, parsed from `headless-run --help`, because they differ between versions."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.processors.face.settings import PROGRAM, FacefusionSettings

# Flags that every run needs.
NEEDED = frozenset({
    "jobs-path", "temp-path", "source-paths", "target-path", "output-path", "processors",
    "output-image-quality", "output-video-quality", "output-video-encoder", "trim-frame-start",
    "trim-frame-end", "execution-providers", "execution-device-ids", "log-level",
})  # fmt: skip
HELP_S = 120
LARGEST_HELP = 1 << 20

_FLAG = re.compile(
    r"^ {1,8}(?:-[a-z],? )?(?:[A-Z_]+(?: \[[A-Z_ .]+\])?, )?--([a-z][a-z0-9-]{0,63})(.{0,4000})", re.MULTILINE
)
_USAGE = re.compile(r"\[?--([a-z][a-z0-9-]{0,63})[ \]]")
_BRACES = re.compile(r"\{([^{}]{1,4000})\}")
_WORDS = re.compile(r"\(choices: ([^()]{1,4000})\)")


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags by name without dashes, each with its choices if it has any."""

    choices: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self.choices

    def missing(self) -> list[str]:
        """Return the required flags that this version does not have."""
        return sorted(NEEDED - set(self.choices))


def parsed(text: str) -> Flags:
    """Parse the text of `--help`."""
    found: dict[str, frozenset[str]] = {name: frozenset() for name in _USAGE.findall(text)}
    for flag in _FLAG.finditer(text):
        listed = _BRACES.search(flag[2]) or _WORDS.search(flag[2])
        words = {word.strip() for word in listed[1].split(",")} if listed else set()
        # The valid sizes depend on the model, and the help lists those of one model only.
        found[flag[1]] = frozenset() if flag[1].endswith("-size") else frozenset(words - {"..."})
    return Flags(found)


class InstalledFlags:
    """A cache of the flags by path of the program, refreshed when the program has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], Flags | VidqueueError] = {}
        self._asking: threading.Thread | None = None

    def of(self, settings: FacefusionSettings) -> Flags:
        """Return the flags of the installed version. It may block for seconds.

        Raises:
            VidqueueError: `processor_unavailable`, it cannot be run.
        """
        key = _key(settings)
        with self._lock:
            if key not in self._known:
                try:
                    self._known[key] = _asked(settings)
                except VidqueueError as error:
                    self._known[key] = error
            found = self._known[key]
        if isinstance(found, VidqueueError):
            raise found
        return found

    def fault(self, settings: FacefusionSettings) -> str:
        """Return why it cannot be run, as far as is known; the check runs in the background, so this does not block."""
        found = self._known.get(_key(settings))
        if isinstance(found, VidqueueError):
            return found.message
        if found is not None:
            return _told_missing(found)
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, args=(settings,), name="facefusion-help", daemon=True)
            self._asking.start()
        return ""

    def _ask(self, settings: FacefusionSettings) -> None:
        try:
            self.of(settings)
        except VidqueueError:
            return  # it is remembered


def _key(settings: FacefusionSettings) -> tuple[object, ...]:
    """Return the cache key: the modification times of the program and of its metadata."""
    home = settings.home or Path("/")
    changed = []
    for file in (home / PROGRAM, home / "facefusion/metadata.py", home / "facefusion/program.py", settings.interpreter):
        try:
            changed.append(file.stat().st_mtime_ns)
        except OSError:
            changed.append(0)
    return settings.home, settings.interpreter, *changed


def _asked(settings: FacefusionSettings) -> Flags:
    if fault := settings.fault():
        raise VidqueueError("processor_unavailable", f"FaceFusion cannot be run: {fault}.")
    command = [str(settings.interpreter), PROGRAM, "headless-run", "--help"]
    try:
        ended = subprocess.run(
            command, cwd=settings.home, env=environment(settings), capture_output=True, check=False, timeout=HELP_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VidqueueError("processor_unavailable", f"FaceFusion cannot be run: {error}.") from None
    text = ended.stdout[:LARGEST_HELP].decode("utf-8", "replace")
    if ended.returncode != 0 or not text.strip():
        words = ended.stderr[-2000:].decode("utf-8", "replace").strip().splitlines()
        last = words[-1] if words else f"exit code {ended.returncode}"
        raise VidqueueError("processor_unavailable", f"FaceFusion cannot be run: {last}.")
    flags = parsed(text)
    if missing := _told_missing(flags):
        raise VidqueueError("processor_unavailable", f"This FaceFusion cannot be used: {missing}.")
    return flags


def _told_missing(flags: Flags) -> str:
    missing = flags.missing()
    return f"its headless-run does not have --{', --'.join(missing)}" if missing else ""


def environment(settings: FacefusionSettings) -> dict[str, str]:
    """Return the environment of the program: that of the caller, with the folder of its Python first on PATH."""
    path = os.pathsep.join(filter(None, (str(settings.interpreter.parent), os.environ.get("PATH"))))
    # A terminal's width would break the lines of the help.
    return {**os.environ, "PATH": path, "COLUMNS": "10000", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


INSTALLED = InstalledFlags()
