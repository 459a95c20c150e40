"""Reading what a running ffmpeg says, and the promise about files it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.clips import Samples, run_ffmpeg
from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments, output_arguments
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.faults import failure_of
from vidqueue.media.jail.lines import Line
from vidqueue.media.jail.sandbox import Ended, SandboxLimits
from vidqueue.media.sink import created
from vidqueue.media.source import check_source

READER = "[vist#0:{}/h264 @ 0x55] "
VERBOSE = (
    ("[h264 @ 0x55] ", "[error] ", "error while decoding MB 0 8, bytestream 5104\n"),
    (READER.format(1), "[dec:h264 @ 0x56] ", "[warning] ", "corrupt decoded frame\n"),
    (READER.format(3), "[dec:h264 @ 0x56] ", "[warning] ", "corrupt decoded frame\n"),
    (
        "[out#0/mp4 @ 0x55] ", "[verbose] ", "  Output stream #0:0 (video): ", "48 frames encoded", "; ",
        "48 packets muxed (85248000 bytes); ", "\n",
    ),
    (
        "[in#0/mov @ 0x55] ", "[verbose] ", "  Input stream #0:0 (audio): ", "9 packets read (9 bytes); ",
        "9 frames decoded; 0 decode errors", "; ", "\n",
    ),
    (
        "[in#0/mov @ 0x55] ", "[verbose] ", "  Input stream #0:1 (video): ", "50 packets read (9 bytes); ",
        "49 frames decoded; 1 decode errors", "; ", "\n",
    ),
)  # fmt: skip
COUNTED = ffmpeg.Tally(
    "0:1", 50, 49, 1, 1, 48, [("error", "error while decoding MB 0 8, bytestream 5104")], others={"0:0": (9, 0)}
)  # fmt: skip


def tally_of(*lines: tuple[str, ...]) -> ffmpeg.Tally:
    tally = ffmpeg.Tally(stream="0:1")
    for parts in lines:
        tally.read(Line.of(*parts))
    return tally


def test_the_tally_counts_the_stream_it_was_told_to() -> None:
    assert tally_of(*VERBOSE) == COUNTED


def test_words_of_the_file_are_not_counted() -> None:
    lie = "[in#0/mov @ 0x55] [verbose]   Input stream #0:1 (video): 9 packets read; 9 frames decoded; 9 decode errors; "
    forged = [
        ("[info] ", "  Stream #0", ":0", f"(\n{lie}\n)", ": Video: h264", "\n"),
        ("[info] ", f"    \n{lie}\n  : ", lie, "\n"),
        ("[info] ", "    title    : ", "[vist#0:1/h264 @ 0x55] [warning] corrupt decoded frame", "\n"),
    ]
    assert tally_of(*VERBOSE, *forged) == COUNTED


def test_remarks_are_bounded() -> None:
    assert len(tally_of(*[("[h264 @ 0x55] ", "[error] ", "again\n")] * 1000).remarks) == 40


def test_progress_comes_in_whole_reports() -> None:
    lines = ["frame=10", "fps=25.5", "out_time_us=400000", "speed=1.5x", "progress=continue", "frame=11"]
    assert list(ffmpeg.read_progress(lines)) == [ffmpeg.Seen(10, 0.4, 25.5, 1.5)]


def test_progress_before_the_first_picture_is_zero() -> None:
    lines = ["frame=0", "out_time_us=N/A", "speed=N/A", "progress=continue"]
    assert list(ffmpeg.read_progress(lines)) == [ffmpeg.Seen()]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("Error writing trailer: No space left on device", "no_space"),
        ("x264 [error]: malloc of size 12 failed: Cannot allocate memory", "out_of_memory"),
        ("[in#0 @ 0x] Codec (magicyuv) not on whitelist", "unsupported_codec"),
        ("[in#0 @ 0x] Format not on whitelist 'mov'", "unsupported_format"),
        ("Picture size 60000x60000 exceeds specified max pixel count 1", "media_too_large"),
        ("[h264_nvenc @ 0x] Cannot load libcuda.so.1", "encoder_unavailable"),
        ("something nobody has seen before", "ffmpeg_failed"),
    ],
)
def test_last_words_become_a_stable_code(words: str, code: str) -> None:
    assert failure_of(Ended(1, "itself", ("first line", words))).code == code


@pytest.mark.parametrize(
    ("said", "told"),
    [
        # As ffmpeg 9.0.2 says it beside the drivers 580 and 470, and beside none.
        (
            "Driver does not support the required nvenc API version. Required: 13.1 Found: 13.0\n"
            "The minimum required Nvidia driver for nvenc is 610.00 or newer",
            "The NVIDIA driver is too old for this ffmpeg: "
            "it has NVENC 13.0, and 13.1 is needed (driver 610.00 or newer).",
        ),
        (
            "Driver does not support the required nvenc API version. Required: 13.1 Found: 11.1",
            "The NVIDIA driver is too old for this ffmpeg: it has NVENC 11.1, and 13.1 is needed.",
        ),
        (
            "Cannot load libnvidia-encode.so.1",
            "The library libnvidia-encode.so.1 of the NVIDIA driver cannot be loaded.",
        ),
        ("No capable devices found", "No GPU has this encoder."),
        (
            "OpenEncodeSessionEx failed: incompatible client key (21): (no details)",
            "The GPU gives no encoding session: incompatible client key.",
        ),
    ],
)
def test_why_an_encoder_of_the_gpu_does_not_work_is_told(said: str, told: str) -> None:
    cause = [f"[h264_nvenc @ 0x55f2e67b7e80] [error] {line}" for line in said.splitlines()]
    effect = "[enc:h264_nvenc @ 0x55f2e67b7e00] [error] Error while opening encoder - maybe incorrect parameters"
    error = failure_of(Ended(218, "itself", (*cause, effect)))
    assert (error.code, error.message) == ("encoder_unavailable", told)


def test_a_kill_that_nobody_here_sent_is_taken_for_memory() -> None:
    assert failure_of(Ended(-9, "itself", ())).code == "out_of_memory"


@pytest.mark.parametrize("name", ["mp4", "mov", "mkv", "webm"])
def test_a_file_written_through_descriptors_plays_from_start_to_end(
    name: str, samples: Samples, tmp_path: Path
) -> None:
    container, output = CONTAINERS[name], tmp_path / f"output.{name}"  # type: ignore[index]
    codecs = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"] if name == "webm" else ["-c", "copy"]
    with check_source(samples("plain.mp4")).opened() as file, created(output) as sink:
        arguments = [
            *QUIET,
            *input_arguments(file, Limits()),
            *codecs,
            *output_arguments(sink.writing, container, Limits()),
        ]
        ffmpeg.run(arguments, SandboxLimits(Limits(), 60), keep_open=[file, sink.writing], stdin=sink.reading)
    played = run_ffmpeg("-v", "error", "-xerror", "-i", output, "-f", "null", "-")
    assert played.stderr == b""


def test_the_index_of_an_mp4_comes_first(samples: Samples) -> None:
    assert samples("plain.mp4").read_bytes().find(b"moov") < 100


def test_a_full_disk_is_no_space(samples: Samples) -> None:
    with check_source(samples("plain.mp4")).opened() as file, Path("/dev/full").open("wb") as full:
        arguments = [
            *QUIET,
            *input_arguments(file, Limits()),
            "-c",
            "copy",
            "-f",
            "matroska",
            "-fd",
            str(full.fileno()),
            "fd:",
        ]
        with pytest.raises(VidqueueError) as caught:
            ffmpeg.run(arguments, SandboxLimits(Limits(), 60), keep_open=[file, full.fileno()])
    assert caught.value.code == "no_space"


def test_the_version_is_known() -> None:
    assert ffmpeg.ffmpeg_version().startswith("n")
