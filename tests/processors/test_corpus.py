"""Every shared clip through both processors, compared with plain ffmpeg; and what cannot be processed is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media.clips import FOLDER, Clip, decoded_times, manifest, needs, picture
from tests.processors.comparison import unexplained
from tests.processors.work import Work, facts_of, video_of
from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.probe import probe

pytestmark = pytest.mark.media

CLIPS = manifest()
# Small files of odd kinds; what refuses some of them is that their formats are not accepted.
UNACCEPTED = {"cases/ffv1.mkv": "unsupported_codec", "cases/mxf.mxf": "unsupported_format"}
ODD = [
    Clip(f"cases/{path.name}", "ok", "")
    for path in sorted((FOLDER / "cases").glob("*.*"))
    if f"cases/{path.name}" not in UNACCEPTED
]
PLAYABLE = [clip for clip in CLIPS if clip.expect == "ok" and clip.has_video] or CLIPS
REFUSED = {
    "portrait_astronaut.png": "still_image",
    "portrait_painting.jpg": "still_image",
    "speech_jfk.wav": "no_video_stream",
    "speech_commentary.mp3": "no_video_stream",
    "bad_zero.webm": "input_empty",
    "bad_text.mp4": "unsupported_format",
    "bad_no_moov.mp4": "media_damaged",
    "bad_truncated.mp4": "media_damaged",
    "bad_bitflips.mp4": "media_damaged",
    **UNACCEPTED,
}
CHEAP: dict[str, dict[str, Any]] = {"transcode": {"quality": "low"}, "enhance": {"quality": "low", "saturation": 1.05}}


def named(name: str) -> Clip:
    return Clip(name, "ok", "") if name in UNACCEPTED else next((clip for clip in CLIPS if clip.name == name), CLIPS[0])


# Each takes tens of seconds of CPU. `make test` has the others through `transcode`, and the kinds of
# tests/processors/test_cases.py through both processors.
LONG = (
    "talk_vertical", "screen_vfr", "bbb_30s", "crowd_1080p", "long_noaudio", "narration_720p", "pcm_1080p50",
    "selfie_two",
)  # fmt: skip


def _clips() -> Iterator[object]:
    for clip in [*PLAYABLE, *ODD]:
        for processor in CHEAP:
            is_long = processor == "enhance" or str(clip).startswith(LONG)
            yield pytest.param(clip, processor, marks=[pytest.mark.long] if is_long else [])


@pytest.mark.parametrize(("clip", "processor"), list(_clips()), ids=str)
def test_a_clip_comes_out_as_ffmpeg_decodes_it(clip: Clip, processor: str, tmp_path: Path) -> None:
    needs(clip)
    output = Work(processor, clip.path, tmp_path / "work").run(quality="high")
    assert unexplained(clip.path, output.path, output.facts["warnings"]) == []


@pytest.mark.parametrize("processor", CHEAP)
@pytest.mark.parametrize(("name", "code"), REFUSED.items())
def test_a_file_that_cannot_be_processed_says_why(name: str, code: str, processor: str, tmp_path: Path) -> None:
    clip = named(name)
    needs(clip)
    with pytest.raises(VidqueueError) as caught:
        Work(processor, clip.path, tmp_path / "work").run()
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("processor", CHEAP)
def test_a_little_damage_is_a_success_that_says_so(processor: str, tmp_path: Path) -> None:
    clip = named("bad_corrupt_bitstream.mp4")
    needs(clip)
    work = Work(processor, clip.path, tmp_path / "work")
    output = work.run(**CHEAP[processor])
    assert len(output.facts["warnings"]) == 2
    assert {line.text for line in work.log if line.level == "warning"} >= set(output.facts["warnings"])
    assert len(decoded_times(output.path, 0)) == 49


@pytest.mark.parametrize("clip", PLAYABLE, ids=str)
def test_a_trim_in_the_middle_is_as_long_as_asked(clip: Clip, tmp_path: Path) -> None:
    needs(clip)
    source = video_of(probe(clip.path, Limits()))
    start, end = source.duration_s * 0.3, source.duration_s * 0.6
    output = Work("transcode", clip.path, tmp_path / "work").run(start_s=start, end_s=end, resolution="240p")
    wanted = [time for time in decoded_times(clip.path, source.index) if start <= time - source.start_s < end]
    assert abs(video_of(facts_of(output)).frames - len(wanted)) <= 1


def test_hdr_keeps_its_colours_through_h265(tmp_path: Path) -> None:
    clip = named("vfr_hevc10_hdr.mp4")
    needs(clip)
    before = video_of(probe(clip.path, Limits()))
    for processor, wishes in CHEAP.items():
        output = Work(processor, clip.path, tmp_path / processor).run(codec="h265", **wishes)
        after = video_of(facts_of(output))
        assert (after.bit_depth, after.colour) == (10, before.colour)
        assert np.abs(picture(clip.path).astype(int) - picture(output.path).astype(int)).mean() < 6
