"""Export on clips that we made: each clip in its place, to the picture, with its sound, its shape and its colours."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.daemon import Daemon, promised, until
from tests.media.clips import FOLDER, decoded_times, picture, run_ffmpeg
from tests.media.made_font import write_font
from tests.processors.test_cases import two_sizes
from tests.processors.work import facts_of, video_of
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.media.film import join
from vidqueue.media.film.subtitles import read_subtitles
from vidqueue.media.film.timeline import Length, exact_rate, place
from vidqueue.processors.base import Context
from vidqueue.processors.parts.film_settings import ComposeSettings
from vidqueue.processors.registry import find, parse
from vidqueue.progress import Progress

RATE = 8000
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)

Make = Callable[..., OutputDraft]


def export(
    workspace: Path,
    clips: list[dict[str, Any]],
    *,
    canceled: threading.Event | None = None,
    cache_dir: Path | None = None,
    limits: Limits | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    settings: ComposeSettings | None = None,
    **wishes: Any,
) -> OutputDraft:
    """What comes of a list of clips, run as an executor would."""
    processor = find("export")
    told = [{**clip, "media": str(clip["media"])} if "media" in clip else clip for clip in clips]
    params = parse(processor, {"clips": told, "effort": "fast", **wishes})
    workspace.mkdir(exist_ok=True)
    ctx = Context(
        {one.name: Path(one.reference) for one in processor.media(params)}, workspace, "cpu", limits or Limits(),
        on_progress, lambda _: None, canceled=canceled or threading.Event(), cache_dir=cache_dir,
        settings=settings,
    )  # fmt: skip
    (output,) = ctx.published(processor.run(params, ctx))
    assert [path.name for path in workspace.iterdir()] == [output.path.name], "nothing else is left behind"
    return output


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips of one colour each, with noise that is like no other clip's."""
    folder = tmp_path_factory.mktemp("clips")

    def made(name: str, pictures: str, *words: str | Path, sound: int | None = None, s: float = 2) -> Path:
        noise = f"anoisesrc=r=48000:seed={sound}:amplitude=0.3:d={s},lowpass=2000,lowpass=2000"
        heard = ["-f", "lavfi", "-i", noise] if sound is not None else []
        run_ffmpeg("-f", "lavfi", "-i", pictures, *heard, "-pix_fmt", "yuv420p", *words, folder / name)
        return folder / name

    plain = ("-c:v", "libx264", "-preset", "ultrafast")
    uneven = "color=blue:s=160x90:r=30:d=2,setpts=(N+0.5*eq(mod(N\\,3)\\,1))/30/TB"
    found = {
        "red": made("red.mp4", "color=red:s=160x90:r=25:d=2", *plain, "-c:a", "aac", sound=1),
        "green": made("green.mkv", "color=green:s=90x160:r=30000/1001:d=2", *plain, "-c:a", "libopus", sound=2),
        "blue": made("vfr.mp4", uneven, *plain, "-enc_time_base", "1/90000", "-fps_mode", "passthrough",
                     "-c:a", "aac", "-ac", "1", sound=3),
        "silent": made("silent.mov", "color=white:s=128x128:r=50:d=1", *plain),
        "still": made("still.png", "color=red:s=64x64", "-frames:v", "1", "-pix_fmt", "rgb24"),
        "steps": made("steps.mp4", "color=red:s=64x36:r=1:d=3,drawbox=c=green:t=fill:enable=eq(n\\,1),"
                      "drawbox=c=blue:t=fill:enable=eq(n\\,2)", *plain),
        # A square of 40 lines is 20 pixels wide where each pixel is twice as wide as high.
        "wide": made("wide.mp4", "color=black:s=80x90:r=25:d=1,drawbox=x=30:y=24:w=20:h=40:c=white:t=fill,setsar=2",
                     *plain, "-crf", "5"),
    }  # fmt: skip
    turned = folder / "turned.mov"
    run_ffmpeg("-display_rotation", "90", "-i", found["red"], "-c", "copy", turned)
    return found | {"turned": turned}


def colour(path: Path, frame: int, at: tuple[float, float] = (0.5, 0.5)) -> tuple[int, int, int]:
    shown = picture(path, at_frame=frame)
    red, green, blue = shown[int(shown.shape[0] * at[1]), int(shown.shape[1] * at[0])]
    return int(red), int(green), int(blue)


def is_near(found: tuple[int, ...], wanted: tuple[int, ...], within: int = 12) -> bool:
    return all(abs(a - b) <= within for a, b in zip(found, wanted, strict=True))


def heard(path: Path, begin_s: float = 0.0, length_s: float | None = None) -> Any:
    sound = run_ffmpeg("-i", path, "-map", "0:a:0", "-ac", "2", "-ar", str(RATE), "-f", "f32le", "-").stdout
    samples = np.frombuffer(sound, np.float32).reshape(-1, 2).mean(axis=1)
    end = None if length_s is None else round((begin_s + length_s) * RATE)
    return samples[round(begin_s * RATE) : end]


def lag_s(film: Path, at_s: float, clip: Path, from_s: float, length_s: float = 0.6) -> float:
    """How much later than wanted a clip's sound is heard in the film."""
    reach = 0.1
    wanted = heard(clip, from_s + reach, length_s - 2 * reach)
    found = heard(film, at_s, length_s)
    match = np.correlate(found, wanted, "valid")
    assert match.max() > 0.5 * float(wanted @ wanted), "another sound is there"
    return float(np.argmax(match)) / RATE - reach


def test_each_clip_is_in_its_place_with_its_sound(clips: dict[str, Path], tmp_path: Path) -> None:
    output = export(
        tmp_path / "work",
        [
            {"media": clips["red"], "start_s": 0.4, "end_s": 1.4},
            {"media": clips["green"], "transition": "crossfade", "transition_s": 0.4},
            {"media": clips["turned"], "end_s": 0.8},
            {"media": clips["silent"]},
            {"media": clips["still"], "duration_s": 0.7, "transition": "crossfade", "transition_s": 0.2},
            {"media": clips["blue"], "start_s": 1, "end_s": 1.8},
        ],
        fps=30,
        width=160,
        height=90,
        background="#808080",
    )  # fmt: skip
    facts = facts_of(output)
    seconds = 1 + 2 - 0.4 + 0.8 + 1 - 0.2 + 0.7 + 0.8
    assert video_of(facts).frames == round(seconds * 30)
    assert decoded_times(output.path, 0) == pytest.approx([n / 30 for n in range(round(seconds * 30))], abs=1e-6)
    assert facts.audio is not None
    assert facts.audio.duration_s == pytest.approx(seconds, abs=1 / 30)
    assert (facts.audio.sample_rate, facts.audio.channel_layout) == (48_000, "stereo")
    begins = [0, 0.6, 2.6, 3.4, 4.2, 4.9, 5.7]
    assert [one["start_s"] for one in output.facts["clips"]] == pytest.approx(begins[:-1], abs=1e-3)
    for number, shown in enumerate([RED, GREEN, RED, WHITE, RED, BLUE]):
        first = round(begins[number] * 30) + {1: 12, 4: 6}.get(number, 0)
        last = round(begins[number + 1] * 30) - 1
        assert is_near(colour(output.path, first), shown), (number, "first")
        assert is_near(colour(output.path, last), shown), (number, "last")
    middle = colour(output.path, 18 + 6)
    assert is_near(middle, (127, 64, 0), 20), "both are seen in the middle of a crossfade"
    for upright in (40, 90):
        assert is_near(colour(output.path, upright, (0.1, 0.5)), (128, 128, 128)), "bars at the sides"
    assert lag_s(output.path, 0, clips["red"], 0.4) == pytest.approx(0, abs=0.005)
    assert lag_s(output.path, 2.6, clips["red"], 0.0) == pytest.approx(0, abs=0.02)
    assert lag_s(output.path, 4.9, clips["blue"], 1.0) == pytest.approx(0, abs=0.02)
    assert np.abs(heard(output.path, 3.5, 1.3)).max() < 0.001, "a clip without sound is silent"


@pytest.mark.parametrize("fit", ["contain", "cover"])
def test_squares_stay_squares(clips: dict[str, Path], tmp_path: Path, fit: str) -> None:
    output = export(tmp_path / "work", [{"media": clips["wide"], "fit": fit}], width=200, height=200, quality="high")
    light = picture(output.path, at_frame=5).mean(axis=2) > 128
    wide, high = light.any(axis=0).sum(), light.any(axis=1).sum()
    assert abs(int(wide) - int(high)) <= 2
    scale = 200 / 160 if fit == "contain" else 200 / 90
    assert wide == pytest.approx(40 * scale, abs=2.5)


def test_the_size_is_that_of_the_first_clip_as_it_is_shown(clips: dict[str, Path], tmp_path: Path) -> None:
    wide = export(tmp_path / "a", [{"media": clips["wide"], "end_s": 0.2}])
    assert video_of(facts_of(wide)).upright == (160, 90)
    turned = export(tmp_path / "b", [{"media": clips["turned"], "end_s": 0.2}], height=80)
    video = video_of(facts_of(turned))
    assert (video.upright, video.sar, video.fps) == ((44, 80), Fraction(1), 25.0)


def test_a_long_picture_is_shown_where_a_trim_begins_in_its_middle(clips: dict[str, Path], tmp_path: Path) -> None:
    output = export(tmp_path / "work", [{"media": clips["steps"], "start_s": 0.5, "end_s": 2.5}], fps=10)
    shown = [colour(output.path, number) for number in (0, 4, 5, 14, 15, 19)]
    assert [is_near(a, b) for a, b in zip(shown, [RED, RED, GREEN, GREEN, BLUE, BLUE], strict=True)] == [True] * 6


def test_a_rate_far_below_the_source_keeps_its_only_pictures(clips: dict[str, Path], tmp_path: Path) -> None:
    told: list[dict[str, Any]] = [{"media": clips["still"], "duration_s": 1}, {"media": clips["silent"], "end_s": 0.6}]
    output = export(tmp_path / "work", [*told, {"media": clips["red"], "end_s": 1.4}], fps=1)
    assert video_of(facts_of(output)).frames == 3
    assert [is_near(colour(output.path, number), shown) for number, shown in enumerate((RED, WHITE, RED))] == [True] * 3


def test_a_video_whose_sound_begins_earlier_begins_with_its_first_picture(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    late = tmp_path / "late.mkv"
    run_ffmpeg(
        "-itsoffset", "0.5", "-i", clips["red"], "-i", clips["red"], "-map", "0:v", "-map", "1:a", "-c", "copy", late
    )  # fmt: skip
    whole = export(tmp_path / "whole", [{"media": late}], fps=25)
    assert video_of(facts_of(whole)).frames == 50
    assert lag_s(whole.path, 0, clips["red"], 0.5) == pytest.approx(0, abs=0.005)
    part = export(tmp_path / "part", [{"media": late, "end_s": 1}], fps=25)
    assert video_of(facts_of(part)).frames == 25
    assert lag_s(part.path, 0, clips["red"], 0) == pytest.approx(0, abs=0.03)


def test_a_fade_goes_through_black_and_costs_no_time(clips: dict[str, Path], tmp_path: Path) -> None:
    told = [{"media": clips[name], "transition": "fade", "transition_s": 0.4} for name in ("red", "blue")]
    output = export(tmp_path / "work", told, fps=25)
    assert video_of(facts_of(output)).frames == 100
    for black in (0, 50):
        assert is_near(colour(output.path, black), (0, 0, 0), 20)
    assert is_near(colour(output.path, 25), RED)
    assert is_near(colour(output.path, 75), BLUE)
    assert 80 < colour(output.path, 45)[0] < 180
    assert np.abs(heard(output.path, 1.99, 0.02)).max() < 0.05
    assert np.abs(heard(output.path, 1, 0.2)).max() > 0.05


@pytest.mark.parametrize("container", ["mov", "mkv", "webm"])
def test_other_containers_are_as_exact(clips: dict[str, Path], tmp_path: Path, container: str) -> None:
    told = [{"media": clips["red"], "end_s": 0.44}, {"media": clips["blue"], "end_s": 0.52, "transition": "crossfade",
                                                     "transition_s": 0.04}]  # fmt: skip
    output = export(tmp_path / "work", told, container=container, fps=29.97)
    facts = facts_of(output)
    assert output.path.suffix == f".{container}"
    assert video_of(facts).frames == round(0.92 * 30000 / 1001)
    assert facts.audio is not None
    assert facts.audio.duration_s == pytest.approx(0.92, abs=0.035)


def test_more_pieces_than_one_run_can_open_are_joined_in_steps(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "MOST_AT_ONCE", 2)
    told = [{"media": clips[name], "end_s": 0.1} for name in ("red", "blue", "silent", "green", "red")]
    output = export(tmp_path / "work", told, fps=30, width=64, height=36)
    assert decoded_times(output.path, 0) == pytest.approx([n / 30 for n in range(15)], abs=1e-6)
    shown = [colour(output.path, 3 * number + 1) for number in range(5)]
    assert [is_near(a, b) for a, b in zip(shown, [RED, BLUE, WHITE, GREEN, RED], strict=True)] == [True] * 5


def test_quality_and_stages_are_told(clips: dict[str, Path], tmp_path: Path) -> None:
    seen: list[Progress] = []
    told = [{"media": clips["red"]}, {"media": clips["silent"]}]
    export(tmp_path / "work", told, on_progress=seen.append)
    assert list(dict.fromkeys(one.stage for one in seen)) == ["probe", "render", "join", "check"]
    fractions = [one.fraction for one in seen]
    assert fractions == sorted(fractions)
    assert seen[-1].fraction < 1


def test_a_cancel_ends_it_at_once(clips: dict[str, Path], tmp_path: Path) -> None:
    canceled = threading.Event()
    asked: list[float] = []

    def cancel(progress: Progress) -> None:
        if progress.stage == "render" and not asked:
            asked.append(time.monotonic())
            canceled.set()

    told = [{"media": clips["red"]}] * 40
    with pytest.raises(CanceledError):
        export(tmp_path / "work", told, canceled=canceled, on_progress=cancel, width=1920, height=1080)
    assert time.monotonic() - asked[0] < promised(2)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ([{"transition": "crossfade"}], "invalid_params"),
        ([{"start_s": 2, "end_s": 1}], "invalid_params"),
        ([{"duration_s": 2, "end_s": 1}], "invalid_params"),
        ([{"duration_s": 2}], "invalid_params"),
        ([{"text": "both"}], "invalid_params"),
        ([{}, {"media": "still", "end_s": 1}], "invalid_params"),
        ([{"start_s": 5}], "trim_out_of_range"),
        ([{}, {"end_s": 9}], "trim_out_of_range"),
        ([{"end_s": 0.3}, {"transition": "crossfade", "end_s": 1}], "invalid_params"),
    ],
    ids=str,
)
def test_lists_that_cannot_be_made_are_refused(
    clips: dict[str, Path], tmp_path: Path, told: list[dict[str, Any]], code: str
) -> None:
    with pytest.raises(VidqueueError) as caught:
        export(tmp_path / "work", [{**one, "media": clips[one.get("media", "red")]} for one in told])
    assert caught.value.code == code


@pytest.mark.parametrize("wishes", [{"width": 33}, {"height": 0}, {"fps": 0}, {"background": "red"}], ids=str)
def test_sizes_and_colours_are_checked_at_submission(clips: dict[str, Path], wishes: dict[str, Any]) -> None:
    with pytest.raises(VidqueueError) as caught:
        parse(find("export"), {"clips": [{"media": str(clips["red"])}], **wishes})
    assert caught.value.code == "invalid_params"
    assert "/input/" in caught.value.message


def test_many_roundings_do_not_add_up() -> None:
    rate = exact_rate(29.97)
    assert rate == Fraction(30000, 1001)
    lengths = [Length(Fraction("0.35"))] + [Length(Fraction("0.35"), "crossfade", Fraction("0.11"))] * 499
    placed = place(lengths, rate)
    assert abs(placed[-1].end - (0.35 + 499 * 0.24) * rate) <= 1
    for before, after in itertools.pairwise(placed):
        assert before.end - after.first == before.after == after.before


@pytest.mark.parametrize(("told", "rate"), [(23.976, "24000/1001"), (25, "25"), (59.94, "60000/1001"), (12.5, "25/2"),
                                            (29.983, "30000/1001"), (27.521, "27521/1000"), (1, "1")])  # fmt: skip
def test_a_rate_means_the_usual_one_that_is_near(told: float, rate: str) -> None:
    assert exact_rate(told) == Fraction(rate)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Music is a tone of 440 Hz and one second, a voice one of 1500 Hz, both of amplitude 0.5 in one channel."""
    folder = tmp_path_factory.mktemp("tones")
    for name, hertz, seconds in (("music.wav", 440, 1), ("voice.mp3", 1500, 1)):
        run_ffmpeg("-f", "lavfi", "-i", f"aevalsrc=0.5*sin({hertz}*2*PI*t):d={seconds}:s=48000", folder / name)
    return {path.stem: path for path in folder.iterdir()}


def level(path: Path, hertz: int, begin_s: float, length_s: float = 0.2) -> float:
    """The amplitude of a tone in a part of the sound."""
    part = heard(path, begin_s, length_s)
    waves = np.exp(-2j * np.pi * hertz * np.arange(len(part)) / RATE)
    return float(np.abs((part * waves).mean()) * 2)


def test_music_loops_goes_down_under_a_voice_and_fades_out(
    clips: dict[str, Path], tones: dict[str, Path], tmp_path: Path
) -> None:
    told = [{"media": clips["still"], "duration_s": 5}]
    voice = [{"media": str(tones["voice"]), "start_s": 1.5, "volume": 0.6}]
    music = {"media": str(tones["music"]), "volume": 0.4, "fade_out_s": 1}
    output = export(tmp_path / "work", told, fps=10, music=music, voice=voice)
    assert level(output.path, 440, 0.5) == pytest.approx(0.2, rel=0.1)
    assert level(output.path, 440, 1.2) == pytest.approx(0.2, rel=0.1), "it has begun again"
    assert level(output.path, 440, 1.8, 0.6) == pytest.approx(0.2 / 4, rel=0.2), "12 dB less under the voice"
    assert level(output.path, 440, 3.5) == pytest.approx(0.2, rel=0.1), "and back"
    assert level(output.path, 440, 4.45, 0.1) == pytest.approx(0.1, rel=0.2)
    assert level(output.path, 440, 4.95, 0.05) < 0.02
    assert level(output.path, 1500, 1.3, 0.15) < 0.01
    assert level(output.path, 1500, 1.8, 0.6) == pytest.approx(0.3, rel=0.1)
    assert level(output.path, 1500, 2.7) < 0.01


def test_music_that_does_not_loop_ends_and_one_that_does_not_duck_stays(
    clips: dict[str, Path], tones: dict[str, Path], tmp_path: Path
) -> None:
    told = [{"media": clips["still"], "duration_s": 2}]
    music = {"media": str(tones["music"]), "volume": 1, "loop": False, "duck": False, "fade_out_s": 0.2}
    voice = [{"media": str(tones["voice"]), "start_s": 0}, {"media": str(tones["voice"]), "start_s": 1.5}]
    output = export(tmp_path / "work", told, fps=10, music=music, voice=voice)
    assert level(output.path, 440, 0.3, 0.4) == pytest.approx(0.5, rel=0.1)
    assert level(output.path, 440, 0.85, 0.1) == pytest.approx(0.25, rel=0.3)
    assert level(output.path, 440, 1.1) < 0.01
    assert output.facts["warnings"] == ["Voice 1 is cut off: the film ends before it."]
    assert facts_of(output).audio.duration_s == pytest.approx(2, abs=0.1)  # type: ignore[union-attr]


def test_music_goes_down_under_clips_that_speak(clips: dict[str, Path], tones: dict[str, Path], tmp_path: Path) -> None:
    told: list[dict[str, Any]] = [{"media": clips["red"]}, {"media": clips["red"], "volume": 0}]
    music = {"media": str(tones["music"]), "volume": 0.5, "fade_out_s": 0}
    output = export(tmp_path / "work", told, fps=10, music=music)
    assert level(output.path, 440, 0.5, 1) == pytest.approx(0.25 / 4, rel=0.4)
    assert level(output.path, 440, 3.2, 0.5) == pytest.approx(0.25, rel=0.1)


def test_sound_that_is_too_loud_is_bent_and_not_cut_off(
    clips: dict[str, Path], tones: dict[str, Path], tmp_path: Path
) -> None:
    voice = [{"media": str(tones["voice"]), "volume": 2}, {"media": str(tones["music"]), "volume": 2}]
    output = export(tmp_path / "work", [{"media": clips["still"], "duration_s": 1}], fps=10, voice=voice)
    assert np.abs(heard(output.path, 0.2, 0.6)).max() < 1.2


@pytest.mark.parametrize("place", ["music", "voice"])
def test_music_and_voices_need_sound(clips: dict[str, Path], tmp_path: Path, place: str) -> None:
    silent = {"media": str(clips["silent"])}
    wishes: dict[str, Any] = {place: silent if place == "music" else [silent]}
    with pytest.raises(VidqueueError, match=r"[Mm]usic|Voice 0") as caught:
        export(tmp_path / "work", [{"media": clips["red"]}], **wishes)
    assert caught.value.code == "no_audio_stream"


@pytest.fixture(scope="module")
def srt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "said.srt"
    path.write_text("1\n00:00:00,700 --> 00:00:01,300\nOver two clips\n\n2\n00:00:01,500 --> 00:00:09,000\nLate\n")
    return path


def letters(path: Path, frame: int) -> bool:
    """Whether something white stands in the lower part of a blue picture."""
    low = picture(path, at_frame=frame)[-60:].astype(int)
    return bool((low[:, :, 0] > 180).any())


def test_subtitles_are_drawn_at_their_times_over_the_ends_of_clips(
    clips: dict[str, Path], srt: Path, tmp_path: Path
) -> None:
    told = [{"media": clips["blue"], "end_s": 1}, {"media": clips["blue"], "end_s": 1}]
    output = export(tmp_path / "work", told, fps=30, width=320, height=180, subtitles=str(srt), quality="high")
    shown = {frame: letters(output.path, frame) for frame in (0, 20, 21, 29, 30, 38, 39, 44, 45, 59)}
    assert [frame for frame, there in shown.items() if there] == [21, 29, 30, 38, 45, 59]
    assert facts_of(output).subtitles == 0


@pytest.mark.parametrize(
    ("encoding", "guessed"),
    [("utf-8", False), ("utf-16", False), ("utf-16-le", False), ("cp1252", True), ("koi8-r", True)],
)
def test_a_guessed_encoding_of_subtitles_is_told(
    clips: dict[str, Path], tmp_path: Path, encoding: str, guessed: bool
) -> None:
    words = "Привет" if encoding == "koi8-r" else "Grüße"
    (tmp_path / "said.srt").write_bytes(f"1\n00:00:00,100 --> 00:00:00,200\n{words}\n".encode(encoding))
    told = [{"media": clips["still"], "duration_s": 0.2}]
    output = export(tmp_path / "work", told, subtitles=str(tmp_path / "said.srt"))
    assert ["Windows-1252" in warning for warning in output.facts["warnings"]] == [True] * guessed


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm"])
def test_subtitles_in_a_track_of_their_own(clips: dict[str, Path], srt: Path, tmp_path: Path, container: str) -> None:
    told = [{"media": clips["blue"]}]
    output = export(
        tmp_path / "work", told, width=64, height=36, subtitles=str(srt), subtitle_mode="mux", container=container
    )
    assert facts_of(output).subtitles == 1
    assert facts_of(output).duration_s == pytest.approx(2, abs=0.05)
    said = run_ffmpeg("-i", output.path, "-map", "0:s:0", "-f", "srt", "-").stdout.decode()
    assert "00:00:00,700 --> 00:00:01,300\nOver two clips" in said
    assert "00:00:01,500 --> 00:00:02,0" in said, "what the film is too short for is cut off"
    assert not letters(output.path, 25)


def test_a_title_card_has_its_text_in_the_middle(clips: dict[str, Path], tmp_path: Path) -> None:
    told = [{"text": "Hello {world}", "duration_s": 0.5}, {"media": clips["red"], "end_s": 0.5}]
    output = export(tmp_path / "work", told, width=320, height=180, background="#104080")
    assert video_of(facts_of(output)).frames == 25
    shown = picture(output.path, at_frame=6).astype(int)
    assert is_near(tuple(shown[5, 5]), (16, 64, 128))
    assert (shown[70:110, 60:260, 0] > 180).any()
    assert not (shown[:60, :, 0] > 100).any()
    assert is_near(colour(output.path, 20), RED)
    cards = export(tmp_path / "cards", [{"text": "Only words", "duration_s": 0.2}])
    assert video_of(facts_of(cards)).upright == (1280, 720)


@pytest.mark.parametrize("in_collection", [False, True])
def test_text_is_drawn_with_the_font_of_the_configuration(tmp_path: Path, in_collection: bool) -> None:
    settings = ComposeSettings(
        font_file=str(write_font(tmp_path / "han.ttc", "Han Test", {"漢": "A", "字": "B"}, in_collection=in_collection))
    )

    def card(name: str, text: str, with_font: ComposeSettings | None) -> tuple[Any, list[str]]:
        output = export(tmp_path / name, [{"text": text, "duration_s": 0.1}], width=160, height=90, settings=with_font)
        return picture(output.path, at_frame=1).astype(int), output.facts["warnings"]

    latin, _ = card("latin", "B\u2060A é", None)
    # The letters that it has are of this font, and the others of the one that is packaged.
    drawn, warnings = card("drawn", "字\u2060漢 é", settings)
    assert np.abs(drawn - latin).max() < 80
    assert warnings == []
    boxes, (warning,) = card("boxes", "字漢 é", None)
    assert np.abs(boxes - latin).max() > 150
    assert "字 漢." in warning
    assert "compose.font_file" in warning


@pytest.mark.parametrize("text", ["字" * 40, "x" * 60, "see 字" + "字" * 40 + " there"])
def test_text_without_spaces_stays_in_the_picture(tmp_path: Path, text: str) -> None:
    output = export(tmp_path / "work", [{"text": text, "duration_s": 0.1}], width=320, height=180)
    shown = picture(output.path, at_frame=1).max(axis=(0, 2))
    assert shown[:10].max() < 40
    assert shown[-10:].max() < 40
    assert shown[30:-30].max() > 200


@pytest.mark.parametrize("data", [None, b"", b"no font", b"\0\1\0\0" + b"\xff" * 50])
def test_a_file_that_is_no_font_is_told(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "font.ttf"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(VidqueueError, match=r"font\.ttf cannot be used") as caught:
        export(tmp_path / "work", [{"text": "a"}], settings=ComposeSettings(font_file=str(path)))
    assert caught.value.code == "processor_unavailable"


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_subtitles_that_overlap_keep_their_times_in_a_track(
    clips: dict[str, Path], tmp_path: Path, container: str
) -> None:
    said = "1\n00:00:00,200 --> 00:00:01,000\nfirst\n\n2\n00:00:00,800 --> 00:00:01,500\nsecond\n"
    (tmp_path / "said.srt").write_bytes((said + "\n3\n00:01:00 --> 00:01:01\nlate\n").encode("utf-16-le"))
    wishes: dict[str, Any] = {"container": container, "subtitles": str(tmp_path / "said.srt"), "subtitle_mode": "mux"}
    output = export(tmp_path / "work", [{"media": clips["red"]}], **wishes)
    back = read_subtitles(run_ffmpeg("-i", output.path, "-map", "0:s", "-f", "srt", "-").stdout)
    for word, times in {"first": (0.2, 1.0), "second": (0.8, 1.5)}.items():
        shown = [cue for cue in back if word in cue.text]
        assert (shown[0].start_s, shown[-1].end_s) == pytest.approx(times, abs=0.002)
    (warning,) = output.facts["warnings"]
    assert "1 of 3 subtitles are not shown" in warning


def test_a_changed_clip_renders_only_its_own_pieces_again(clips: dict[str, Path], tmp_path: Path) -> None:
    names = ("red", "blue", "silent", "green")
    told: list[dict[str, Any]] = [{"media": clips[name], "end_s": 0.8} for name in names]
    told[3]["transition"] = "crossfade"
    look: dict[str, Any] = {"fps": 30, "width": 64, "height": 36, "cache_dir": tmp_path / "cache"}
    first = export(tmp_path / "first", told, **look)
    assert first.facts["pieces"] == {"rendered": 5, "reused": 0}
    # The same bytes under another name, and another part of one clip.
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips["red"].read_bytes())
    changed = [{**told[0], "media": copy}, {**told[1], "start_s": 0.4, "end_s": 1.2}, *told[2:]]
    second = export(tmp_path / "second", changed, **look)
    assert second.facts["pieces"] == {"rendered": 1, "reused": 4}
    alone = export(tmp_path / "alone", changed, fps=30, width=64, height=36)
    assert packets_of(second.path) == packets_of(alone.path), "byte for byte the same pictures"
    other = export(tmp_path / "other", told, **(look | {"quality": "low"}))
    assert other.facts["pieces"]["reused"] == 0


def packets_of(path: Path) -> bytes:
    return run_ffmpeg("-i", path, "-map", "0:v", "-c", "copy", "-f", "framecrc", "-").stdout


def test_the_cache_of_pieces_is_bounded_and_may_be_lost(clips: dict[str, Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    told: list[dict[str, Any]] = [{"media": clips[name]} for name in ("red", "blue", "green")]
    export(tmp_path / "a", told, width=640, height=360, quality="high", cache_dir=cache)
    kept = list((cache / "film").iterdir())
    assert len(kept) == 3
    for path in kept:
        path.unlink()
    again = export(tmp_path / "b", told, width=640, height=360, quality="high", cache_dir=cache)
    assert again.facts["pieces"]["reused"] == 0
    noise = tmp_path / "noise.mp4"
    run_ffmpeg(
        "-f", "lavfi", "-i", "nullsrc=s=640x360:d=3,geq=random(1)*255:128:128", "-c:v", "libx264", "-preset",
        "ultrafast", "-crf", "20", noise,
    )  # fmt: skip
    one = Limits(film_cache_mib=1)
    export(tmp_path / "c", [{"media": noise}], quality="high", cache_dir=cache, limits=one)
    assert sum(path.stat().st_size for path in (cache / "film").iterdir()) <= 1024 * 1024
    none = export(tmp_path / "d", told, cache_dir=tmp_path / "none", limits=Limits(film_cache_mib=0))
    assert none.facts["pieces"]["reused"] == 0
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("export") / "data").start()
    yield started
    started.stop()


def test_a_daemon_makes_films_of_uploads_and_uses_pieces_again(daemon: Daemon, clips: dict[str, Path]) -> None:
    def upload(name: str) -> str:
        files = {"file": (clips[name].name, clips[name].read_bytes())}
        return f"vq:files/{daemon.http.post('/v1/files', files=files).json()['id']}"

    for volume, rendered in ((1, 3), (0.5, 0)):
        # Uploaded again: the bytes count, not the file.
        told = [{"media": upload("red"), "end_s": 1}, {"media": upload("green"), "end_s": 1, "volume": volume}]
        told[1] |= {"transition": "crossfade", "transition_s": 0.5}
        job = daemon.ended(daemon.submit("export", clips=told, fps=30, effort="fast", width=64, height=36))
        assert job["state"] == "succeeded", job
        (output,) = job["outputs"]
        assert output["name"] == "video"
        assert output["facts"]["video"]["frames"] == 45
        assert output["facts"]["pieces"] == {"rendered": rendered, "reused": 3 - rendered}
    until(lambda: not any((daemon.data_dir / "work").iterdir()), what="its workspace is gone")


def test_what_a_daemon_is_told_too_little_to_compose_is_refused(daemon: Daemon, clips: dict[str, Path]) -> None:
    body = {"processor": "compose", "input": {"script": "Words.", "materials": [str(clips["red"])]}}
    answer = daemon.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_params")
    assert "speech_command" in answer.json()["detail"]


@pytest.mark.media
def test_real_clips_of_every_kind_make_one_exact_film(tmp_path: Path) -> None:
    if not FOLDER.exists():
        pytest.skip(f"no shared media at {FOLDER}")
    told: list[dict[str, Any]] = [
        {"media": "friday_dialogue.mp4", "end_s": 1},
        {"media": "rotated_phone.mp4", "start_s": 1, "end_s": 2},
        {"media": "screen_vfr.mkv", "start_s": 3, "end_s": 4},
        {"media": "talk_vertical_hevc.mp4", "end_s": 1},
        {"media": "pcm_1080p50.mov", "end_s": 1},
        {"media": "flower_silent_track.mp4", "start_s": 1, "end_s": 2},
        {"media": "portrait_painting.jpg", "duration_s": 1},
        {"media": "vfr_hevc10_hdr.mp4", "end_s": 1},
        {"media": "narration_720p.mp4", "start_s": 5, "end_s": 6},
    ]
    told = [{**one, "media": FOLDER / one["media"], "transition": "crossfade" if number else "cut",
             "transition_s": 0.2} for number, one in enumerate(told)]  # fmt: skip
    output = export(tmp_path / "work", told, width=320, height=180, fps=30)
    assert video_of(facts_of(output)).frames == round((9 - 8 * 0.2) * 30)
    uncut = export(tmp_path / "cut", [{**one, "transition": "cut"} for one in told], width=320, height=180, fps=30)
    for number, one in enumerate(told):
        here = picture(output.path, at_frame=round((0.8 * number + 0.5) * 30))
        there = picture(uncut.path, at_frame=30 * number + 15)
        assert np.abs(here.astype(int) - there.astype(int)).mean() < 4, one
    assert abs(lag_s(output.path, 0, told[0]["media"], 0)) <= 0.04
    assert abs(lag_s(output.path, 6.6, told[-1]["media"], 5.2)) <= 0.04


def test_a_clip_whose_pictures_change_their_size_midway_is_whole(tmp_path: Path) -> None:
    """ffmpeg begins its filters anew there, and those that count pictures begin to count again."""
    path = two_sizes(tmp_path)
    film = export(tmp_path / "film", [{"media": path}])
    assert (len(decoded_times(film.path, 0)), video_of(facts_of(film)).frames) == (50, 50)
    assert film.facts["warnings"] == [
        "Clip 0: The size of the pictures changes midway to 320x180; they have that of the first."
    ]
    for name, number, in_film in (("one.ts", 10, 10), ("two.ts", 15, 40)):
        one = picture(tmp_path / name, at_frame=number, size=(64, 36))
        other = picture(film.path, at_frame=in_film, size=(64, 36))
        assert np.abs(one.astype(int) - other).mean() < 6
