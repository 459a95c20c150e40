"""Testing what the jail confines on this machine, by letting a jailed ffmpeg try what it must not do."""

from __future__ import annotations

from dataclasses import dataclass

from vidqueue.limits import Limits
from vidqueue.media.arguments import QUIET
from vidqueue.media.jail import launcher, sandbox

_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class JailStatus:
    """The protections that work on this machine; `vidqueue doctor` shows them.

    Attributes:
        landlock_abi: version of Landlock that the kernel offers; 0 for none.
        files_closed: whether a jailed ffmpeg was refused a file that everybody may read.
        network_closed: whether it was refused a socket.
        starts: whether a jailed ffmpeg starts at all.
    """

    landlock_abi: int
    files_closed: bool
    network_closed: bool
    starts: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each protection that is missing."""
        found = []
        if not self.starts:
            found.append("A jailed ffmpeg does not start; no media can be processed.")
        if not self.files_closed:
            found.append(
                "A hostile file that takes over ffmpeg can read the daemon's files: the kernel has no Landlock."
            )
        if not self.network_closed:
            found.append("A hostile file that takes over ffmpeg can open network connections.")
        return tuple(found)


def jail_status() -> JailStatus:
    """Test every protection now; takes a few tenths of a second."""
    return JailStatus(
        landlock_abi=launcher.landlock_abi(),
        # The demuxer `data` accepts any bytes, so only the jail can refuse.
        files_closed="Permission denied" in _words("-f", "data", "-i", "file:/etc/passwd"),
        network_closed="Operation not permitted" in _words("-f", "data", "-i", "udp://127.0.0.1:9?timeout=1000"),
        starts=_trial("-version").returncode == 0,
    )


def _words(*arguments: str) -> str:
    ended = _trial(*QUIET, "-loglevel", "error", *arguments, "-map", "0", "-c", "copy", "-f", "null", "pipe:1")
    return "\n".join(ended.tail)


def _trial(*arguments: str) -> sandbox.Ended:
    with sandbox.start(arguments, sandbox.SandboxLimits(Limits(), _TIMEOUT_S)) as running:
        return running.wait()
