"""Sound whose channels or rate change midway: tracks that cannot be copied, and warnings about lost channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.channels import has_room
from vidqueue.media.facts import AudioFacts, MediaFacts
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source

# Where each packet of AAC may say its channels and its rate; other containers say them once for a whole track.
_SAID_AGAIN = frozenset({"mpegts", "mpeg", "flv", "aac"})

_SAID_WITH_EACH = frozenset({"ac3", "eac3", "dts", "mp2", "mp3"})


def changing(source: Source, facts: MediaFacts, audios: Sequence[AudioFacts], bounds: SandboxLimits) -> frozenset[int]:
    """The indices of those tracks that a copy would not keep; found by decoding, where that can happen at all.

    Where the times of sound are made of what is decoded, a copy would have none; where an edit list cuts a part out, a
    copy would have it.

    Raises:
        VidqueueError: nothing could be decoded, with the code of the cause.
        CanceledError: the event of `bounds` was set.
    """
    if known := [one.index for one in audios if one.cut or (one.clock_step_s and not one.clock_by_packets)]:
        return frozenset(known)
    indices = [one.index for one in audios if one.codec == "aac"] if facts.container in _SAID_AGAIN else []
    if not indices:
        return frozenset()
    tally = ffmpeg.Tally()
    with source.opened() as file:
        arguments = [*QUIET, *input_arguments(file, bounds.limits, "-vn", "-max_error_rate", "1")]
        for index in indices:
            arguments += ["-map", f"0:{index}"]
        ffmpeg.run([*arguments, "-f", "null", "pipe:2"], bounds, keep_open=[file], tally=tally)
    return frozenset(index for place, index in enumerate(indices) if tally.sounds.get(f"0:{place}"))


def lost_channels(audios: Sequence[AudioFacts], tally: ffmpeg.Tally, streams: Iterable[str]) -> list[str]:
    """A sentence for each track that had more channels later on than at its beginning, which the result has.

    Args:
        audios: the tracks.
        tally: what ffmpeg said while it decoded them.
        streams: those that they became, as `output:stream`.
    """
    return [
        f"The channels of sound track {place} change midway to {later}; all of it has those of its beginning "
        f"({audio.channel_layout})."
        for place, (audio, stream) in enumerate(zip(audios, streams, strict=False), start=1)
        for later in sorted(tally.sounds.get(stream, ()))
        if audio.channel_layout and not has_room(audio.channel_layout, later)
    ]


def first_channels(audios: Sequence[AudioFacts], result: MediaFacts) -> list[str]:
    """A sentence for each copied track that begins with fewer channels than it has later on.

    The codecs say their channels with each packet, and the container of a result those of the first one.
    """
    return [
        f"The channels of sound track {place} change midway; the result says those of its beginning "
        f"({found.channel_layout}), and holds {audio.channel_layout} later."
        for place, (audio, found) in enumerate(zip(audios, result.audios, strict=False), start=1)
        if audio.codec == found.codec
        and audio.codec in _SAID_WITH_EACH
        and audio.channel_layout
        and found.channel_layout
        and not has_room(found.channel_layout, audio.channel_layout)
    ]


def behind_pictures(audios: Sequence[AudioFacts]) -> list[str]:
    """The streams of an output that has pictures first, and then these tracks."""
    return [f"0:{place}" for place in range(1, len(audios) + 1)]
