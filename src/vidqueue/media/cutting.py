"""How ffmpeg reads a part of a file so that the part begins with the picture that was asked for. No IO."""

from __future__ import annotations

from dataclasses import dataclass

from vidqueue.media.facts import VideoFacts

# ffmpeg seeks to any picture of these, and what comes before the next key picture cannot be decoded.
BROADCASTS = frozenset({"mpegts", "mpeg"})
# Streams without a container and without times, which ffmpeg cannot seek in: it begins at their beginnings instead.
_BARE = frozenset({"h264", "hevc", "mpegvideo", "m4v", "obu"})
# How much earlier they are read: key pictures are hardly ever further apart.
EARLIER_S = 15.0
# Only a second of the sound before a part is decoded: where ffmpeg sought to, packets may lack their beginnings.
_NO_SOUND_BEFORE = ("-bsf:a", "noise=drop='lt(pts*tb,-1)'")
# A clock that begins further from zero than ten seconds would be taken for one that jumps.
_NO_JUMP_S = 2 * EARLIER_S


@dataclass(frozen=True, slots=True)
class Cut:
    """The arguments of ffmpeg for a part of a file; times in a run are counted from the beginning of the part.

    Attributes:
        before: before the input.
        pictures: the first filter of pictures; empty if there is no need of any.
        sound: the first filter of sound.
        copied: for the output: leaves out what is copied of sound and subtitles from before the part.
        can_copy: False if nothing can be cut without decoding it.
    """

    before: tuple[str, ...] = ()
    pictures: str = ""
    sound: str = ""
    copied: tuple[str, ...] = ()
    can_copy: bool = True

    @property
    def is_early(self) -> bool:
        """True if ffmpeg reads more than the part."""
        return bool(self.pictures)


def sought(start_s: float, length_s: float | None = None) -> Cut:
    """A part for which ffmpeg seeks to the key picture before, and throws away what comes up to the wanted time."""
    start = ("-ss", f"{start_s:.6f}") if start_s else ()
    return Cut((*start, *(("-t", f"{length_s:.6f}") if length_s is not None else ())))


def cut_out(container: str, video: VideoFacts, start_s: float, length_s: float | None = None) -> Cut:
    """A part that begins at `start_s` and lasts `length_s`, in seconds; None is up to the end of the file.

    Args:
        container: ffmpeg's name of the format.
        video: the track whose pictures are seen.
        start_s: in seconds from the beginning of the file.
        length_s: in seconds.
    """
    if start_s and not can_be_sought(container, video):
        return _counted(start_s, length_s)
    if container not in BROADCASTS or not start_s:
        return sought(start_s, length_s)
    begin_s = max(0.0, start_s - EARLIER_S)
    early_s = start_s - begin_s
    # Without seeking ffmpeg counts the length from the first picture that it reads.
    read_s = length_s if length_s is None or begin_s else length_s + early_s
    end = "" if length_s is None else f":end={length_s:.6f}"
    shifted = ("-itsoffset", f"{-early_s:.6f}", "-dts_delta_threshold", str(_NO_JUMP_S))
    return Cut(
        (*sought(begin_s, read_s).before, *shifted, *_NO_SOUND_BEFORE),
        f"trim=start=0{end}",
        f"atrim=start=0{end}",
        ("-copypriorss:a", "0", "-copypriorss:s", "0"),
    )


def can_be_sought(container: str, video: VideoFacts) -> bool:
    """False if ffmpeg knows the times of a file only as it reads them: of bare streams, and of joined recordings."""
    return container not in _BARE and not (video.clock_restarts and container in BROADCASTS)


def _counted(start_s: float, length_s: float | None) -> Cut:
    """A part of a file that ffmpeg reads from its beginning."""
    end = "" if length_s is None else f":end={start_s + length_s:.6f}"
    trimmed = f"trim=start={start_s:.6f}{end}"
    return Cut(
        pictures=f"{trimmed},setpts=PTS-{start_s:.6f}/TB",
        sound=f"a{trimmed},asetpts=PTS-{start_s:.6f}/TB",
        can_copy=False,
    )
