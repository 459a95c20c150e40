"""Opening an untrusted input file: only a regular, non-empty file, never through a link, never blocking."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vidqueue.errors import VidqueueError

# How much of the beginning of a file is looked at.
_LOOK = 4096
_LOOK_FOR_SCRAMBLING = 188 * 192 * 16
_FEWEST_PACKETS = 8
_SYNC = 0x47
_LAST_TABLE = 0x1F
# How playlists begin: HLS and M3U, those of ffmpeg; PLS and old ASX. Those in XML have these root elements: DASH, ASX,
# XSPF, SMIL and WPL, Smooth Streaming.
_LISTS = (b"#EXTM3U", b"ffconcat version")
_SECTIONS = (b"[playlist]", b"[reference]")
_ROOTS = frozenset({b"mpd", b"asx", b"playlist", b"smil", b"smoothstreamingmedia"})
_BEFORE_THE_ROOT = {b"<?": b"?>", b"<!--": b"-->", b"<!DOCTYPE": b">"}
_ENDS_OF_A_NAME = frozenset({b" ", b"\t", b"\r", b"\n", b">", b"/"})
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_OPEN_ERRORS = {
    errno.ENOENT: ("input_not_found", "There is no file at {path}."),
    errno.ENOTDIR: ("input_not_found", "There is no file at {path}."),
    errno.EACCES: ("input_not_found", "The daemon may not read {path}."),
    errno.ELOOP: ("input_not_a_file", "{path} is a symbolic link."),
    errno.ENXIO: ("input_not_a_file", "{path} is a socket or a pipe."),
}


@dataclass(frozen=True, slots=True)
class Source:
    """An input file that passed the checks, with the identity by which it is recognised when it is opened again."""

    path: Path
    device: int
    inode: int
    size: int

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the file read-only at offset 0 for the time of the block.

        Every run gets its own: a descriptor that was inherited by one ffmpeg keeps the offset where that one left it.

        Raises:
            VidqueueError: the file is gone, or another one has taken its name.
        """
        descriptor = _open(self.path)
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) != (self.device, self.inode):
                raise VidqueueError("input_not_found", f"{self.path} was replaced while it was being read.")
            yield descriptor
        finally:
            os.close(descriptor)


def check_source(path: Path) -> Source:
    """Check that a path is a regular, non-empty file and no playlist.

    Args:
        path: without links in any part, as `Inputs` hands it on.

    Raises:
        VidqueueError: `input_not_found`, `input_forbidden`, `input_not_a_file`, `input_empty` or
            `input_is_a_playlist`.
    """
    descriptor = _open(path)
    try:
        # O_NOFOLLOW looks at the last part only; a folder on the way may have become a link since it was judged.
        if Path(f"/proc/self/fd/{descriptor}").readlink() != path:
            raise VidqueueError("input_forbidden", f"{path} leads somewhere else now.")
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise VidqueueError("input_not_a_file", f"{path} is not a regular file.")
        if found.st_size == 0:
            raise VidqueueError("input_empty", f"{path} is empty.")
        if is_playlist(os.pread(descriptor, _LOOK, 0)):
            raise VidqueueError("input_is_a_playlist", f"{path} is a playlist, not a video.")
        return Source(path, found.st_dev, found.st_ino, found.st_size)
    finally:
        os.close(descriptor)


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Refuse what comes of a file that somebody writes to while it is read; every fault may have come from that.

    Raises:
        VidqueueError: `input_changed`.
    """
    before = _state(path)
    try:
        yield
    except VidqueueError as error:
        if _state(path) != before:
            raise _changed(path) from error
        raise
    if _state(path) != before:
        raise _changed(path)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _changed(path: Path) -> VidqueueError:
    return VidqueueError("input_changed", f"{path} was written to while it was being read.")


def is_playlist(head: bytes) -> bool:
    """True if a file that begins with these bytes is a playlist or manifest, which refers to other files.

    The format whitelist refuses such files as well; looking first gives the user a better answer than "unsupported".
    The scan goes forward only, so it takes time in proportion to `head` whatever stands there.
    """
    start = _after_blank(head, 3 if head.startswith(_BYTE_ORDER_MARK) else 0)
    if head.startswith(_LISTS, start) or head[start : start + 11].lower().startswith(_SECTIONS):
        return True
    while opening := next((one for one in _BEFORE_THE_ROOT if head.startswith(one, start)), b""):
        start = _after(head, _BEFORE_THE_ROOT[opening], start + len(opening))
    if not head.startswith(b"<", start):
        return False
    end = next((at for at in range(start + 1, len(head)) if head[at : at + 1] in _ENDS_OF_A_NAME), len(head))
    # A name may have a prefix, as in <mpd:MPD>.
    return head[start + 1 : end].rpartition(b":")[2].lower() in _ROOTS


def is_scrambled(source: Source) -> bool:
    """True if a file is an MPEG transport stream most of whose packets with pictures and sound are scrambled."""
    with source.opened() as descriptor:
        head = os.pread(descriptor, _LOOK_FOR_SCRAMBLING, 0)
    for size, skipped in ((188, 0), (192, 4)):
        packets = [head[at : at + 4] for at in range(skipped, len(head) - 4, size)]
        if len(packets) < _FEWEST_PACKETS or any(packet[0] != _SYNC for packet in packets):
            continue
        # Tables (the first packet identifiers) are never scrambled, and some packets have no payload.
        filled = [one for one in packets if one[3] & 0x10 and ((one[1] & 0x1F) << 8 | one[2]) > _LAST_TABLE]
        return 2 * sum(one[3] & 0xC0 != 0 for one in filled) > len(filled)
    return False


def _after(head: bytes, end: bytes, start: int) -> int:
    """The place behind the next `end` and the blank space that follows it; the end of `head` where there is none."""
    found = head.find(end, start)
    return len(head) if found < 0 else _after_blank(head, found + len(end))


def _after_blank(head: bytes, start: int) -> int:
    while head[start : start + 1].isspace():
        start += 1
    return start


def _open(path: Path) -> int:
    # O_NONBLOCK: opening a FIFO would otherwise wait for a writer for ever.
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        code, text = _OPEN_ERRORS.get(number or 0, ("input_not_found", "{path} cannot be opened."))
        raise VidqueueError(code, text.format(path=path)) from None
