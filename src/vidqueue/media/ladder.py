"""Encodes renditions for adaptive streaming in one jailed run, with key pictures at the same times."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, decoded_evenly, input_arguments
from vidqueue.media.encoders import ENCODERS, Effort
from vidqueue.media.facts import AudioFacts, SubtitleFacts, VideoFacts
from vidqueue.media.filters import output_time_base, standard_yuv, transparent_over
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sink import created
from vidqueue.media.source import Source
from vidqueue.media.steady import STEADY, steadied

# Each fragment has an index with its length. That decoding comes before showing stands in an edit list, as players know
# it from ffmpeg's own HLS.
_FRAGMENTED = "+dash+delay_moov+skip_trailer"
_CRF = 21
_AUDIO_KBIT = 160


@dataclass(frozen=True, slots=True)
class Rung:
    """One rendition of the picture: its name, its size in pixels, and the kbit a second that it does not exceed."""

    name: str
    size: tuple[int, int]
    most_kbit: int
    path: Path


@dataclass(frozen=True, slots=True)
class Ladder:
    """What to write: renditions of the picture, tracks of sound and of text with their files, and a segment's length.

    `late_s` is how long after the beginning of the file the first picture comes; it is shown from the beginning on.
    """

    rungs: Sequence[Rung]
    sounds: Sequence[tuple[AudioFacts, Path]]
    texts: Sequence[tuple[SubtitleFacts, Path]]
    segment_s: float
    effort: Effort
    late_s: float = 0.0

    @property
    def decoded(self) -> list[str]:
        """The streams that have the decoded samples of the sound tracks, as `output:stream`."""
        return [f"{len(self.rungs) + 2 * number}:0" for number in range(len(self.sounds))]


def write_ladder(
    source: Source,
    video: VideoFacts,
    ladder: Ladder,
    bounds: SandboxLimits,
    tally: ffmpeg.Tally,
    on_progress: ffmpeg.ProgressCallback,
) -> None:
    """Encode all renditions in one run; `tally` counts the decoded pictures.

    Raises:
        VidqueueError: the run failed.
        CanceledError: the event of `bounds` was set.
    """
    paths = [rung.path for rung in ladder.rungs] + [path for _, path in (*ladder.sounds, *ladder.texts)]
    _write(source, video, ladder, bounds, tally, on_progress)
    if tally.changed:
        for path in paths:
            path.unlink()
        tally.forget()
        _write(source, video, ladder, bounds, tally, on_progress, steady=True)


def _write(
    source: Source, video: VideoFacts, ladder: Ladder, bounds: SandboxLimits, tally: ffmpeg.Tally,
    on_progress: ffmpeg.ProgressCallback, *, steady: bool = False,
) -> None:  # fmt: skip
    # Behind the renditions come, of each sound track, its decoded samples and its file.
    first = len(ladder.rungs)
    outputs = [
        *((rung.path, _picture(number, rung, video, ladder)) for number, rung in enumerate(ladder.rungs)),
        *(
            (path, _sound(number, first + 2 * number, audio, ladder))
            for number, (audio, path) in enumerate(ladder.sounds)
        ),
        *((path, _text(text)) for text, path in ladder.texts),
    ]
    with ExitStack() as opened:
        file = opened.enter_context(source.opened())
        arguments = [*QUIET, *input_arguments(file, bounds.limits, *video.reading, *(STEADY if steady else ()))]
        arguments += ["-filter_complex", _filters(video, ladder, steady=steady)]
        keep = [file]
        for path, words in outputs:
            sink = opened.enter_context(created(path))
            keep.append(sink.writing)
            arguments += [
                *words, "-map_metadata", "-1", "-map_chapters", "-1", "-t", f"{bounds.limits.max_duration_s:.3f}",
                "-fd", str(sink.writing), "fd:",
            ]  # fmt: skip
        ffmpeg.run(arguments, bounds, keep_open=keep, tally=tally, on_progress=on_progress)


def _filters(video: VideoFacts, ladder: Ladder, *, steady: bool) -> str:
    labels = [f"[s{number}]" for number in range(len(ladder.rungs))]
    first = [
        *(steadied(video) if steady else []),
        transparent_over(video, "#000000", "alpha"),
        standard_yuv(video, ladder.rungs[0].size),
        r"setpts=if(eq(N\,0)\,0\,PTS)" if ladder.late_s else "",
        f"split={len(labels)}{''.join(labels)}",
    ]
    rest = [
        f"{label}scale={rung.size[0]}:{rung.size[1]}:flags=bicubic,setsar=1,format=yuv420p[v{number}]"
        for number, (label, rung) in enumerate(zip(labels, ladder.rungs, strict=True))
    ]
    return ";".join([f"[0:{video.index}]" + ",".join(filter(None, first)), *rest])


def _picture(number: int, rung: Rung, video: VideoFacts, ladder: Ladder) -> list[str]:
    return [
        "-map", f"[v{number}]", "-fps_mode", "passthrough", "-enc_time_base", str(output_time_base(video)),
        "-c:v", "libx264", *ENCODERS["libx264"].effort[ladder.effort], "-crf", str(_CRF),
        "-maxrate", f"{rung.most_kbit}k", "-bufsize", f"{rung.most_kbit * 2}k",
        # Key pictures at the times of segments and nowhere else, so that they agree in all renditions.
        "-g", "100000", "-sc_threshold", "0", "-flags", "+cgop",
        "-force_key_frames", f"expr:gte(t,n_forced*{ladder.segment_s:g})",
        "-movflags", f"{_FRAGMENTED}+frag_keyframe", "-f", "mp4",
    ]  # fmt: skip


def _sound(number: int, output: int, audio: AudioFacts, ladder: Ladder) -> list[str]:
    steps = "aresample=async=1:first_pts=0,aresample=48000,aformat=channel_layouts=stereo|mono"
    return [
        *decoded_evenly(audio, output=output),
        "-filter_complex", f"[dec:{number}]{steps}[a{number}]", "-map", f"[a{number}]",
        "-c:a", "aac", "-b:a", f"{_AUDIO_KBIT}k",
        "-frag_duration", str(round(ladder.segment_s * 1e6)), "-movflags", _FRAGMENTED, "-f", "mp4",
    ]  # fmt: skip


def _text(text: SubtitleFacts) -> list[str]:
    return ["-map", f"0:{text.index}", "-c:s", "webvtt", "-f", "webvtt"]
