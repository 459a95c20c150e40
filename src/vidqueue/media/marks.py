"""Marks of tracks (a commentary, text for the hard of hearing), and a warning for those that a result lacks. No IO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vidqueue.media.facts import AudioFacts, MediaFacts, SubtitleFacts


def lost_track_marks(source: MediaFacts, result: MediaFacts) -> list[str]:
    """A sentence for each track whose marks the container of the result does not store."""
    sound = _lost("Sound", source.audios, result.audios)
    return [*sound, *_lost("Subtitle", source.subtitle_tracks, result.subtitle_tracks)]


def _lost(
    kind: str, before: Sequence[AudioFacts | SubtitleFacts], after: Sequence[AudioFacts | SubtitleFacts]
) -> Iterator[str]:
    if len(before) != len(after):
        return
    for place, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        if lost := [mark for mark in old.marks if mark not in new.marks]:
            yield f"{kind} track {place} is not marked any more ({', '.join(lost)}): the container has no such mark."
