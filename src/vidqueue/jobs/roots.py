"""Paths that people name: followed to a file under `inputs.roots`, in threads of the root in which each step lies.

A root may be on a network share whose server is dead. Each root has a thread pool of its own, and a symbolic link that
leads from one root into another is followed further in the threads of the other, so only that root's users wait.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.media.source import check_source
from vidqueue.ops.threads import ThreadPool

THREADS = 4
HANGS_AFTER_S = 10.0
# As in the kernel.
LINKS_FOLLOWED = 40
CODE = "input_unreachable"

Look = Callable[[Path], None]


class Root:
    """A folder of `inputs.roots` and its threads. `resolved` is set once its symbolic links could be followed."""

    def __init__(self, path: Path) -> None:
        self.path = Path(_normal(path))
        self.resolved: Path | None = None
        self.threads = ThreadPool(str(path), size=THREADS, hangs_after_s=HANGS_AFTER_S, code=CODE)

    def resolve(self) -> None:
        """Follow the symbolic links of the root itself; blocks."""
        self.resolved = Path(os.path.realpath(self.path))

    @property
    def places(self) -> tuple[Path, ...]:
        """The paths under which its files are found."""
        return (self.path,) if self.resolved is None else (self.path, self.resolved)


@dataclass(frozen=True, slots=True)
class _Step:
    """A path that is followed so far; `links` counts the symbolic links. Without `done` it goes on in another root."""

    path: Path
    links: int = 0
    done: bool = False


class Roots:
    """The folders of `inputs.roots`. Nothing is looked up in them before a reference needs it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._roots = [Root(path) for path in paths]
        # Paths outside of all roots may be symbolic links that lead into one.
        self._outside = ThreadPool("paths outside inputs.roots", size=THREADS, hangs_after_s=HANGS_AFTER_S, code=CODE)

    @property
    def pools(self) -> list[ThreadPool]:
        """All thread pools, for the watchdog."""
        return [*(root.threads for root in self._roots), self._outside]

    async def find(self, reference: str, look: Look | None = None) -> Path:
        """Return the path, without symbolic links, of the regular file that a reference names.

        `look` is called with the path in a thread, and may refuse it.

        Raises:
            VidqueueError: `input_unreachable`, `input_forbidden`, `input_not_found` or another code for inputs.
        """
        step = _Step(Path(reference))
        # Another process may exchange links while they are followed, so the number of steps is bounded.
        for _ in range(2 * LINKS_FOLLOWED):
            root = await self._resolved_root_of(_normal(step.path))
            threads = root.threads if root is not None else self._outside
            step = await threads.run(self._follow, step, root, reference, look)
            if step.done:
                return step.path
        raise _unopened(reference, os.strerror(errno.ELOOP))

    async def threads_of(self, folder: Path) -> ThreadPool:
        """Return the threads of the root in which a folder lies.

        Raises:
            VidqueueError: `input_unreachable`; `input_forbidden` if it lies in none.
        """
        root = await self._resolved_root_of(_normal(folder))
        if root is None:
            raise VidqueueError("input_forbidden", f"{short(str(folder))} is outside inputs.roots.")
        return root.threads

    def _root_of(self, path: str) -> Root | None:
        """The innermost root that contains a path by its name."""
        found = [
            (len(str(place)), root)
            for root in self._roots
            for place in root.places
            if _is_under(path, str(place))
        ]  # fmt: skip
        return max(found, key=lambda pair: pair[0])[1] if found else None

    async def _resolved_root_of(self, path: str) -> Root | None:
        root = self._root_of(path)
        if root is not None:
            if root.resolved is None:
                await root.threads.run(root.resolve)
            return root
        # It may be the real path of a root that has not been used yet. One that hangs is judged in `_require_root`.
        unresolved = [root for root in self._roots if root.resolved is None]
        await asyncio.gather(*(root.threads.run(root.resolve) for root in unresolved), return_exceptions=True)
        return self._root_of(path)

    def _follow(self, step: _Step, root: Root | None, reference: str, look: Look | None) -> _Step:
        """Follow a path as far as it lies in this root, and check the file at its end; blocks."""
        try:
            found = self._walk(step, root)
            if found.done:
                self._require_root(found.path, reference)
                check_source(found.path)
                if look is not None:
                    look(found.path)
        except (OSError, ValueError, RecursionError) as error:
            raise _unopened(reference, getattr(error, "strerror", None) or str(error)) from None
        return found

    def _walk(self, step: _Step, root: Root | None) -> _Step:
        """Replace symbolic links, from the first folder on, until a name leads out of this root."""
        left, links, here = list(step.path.parts[:0:-1]), step.links, "/"
        while left:
            name = left.pop()
            if name == "..":
                here = here.rpartition("/")[0] or "/"
                continue
            there = f"{here.rstrip('/')}/{name}"
            if self._leaves(there, root):
                return _Step(Path(there, *reversed(left)), links)
            target = _target(there)
            if target is None:
                here = there
                continue
            links += 1
            if links > LINKS_FOLLOWED:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            here = "/" if target.startswith("/") else here
            left.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return _Step(Path(here), links, done=True)

    def _leaves(self, path: str, root: Root | None) -> bool:
        """True if a path lies in other threads than those of `root`; the folders above a root belong to it too."""
        other = self._root_of(path)
        if other is root:
            return False
        return root is None or not any(_is_under(str(place), path) for place in root.places)

    def _require_root(self, path: Path, reference: str) -> None:
        if any(root.resolved is not None and path.is_relative_to(root.resolved) for root in self._roots):
            return
        if unknown := [str(root.path) for root in self._roots if root.resolved is None]:
            raise VidqueueError(CODE, f"{', '.join(unknown)} does not respond, and {short(reference)} may lie there.")
        named = ", ".join(str(root.path) for root in self._roots) or "none configured"
        raise VidqueueError("input_forbidden", f"{short(reference)} is outside inputs.roots ({named}).")


def short(reference: str) -> str:
    """Return a reference as it is shown in messages."""
    return repr(reference if len(reference) <= 200 else reference[:200] + "…")


def _target(path: str) -> str | None:
    """The target of a symbolic link; None for anything else, also for what does not exist."""
    try:
        return os.readlink(path)  # noqa: PTH115 - the text, unchanged
    except FileNotFoundError:
        return None
    except OSError as error:
        # EINVAL: not a link. ENOTDIR: the file is opened at the end, and that says what is wrong.
        if error.errno in (errno.EINVAL, errno.ENOTDIR):
            return None
        raise


def _normal(path: Path) -> str:
    """The path by its name, without looking at the folders."""
    return os.path.normpath(path)


def _is_under(path: str, folder: str) -> bool:
    return folder in (path, "/") or path.startswith(f"{folder}/")


def _unopened(reference: str, reason: str) -> VidqueueError:
    return VidqueueError("input_not_found", f"{short(reference)} cannot be opened: {reason}.")
