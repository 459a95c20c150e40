"""The sources of a command line: files, folders, patterns, references and lists, as one entry for each job."""

from __future__ import annotations

import json
import mimetypes
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vidqueue.cli.error_messages import did_you_mean
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.inputs import STDIN, is_reference
from vidqueue.cli.job_list import files_of, text_of
from vidqueue.cli.target import identity_of
from vidqueue.sanitize import sanitize_text

# Containers that the mimetypes of many systems do not know.
_MEDIA_SUFFIXES = (
    *(".3gp", ".avi", ".divx", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"),
    *(".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m", ".flac", ".m4a", ".mka", ".ogg", ".opus", ".wav", ".gif"),
)


def is_pattern(source: str) -> bool:
    """True if the shell has left a pattern of file names, such as *.mp4, as it was."""
    return has_magic(source) and not is_reference(source) and not Path(source).exists()


@dataclass(frozen=True, slots=True)
class Entry:
    """One job's source.

    Attributes:
        value: a local file as it was named, or a reference.
        name: what people call it: its name, with the folders below the one that was given.
        parameters: parameters that a list gives for this source only.
    """

    value: str
    name: PurePosixPath
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which files of folders are taken.

    Attributes:
        recursive: also those in folders below.
        include: patterns of names, of which one must fit; without any, the usual suffixes of media.
        exclude: patterns of names that are left out.
    """

    recursive: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def takes(self, name: str, *, named: bool) -> bool:
        """True if a file of this name is taken; one that was named itself need not look like media."""
        if any(fnmatchcase(name, pattern) for pattern in self.exclude):
            return False
        if self.include:
            return any(fnmatchcase(name, pattern) for pattern in self.include)
        return named or _looks_like_media(name)


def expand(sources: Iterable[str], choice: Choice) -> list[Entry]:
    """Return an entry for each source, each file once, however often it is named.

    Raises:
        CommandError: a pattern fits no file, or a folder cannot be read.
    """
    found: dict[object, Entry] = {}
    for source in sources:
        for entry in _entries(source, choice):
            found.setdefault(identity_of(entry.value) or entry.value, entry)
    return list(found.values())


def told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with names that differ where their paths do: files of one name get the folders above them."""
    alike = defaultdict[PurePosixPath, list[Entry]](list)
    for entry in entries:
        alike[entry.name].append(entry)
    return [_with_folders(entry, alike[entry.name]) for entry in entries]


def _with_folders(entry: Entry, alike: Sequence[Entry]) -> Entry:
    paths = [Path(one.value) for one in alike if not is_reference(one.value)]
    if len(alike) < 2 or len(paths) < len(alike):
        return entry
    for count in range(len(entry.name.parts) + 1, max(len(path.parts) for path in paths) + 1):
        if len({_last(path, count) for path in paths}) == len(paths):
            return replace(entry, name=_last(Path(entry.value), count))
    return entry


def _last(path: Path, count: int) -> PurePosixPath:
    return PurePosixPath(*[part for part in path.parts if part not in ("/", "..")][-count:])


def listed(source: str, media: str) -> list[Entry]:
    """Return the entries of a list: a name of a file, or a JSON object of parameters, on each line.

    In what `find -print0` writes, a NUL ends each name instead.

    Args:
        source: the file with the list, or `-` for standard input.
        media: the parameter that names the source in an object.

    Raises:
        CommandError: the list cannot be read, or an object does not name a source.
    """
    text = text_of(source)
    if "\0" in text:
        return [Entry(name, _name_of(name)) for name in text.split("\0") if name]
    # Only a line feed ends a line: names may hold other characters that Python takes for line ends.
    lines = enumerate(text.split("\n"), start=1)
    named = [(number, line if os.path.lexists(line) else line.strip()) for number, line in lines if line.strip()]
    return [_line(source, number, line, media) for number, line in named]


def is_flag(word: str) -> bool:
    """True if a word looks like a flag: there is no file of that name, and it does not stand behind `--`."""
    ended = sys.argv[sys.argv.index("--") :] if "--" in sys.argv else ()
    return word.startswith("-") and word != STDIN and word not in ended and not os.path.lexists(word)


def refuse_flag(source: str, known: Iterable[str]) -> None:
    """Refuse what looks like a flag.

    Raises:
        CommandError: with the known flag that was probably meant, or what to write for a file.
    """
    if is_flag(source):
        flag = source.partition("=")[0]
        hint = did_you_mean(flag, known) or f"Write -- {source} for a file of that name."
        raise CommandError(f"Unknown flag {flag}.", exit=Exit.USAGE, hint=hint)


def title_of(source: str) -> str | None:
    """Return the name of a local file or of what a URL names; None for other references and standard input."""
    if source == STDIN or (is_reference(source) and not source.startswith(("http://", "https://"))):
        return None
    return sanitize_text(str(_name_of(source)))[:500]


def _line(source: str, number: int, line: str, media: str) -> Entry:
    if not line.startswith("{"):
        return Entry(line, _name_of(line))
    try:
        parameters = json.loads(line)
        value = parameters.pop(media)
    except (ValueError, KeyError) as error:
        why = f"has no {media!r}" if isinstance(error, KeyError) else f"is not JSON: {error}"
        raise CommandError(f"{source}: line {number} {why}.", exit=Exit.USAGE) from None
    return Entry(str(value), _name_of(str(value)), parameters)


def _entries(source: str, choice: Choice) -> Iterator[Entry]:
    if is_reference(source) or source == STDIN:
        yield Entry(source, _name_of(source))
        return
    for path in map(Path, files_of(source)):
        if path.is_dir():
            yield from _in_folder(path, choice)
        elif choice.takes(path.name, named=True):
            yield Entry(str(path), PurePosixPath(path.name))


def _in_folder(folder: Path, choice: Choice) -> Iterator[Entry]:
    closed = list[Path]()

    def note(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}.", code="input_not_found")
        closed.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(one for one in folders if choice.recursive and not one.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            # A dangling link is reported as unreadable instead of being skipped.
            if not name.startswith(".") and choice.takes(name, named=False) and (path.is_file() or not path.exists()):
                yield Entry(str(path), PurePosixPath(path.relative_to(folder)))
    # A subfolder that cannot be read is reported beside the files, because its content is unknown.
    yield from (Entry(str(path), PurePosixPath(path.relative_to(folder))) for path in closed)


def _name_of(value: str) -> PurePosixPath:
    if is_reference(value):
        last = unquote(urlsplit(value).path.rpartition("/")[2]) if "://" in value else value.rpartition("/")[2]
        return PurePosixPath(last.replace("/", "_") or "source")
    return PurePosixPath("stdin" if value == STDIN else Path(value).name)


def _looks_like_media(name: str) -> bool:
    guessed = mimetypes.guess_type(name)[0] or ""
    return PurePosixPath(name).suffix.lower() in _MEDIA_SUFFIXES or guessed.startswith(("video/", "audio/", "image/"))
