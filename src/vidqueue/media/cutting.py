"""How ffmpeg reads a part of a file so that the part begins with the picture that was asked for. No IO."""

from __future__ import annotations

from dataclasses import dataclass

from vidqueue.media.facts import VideoFacts

# ffmpeg seeks to any picture of these, and what comes before the next key picture cannot be decoded.
BROADCASTS = frozenset({"mpegts", "mpeg"})
# Streams without a container and without times, which ffmpeg cannot seek in: it begins at their beginnings instead, or
# (animated WebP) not at all.
_BARE = frozenset({"h264", "hevc", "mpegvideo", "m4v", "obu", "webp_anim"})
# In these ffmpeg finds any time. Elsewhere it may fail to find one right behind the beginning, and then goes on from
# where it stopped to look at the file.
_INDEXED = frozenset({"mov", "matroska"})
_NEAR_S = 2.0
# How much earlier broadcasts are read at least; more, where key pictures are further apart.
_EARLIER_S = 15.0
# Only a second of the sound before a part is decoded: where ffmpeg sought to, packets may lack their beginnings.
_NO_SOUND_BEFORE = ("-bsf:a", "noise=drop='lt(pts*tb,-1)'")
# What was shown earlier than a part is left out of copied sound too, and in containers without edit lists it would be
# heard before the first picture.
_NONE_COPIED_BEFORE = ("-copypriorss:a", "0")


@dataclass(frozen=True, slots=True)
class Cut:
    """The arguments of ffmpeg for a part of a file; times in a run are counted from the beginning of the part.

    Attributes:
        before: before the input.
        pictures: the first filter of pictures; empty if there is no need of any.
        sound: the first filter of sound.
        copied: for the output: leaves out what would be copied of sound from before the part.
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
    length = ("-t", f"{length_s:.6f}") if length_s is not None else ()
    return Cut((*start, *length), copied=_NONE_COPIED_BEFORE if start_s else ())


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
    begin_s = sought_from(container, start_s - earlier_s(container, video))
    if begin_s == start_s:
        return sought(start_s, length_s)
    early_s = start_s - begin_s
    # Without seeking ffmpeg counts the length from the first picture that it reads.
    read_s = length_s if length_s is None or begin_s else length_s + early_s
    end = "" if length_s is None else f":end={length_s:.6f}"
    return Cut(
        (*sought(begin_s, read_s).before, *_shifted(early_s), *(_NO_SOUND_BEFORE if container in BROADCASTS else ())),
        f"trim=start=0{end}",
        f"atrim=start=0{end}",
        _NONE_COPIED_BEFORE,
    )


def copied_out(container: str, start_s: float, length_s: float | None = None) -> Cut:
    """A part whose pictures are copied: it begins with the key picture before, and so does its sound."""
    if start_s and not sought_from(container, start_s):
        length_s = None if length_s is None else start_s + length_s
        return Cut((*sought(0.0, length_s).before, *_shifted(start_s)))
    return Cut(sought(start_s, length_s).before)


def copied_from(first_s: float, begin_s: float, early_s: float, length_s: float | None) -> Cut:
    """A part that is copied from a time on.

    Args:
        first_s: what comes before is left out; in seconds from the beginning of the part, not positive.
        begin_s: where ffmpeg seeks to, in seconds from the beginning of the file.
        early_s: how much earlier than the part that is.
        length_s: how long the part is.
    """
    read_s = None if length_s is None else length_s + (0.0 if begin_s else early_s)
    dropped = f"noise=drop='lt(pts*tb,{first_s:.6f})'"
    return Cut((*sought(begin_s, read_s).before, *_shifted(early_s), "-bsf:v", dropped, "-bsf:a", dropped))


def earlier_s(container: str, video: VideoFacts) -> float:
    """How much earlier than a part ffmpeg must begin to read, in seconds, so that there is a key picture before it."""
    return max(_EARLIER_S, video.key_gap_s + 1) if container in BROADCASTS else 0.0


def sought_from(container: str, begin_s: float) -> float:
    """Where ffmpeg should seek to for something that begins at this time; 0 is the beginning, without seeking."""
    return begin_s if begin_s >= _NEAR_S or (begin_s > 0 and container in _INDEXED) else 0.0


def _shifted(early_s: float) -> tuple[str, ...]:
    # A clock that begins further from zero than ten seconds would be taken for one that jumps.
    return ("-itsoffset", f"{-early_s:.6f}", "-dts_delta_threshold", f"{2 * early_s + 1:.3f}")


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
