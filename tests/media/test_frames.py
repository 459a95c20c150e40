"""The frame pipeline: every picture, at its own time, in bounded memory, and an orderly end whatever goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.daemon import promised
from tests.media.clips import Samples, decoded_times, picture
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.encoder import Target
from vidqueue.media.encoders import ENCODERS
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.frames import RING, Operation, Processed, picture_format, process_frames
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.picture import Frame, FramePool
from vidqueue.media.probe import probe
from vidqueue.media.sample import make_sample
from vidqueue.media.soundtracks import plan_audio


def unchanged(frames: Iterator[Frame]) -> Iterable[Frame]:
    return frames


@dataclass(slots=True)
class Pipeline:
    """One source on its way to one output."""

    path: Path
    output: Path
    encoder: str = "libx264"

    @property
    def facts(self) -> MediaFacts:
        return probe(self.path, Limits())

    @property
    def video(self) -> VideoFacts:
        video = self.facts.video
        assert video is not None
        return video

    def run(self, operation: Operation = unchanged, *, canceled: threading.Event | None = None) -> Processed:
        container = CONTAINERS[self.output.suffix[1:]]  # type: ignore[index]
        facts = self.facts
        target = Target(
            self.output, container, ENCODERS[self.encoder], "medium", "fast", picture_format(self.video),
            plan_audio(facts, container, input_number=1),
        )  # fmt: skip
        bounds = SandboxLimits(Limits(), 60, canceled or threading.Event())
        return process_frames(self.path, facts, operation, target, bounds)


def threads_of_the_pipeline() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("decoder", "encoder", "jail"))]


@pytest.mark.parametrize("name", ["plain.mp4", "vfr.mp4", "film.mp4", "silent.mkv", "odd.mkv"])
def test_every_picture_keeps_its_time_exactly(name: str, samples: Samples, tmp_path: Path) -> None:
    pipeline = Pipeline(samples(name), tmp_path / "output.mp4")
    done = pipeline.run()
    before = decoded_times(pipeline.path, pipeline.video.index)
    after = decoded_times(pipeline.output, 0)
    assert done.decoded == done.written == len(before)
    assert after == pytest.approx([time - before[0] for time in before], abs=1e-6)


@pytest.mark.parametrize(
    ("ending", "encoder"), [("mkv", "libx265"), ("webm", "libvpx-vp9"), ("webm", "libsvtav1"), ("mov", "libx264")]
)
def test_uneven_times_survive_every_encoder(ending: str, encoder: str, samples: Samples, tmp_path: Path) -> None:
    pipeline = Pipeline(samples("vfr.mp4"), tmp_path / f"output.{ending}", encoder)
    pipeline.run()
    # Matroska rounds to milliseconds.
    assert decoded_times(pipeline.output, 0) == pytest.approx(decoded_times(pipeline.path, 0), abs=0.0006)


def test_the_picture_that_goes_in_comes_out(samples: Samples, tmp_path: Path) -> None:
    pipeline = Pipeline(samples("plain.mp4"), tmp_path / "output.mp4")
    pipeline.run()
    before, after = picture(pipeline.path, at_frame=40), picture(pipeline.output, at_frame=40)
    assert np.abs(before.astype(int) - after.astype(int)).mean() < 4


def test_a_rotated_clip_comes_out_upright(samples: Samples, tmp_path: Path) -> None:
    pipeline = Pipeline(samples("rotated.mov"), tmp_path / "output.mp4")
    pipeline.run()
    shown, result = picture(pipeline.path, at_frame=20), picture(pipeline.output, at_frame=20)
    assert result.shape == shown.shape == (640, 360, 3)
    assert np.abs(shown.astype(int) - result.astype(int)).mean() < 4


def test_an_odd_picture_loses_its_last_line_only(samples: Samples, tmp_path: Path) -> None:
    pipeline = Pipeline(samples("odd.mkv"), tmp_path / "output.mp4")
    pipeline.run()
    before, after = picture(pipeline.path, at_frame=20), picture(pipeline.output, at_frame=20)
    assert (before.shape, after.shape) == ((181, 321, 3), (180, 320, 3))
    assert np.abs(before[:180, :320].astype(int) - after.astype(int)).mean() < 12


def test_an_operation_may_change_samples_in_place(samples: Samples, tmp_path: Path) -> None:
    def black(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            frame.samples[: 640 * 360] = 16
            frame.samples[640 * 360 :] = 128
            yield frame

    pipeline = Pipeline(samples("plain.mp4"), tmp_path / "output.mp4")
    pipeline.run(black)
    assert picture(pipeline.output, at_frame=30).max() < 8


def test_pictures_that_are_larger_than_the_pipe_to_the_encoder_keep_what_they_show(tmp_path: Path) -> None:
    def brighter_and_brighter(frames: Iterator[Frame]) -> Iterator[Frame]:
        for number, frame in enumerate(frames):
            frame.samples[: 1280 * 720] = 16 + 7 * number
            frame.samples[1280 * 720 :] = 128
            yield frame

    make_sample(tmp_path / "source.mp4", seconds=1, size=(1280, 720), variant="silent")
    pipeline = Pipeline(tmp_path / "source.mp4", tmp_path / "output.mp4")
    assert pipeline.run(brighter_and_brighter).written == 30
    for number in (0, 1, 8, 20, 29):
        shown = picture(pipeline.output, at_frame=number)
        assert (shown.min(), shown.max()) == (pytest.approx(7 * number * 255 / 219, abs=4),) * 2


def test_an_operation_may_drop_and_add_pictures(samples: Samples, tmp_path: Path) -> None:
    def half_then_double(frames: Iterator[Frame]) -> Iterator[Frame]:
        spare: FramePool | None = None
        for number, frame in enumerate(frames):
            if number % 2:
                frame.release()
                continue
            spare = spare or FramePool(frame.pool.format, 4)
            between = spare.take(frame.pts + 1000)
            between.samples[:] = frame.samples
            yield frame
            yield between

    pipeline = Pipeline(samples("plain.mp4"), tmp_path / "output.mp4")
    done = pipeline.run(half_then_double)
    times = decoded_times(pipeline.output, 0)
    assert done.written == len(times) == 90
    assert times[1] - times[0] == pytest.approx(1000 / 90_000)


def test_an_operation_may_look_ahead_as_far_as_the_ring(samples: Samples, tmp_path: Path) -> None:
    def in_fours(frames: Iterator[Frame]) -> Iterator[Frame]:
        held: list[Frame] = []
        for frame in frames:
            held.append(frame)
            if len(held) == RING // 2:
                yield from held
                held = []
        yield from held

    pipeline = Pipeline(samples("plain.mp4"), tmp_path / "output.mp4")
    assert pipeline.run(in_fours).written == 90


def test_no_more_buffers_than_the_ring_are_ever_used(samples: Samples, tmp_path: Path) -> None:
    seen: set[int] = set()

    def watch(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            seen.add(frame.samples.ctypes.data)
            yield frame

    Pipeline(samples("plain.mp4"), tmp_path / "output.mp4").run(watch)
    assert 1 < len(seen) <= RING


def test_an_error_in_the_operation_ends_everything_at_once(samples: Samples, tmp_path: Path) -> None:
    def fails(frames: Iterator[Frame]) -> Iterator[Frame]:
        for number, frame in enumerate(frames):
            if number == 10:
                raise ZeroDivisionError
            yield frame

    pipeline = Pipeline(samples("long.mp4"), tmp_path / "output.mp4")
    before = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        pipeline.run(fails)
    assert time.monotonic() - before < promised(5)
    assert threads_of_the_pipeline() == []


def test_a_cancel_ends_everything_within_a_second(samples: Samples, tmp_path: Path) -> None:
    canceled, when = threading.Event(), []

    def cancels(frames: Iterator[Frame]) -> Iterator[Frame]:
        for number, frame in enumerate(frames):
            if number == 20:
                canceled.set()
                when.append(time.monotonic())
            yield frame

    with pytest.raises(CanceledError):
        Pipeline(samples("long.mp4"), tmp_path / "output.mp4").run(cancels, canceled=canceled)
    assert time.monotonic() - when[0] < promised(1)
    assert threads_of_the_pipeline() == []


def test_an_encoder_that_cannot_start_is_said_and_nothing_hangs(samples: Samples, tmp_path: Path) -> None:
    pipeline = Pipeline(samples("long.mp4"), tmp_path / "output.mp4", "h264_nvenc")
    with pytest.raises(VidqueueError) as caught:
        pipeline.run()
    assert caught.value.code in ("encoder_unavailable", "ffmpeg_failed")
    assert threads_of_the_pipeline() == []


def test_a_source_with_a_hole_is_damaged_and_ends_in_order(samples: Samples, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    whole = bytearray(samples("plain.mp4").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 4000] = bytes(4000)
    broken.write_bytes(whole)
    with pytest.raises(VidqueueError, match="of 90 pictures") as caught:
        Pipeline(broken, tmp_path / "output.mp4").run()
    assert caught.value.code == "media_damaged"
    assert threads_of_the_pipeline() == []


def test_sound_is_copied_bit_by_bit(samples: Samples, tmp_path: Path) -> None:
    pipeline = Pipeline(samples("plain.mp4"), tmp_path / "output.mp4")
    pipeline.run()
    before, after = pipeline.facts.audio, probe(pipeline.output, Limits()).audio
    assert before == after
