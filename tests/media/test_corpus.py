"""The probe on every shared clip, against the manifest and against a real decoder."""

from __future__ import annotations

import re

import pytest

from tests.media.clips import Clip, decoded_times, manifest, needs
from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.probe import probe

pytestmark = pytest.mark.media
CLIPS = manifest()
REFUSED = {
    "bad_zero.webm": "input_empty",
    "bad_text.mp4": "unsupported_format",
    "bad_no_moov.mp4": "media_damaged",
}


def readable() -> list[Clip]:
    return [clip for clip in CLIPS if clip.expect != "reject"]


def declared(facts: str) -> dict[str, str]:
    """The manifest's words about the first video stream."""
    found = re.search(r"V(?P<index>\d):(?P<codec>\w+) (?P<size>\d+x\d+) (?P<format>\w+) ", facts)
    return found.groupdict() if found else {}


@pytest.mark.parametrize("clip", readable(), ids=str)
def test_facts_are_those_of_the_manifest(clip: Clip) -> None:
    needs(clip)
    facts = probe(clip.path, Limits())
    words = declared(clip.facts)
    if not words:
        assert facts.video is None
        return
    video = facts.video
    assert video is not None
    assert (video.index, video.codec) == (int(words["index"]), words["codec"])
    assert (f"{video.width}x{video.height}", video.pixel_format) == (words["size"], words["format"])
    assert video.frames == int(re.search(r"\| n=(\d+)", clip.facts)[1])  # type: ignore[index]
    assert video.is_vfr == (" VFR" in clip.facts)
    # The manifest counts anticlockwise.
    assert video.rotation == (270 if "ROT=90" in clip.facts else 0)
    assert facts.is_still == clip.is_still


@pytest.mark.parametrize("clip", readable(), ids=str)
def test_duration_and_sound_are_those_of_the_manifest(clip: Clip) -> None:
    needs(clip)
    facts = probe(clip.path, Limits())
    told = re.search(r"dur=([\d.]+)", clip.facts)
    longest = max([facts.duration_s, *(one.start_s + one.duration_s for one in facts.audios)])
    if told and clip.name != "bad_truncated.mp4":
        assert longest == pytest.approx(float(told[1]), abs=0.12)
    sounds = re.findall(r"A\d:(\w+) (\d+)", clip.facts)
    assert [(one.codec, one.sample_rate) for one in facts.audios] == [
        (codec.removesuffix("float"), int(rate)) for codec, rate in sounds
    ]


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if clip.expect == "ok" and clip.has_video] or CLIPS, ids=str)
def test_as_many_pictures_decode_as_were_counted_and_at_those_times(clip: Clip) -> None:
    needs(clip)
    video = probe(clip.path, Limits()).video
    assert video is not None
    times = decoded_times(clip.path, video.index)
    assert len(times) == video.frames
    assert video.start_s == pytest.approx(times[0], abs=1e-6)
    tail = float(video.last_duration * video.time_base)
    assert video.duration_s == pytest.approx(times[-1] + tail - times[0], abs=1e-6)


@pytest.mark.parametrize(("name", "code"), REFUSED.items())
def test_a_file_to_reject_is_refused_with_its_reason(name: str, code: str) -> None:
    clip = next((clip for clip in CLIPS if clip.name == name), CLIPS[0])
    needs(clip)
    with pytest.raises(VidqueueError) as caught:
        probe(clip.path, Limits())
    assert caught.value.code == code


def test_the_truncated_clip_is_seen_to_be_damaged() -> None:
    clip = next((clip for clip in CLIPS if clip.name == "bad_truncated.mp4"), CLIPS[0])
    needs(clip)
    assert len(probe(clip.path, Limits()).damage) == 3
