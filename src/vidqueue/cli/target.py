"""The file that a command writes: checked before the work begins, written aside, and published without loss.

A file that exists is replaced only with `--force`, and an input is never replaced. Used by every command with `-o`.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from vidqueue.cli.exits import CommandError

# Device and inode: the same for every name of one file, through symbolic and hard links.
Identity: TypeAlias = tuple[int, int]

STDOUT = "-"
# The name is short and does not repeat that of the target, which may be as long as a name can be.
ASIDE_PREFIX, ASIDE_SUFFIX = ".vidqueue-", ".part"
# What link(2) answers on file systems that have no hard links, such as FAT and some network shares.
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class Target:
    """Where `-o` points to: a file, an existing folder, or `-` for standard output.

    Attributes:
        given: the argument as it was typed.
        force: whether an existing file may be replaced.
        inputs: files that must not be overwritten, whatever name leads to them.
        if_exists: the hint of the refusal to replace a file.
    """

    given: str
    force: bool = False
    inputs: frozenset[Identity] = frozenset()
    if_exists: str = "Use --force to replace it, or choose another name."

    @property
    def is_stdout(self) -> bool:
        """Whether the bytes go to standard output."""
        return self.given == STDOUT

    @property
    def is_folder(self) -> bool:
        """True if the target is a folder, which gets several files; a path with a trailing slash is created as one."""
        # Unlike Path.is_dir, it does not raise for a name that is too long.
        return not self.is_stdout and (self.given.endswith("/") or os.path.isdir(self.given))  # noqa: PTH112

    @property
    def replaces(self) -> Path | None:
        """The file that would be replaced, if there is one and --force allows it."""
        path = Path(self.given)
        return path if self.force and not self.is_stdout and path.is_file() else None

    def check(self) -> None:
        """Refuse a target that cannot be written, before anything else is done; make a folder that is missing.

        Raises:
            CommandError: says what is wrong with it.
        """
        if self.is_stdout:
            self._require_stdout_is_no_input()
            return
        if not self.given:
            raise CommandError("The name of the output file is empty.")
        path = Path(self.given)
        facts = _stat(path)
        if facts is not None and stat.S_ISDIR(facts.st_mode):
            _require_writable(path)
            return
        if self.given.endswith("/"):
            if facts is not None:
                raise CommandError(_not_a_folder(path))
            make_folder(path)
            return
        _require_writable(self._free(path).parent)

    def file(self, name: str) -> Path:
        """The path to write: the file that was given, or `name` in the folder that was given.

        Raises:
            CommandError: the file exists by now, or is an input.
        """
        path = Path(self.given)
        facts = _stat(path)
        return self._free(path / name if facts is not None and stat.S_ISDIR(facts.st_mode) else path)

    @contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        """An open file whose bytes appear at `path` when the block ends without an exception, whole or not at all.

        Raises:
            CommandError: the file cannot be written, or another one appeared at `path` meanwhile.
        """
        aside = None
        try:
            descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=ASIDE_PREFIX, suffix=ASIDE_SUFFIX)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; the result gets the mode that any new file would.
            Path(aside).chmod(0o666 & ~_umask())
            self._free(path)
            _publish(Path(aside), path, replace=self.force)
        except FileExistsError:
            raise self._exists(path) from None
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
        finally:
            if aside is not None:
                Path(aside).unlink(missing_ok=True)

    def _exists(self, path: Path) -> CommandError:
        return CommandError(f"{path} already exists.", hint=self.if_exists)

    def _free(self, path: Path) -> Path:
        """The path itself, or with --force what it links to, if a file may be put there."""
        facts = _stat(path)
        if facts is not None:
            if _identity(facts) in self.inputs:
                hint = "Choose another name; an input is never overwritten, not even with --force."
                raise CommandError(f"{path} is an input of this command.", hint=hint)
            if stat.S_ISDIR(facts.st_mode):
                raise CommandError(f"{path} is a folder.")
            if not stat.S_ISREG(facts.st_mode):
                raise CommandError(f"{path} is not a regular file.", hint="Use `-o -` to write to standard output.")
        if not self.force and os.path.lexists(path):
            raise self._exists(path)
        return Path(os.path.realpath(path)) if path.is_symlink() else path

    def _require_stdout_is_no_input(self) -> None:
        with suppress(OSError, ValueError):
            facts = os.fstat(1)
            if stat.S_ISREG(facts.st_mode) and _identity(facts) in self.inputs:
                raise CommandError("Standard output is an input of this command.", hint="Write to another file.")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if it is missing.

    Raises:
        CommandError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"Cannot create the folder {folder}: {error.strerror}.") from None


def identity_of(place: str | Path | int) -> Identity | None:
    """The identity of a file by its path or descriptor; None if there is none, or none that could be overwritten."""
    try:
        return _identity(os.stat(place))  # noqa: PTH116 - Path takes no descriptor
    except (OSError, ValueError):
        return None


def _identity(facts: os.stat_result) -> Identity:
    return facts.st_dev, facts.st_ino


def _stat(path: Path) -> os.stat_result | None:
    """What lies at the path, through links; None if there is nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise CommandError(_not_a_folder(path.parent)) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from None


def _require_writable(folder: Path) -> None:
    """Make a file there and remove it: permissions do not tell of read-only mounts and immutable folders."""
    try:
        descriptor, made = tempfile.mkstemp(dir=folder, prefix=ASIDE_PREFIX, suffix=ASIDE_SUFFIX)
    except OSError as error:
        if not folder.is_dir():
            raise CommandError(f"The folder {folder} does not exist.") from None
        raise CommandError(f"The folder {folder} cannot be written to: {error.strerror}.") from None
    os.close(descriptor)
    Path(made).unlink()


def _publish(aside: Path, path: Path, *, replace: bool) -> None:
    """Give the finished file its name; without `replace` never in place of another file."""
    if replace:
        aside.replace(path)
        return
    try:
        os.link(aside, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Reserve the name first; only one process can create it, and only its own empty file is replaced.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        aside.replace(path)


def _not_a_folder(path: Path) -> str:
    return f"{path} is not a folder."


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
