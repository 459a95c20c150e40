"""Compose on narrations and materials that we made: the length of the voice, its words in time, parts in order."""

from __future__ import annotations

import http.server
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.daemon import promised
from tests.media.clips import FOLDER, picture, run_ffmpeg
from tests.processors.work import facts_of, video_of
from vidqueue.errors import CanceledError, VidqueueError, WaitingError
from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.media.film.speech import Span, phrases_of, spoken_spans, timed
from vidqueue.media.film.subtitles import read_subtitles
from vidqueue.media.film.timeline import Length, Transition, place
from vidqueue.processors.base import Context
from vidqueue.processors.compose import Compose
from vidqueue.processors.parts.compose_params import ComposeParams
from vidqueue.processors.parts.film_settings import ComposeSettings
from vidqueue.processors.parts.montage import Scene, filled, transition_s
from vidqueue.processors.registry import parse
from vidqueue.progress import LogLine, Progress
from vidqueue.storage.reserved import ReservedSpace

SCRIPT = "One two three. Four five six, seven eight. Nine!"
# When the voice of the fixture speaks, in seconds.
SPOKEN = [(0.2, 1.0), (1.4, 2.6), (3.0, 3.3)]
LENGTH_S = 3.6
COPY = "import shutil, sys; shutil.copy(*sys.argv[1:])"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"9:16": (108, 192), "16:9": (192, 108), "1:1": (128, 128)}
    for module in ("montage", "composed_films"):
        monkeypatch.setattr(f"vidqueue.processors.parts.{module}.SIZES", sizes)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("materials")
    speaks = "+".join(f"between(t,{begin},{end})" for begin, end in SPOKEN)
    recipes: dict[str, list[str]] = {
        "voice.wav": [f"aevalsrc='0.4*sin(300*2*PI*t)*({speaks})+0.001*random(0)':d={LENGTH_S}:s=48000"],
        "music.mp3": ["sine=880:d=1"],
        "red.mp4": ["color=red:s=192x108:r=25:d=2.3", "-pix_fmt", "yuv420p"],
        "blue.mp4": ["color=blue:s=108x192:r=30:d=1", "-pix_fmt", "yuv420p"],
        "green.png": ["color=green:s=64x64", "-frames:v", "1"],
    }
    for name, words in recipes.items():
        run_ffmpeg("-f", "lavfi", "-i", *words, folder / name)
    return {path.stem: path for path in folder.iterdir()}


def composed(
    workspace: Path, config: ComposeSettings | None = None, canceled: threading.Event | None = None, **wishes: Any
) -> tuple[dict[str, OutputDraft], list[Progress], list[LogLine]]:
    processor = Compose(config or ComposeSettings())
    params = cast("ComposeParams", parse(processor, {"effort": "fast", **wishes}))
    workspace.mkdir(exist_ok=True)
    seen: list[Progress] = []
    said: list[LogLine] = []
    ctx = Context(
        {one.name: Path(one.reference) for one in processor.media(params)}, workspace, "cpu", Limits(), seen.append,
        said.append, settings=processor.config, canceled=canceled or threading.Event(),
    )  # fmt: skip
    return {one.name: one for one in processor.run(params, ctx)}, seen, said


def shown(path: Path, frame: int) -> str:
    """The name of the colour in the middle of a picture."""
    picked = picture(path, at_frame=frame)
    red, green, blue = picked[picked.shape[0] // 2, picked.shape[1] // 2].astype(int)
    return max(("red", red), ("green", green + 60), ("blue", blue), key=lambda one: one[1])[0]


def test_a_film_is_as_long_as_its_narration_and_says_it_in_time(files: dict[str, Path], tmp_path: Path) -> None:
    found, seen, _ = composed(
        tmp_path / "work", audio=str(files["voice"]), script=SCRIPT, music=str(files["music"]), clip_s=1,
        materials=[str(files[name]) for name in ("red", "blue", "green")], order="sequential", seed=7,
    )  # fmt: skip
    assert list(found) == ["final_1", "combined_1", "subtitles"]
    for name in ("final_1", "combined_1"):
        facts = facts_of(found[name])
        assert video_of(facts).frames == round(LENGTH_S * 30)
        assert video_of(facts).upright == (108, 192)
        assert facts.audio is not None
        assert facts.audio.duration_s == pytest.approx(LENGTH_S, abs=1 / 30)
    # Two whole seconds of red, the rest of it too short; blue; green; red again.
    assert [shown(found["combined_1"].path, frame) for frame in (2, 57, 62, 88, 92, 106)] == [
        "red", "red", "blue", "blue", "green", "green",
    ]  # fmt: skip
    cues = read_subtitles(found["subtitles"].path.read_bytes())
    assert [cue.text for cue in cues] == ["One two three.", "Four five six, seven eight.", "Nine!"]
    for cue, (begin, end) in zip(cues, SPOKEN, strict=True):
        assert cue.start_s == pytest.approx(begin, abs=0.03)
        assert cue.end_s == pytest.approx(end, abs=0.03)
    assert found["final_1"].facts["seed"] == 7
    assert found["final_1"].facts["warnings"] == []
    assert list(dict.fromkeys(one.stage for one in seen)) == [
        "script", "audio", "subtitle", "materials", "combine", "final",
    ]  # fmt: skip
    fractions = [one.fraction for one in seen]
    assert fractions == sorted(fractions)
    assert {path.name for path in (tmp_path / "work").iterdir()} == {
        "final_1.mp4", "combined_1.mp4", "subtitles.srt",
    }  # fmt: skip


def test_an_order_is_drawn_by_the_seed_and_another_one_for_each_film(files: dict[str, Path], tmp_path: Path) -> None:
    def order(folder: str, seed: int, count: int) -> list[list[str]]:
        found, _, _ = composed(
            tmp_path / folder, audio=str(files["voice"]), clip_s=0.6, seed=seed, count=count, subtitles=False,
            materials=[str(files[name]) for name in ("red", "blue", "green")], aspect="16:9", fit="cover",
        )  # fmt: skip
        return [[shown(found[f"combined_{n}"].path, 18 * k + 9) for k in range(6)] for n in range(1, count + 1)]

    first, second = order("a", 3, 2)
    assert first != second
    assert order("b", 4, 1) == [second], "the second film of a seed is the first of the next one"


def test_crossfades_cost_the_film_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    found, _, _ = composed(
        tmp_path / "work", audio=str(files["voice"]), transition="crossfade", clip_s=1, materials=[str(files["red"])],
        aspect="1:1",
    )  # fmt: skip
    assert video_of(facts_of(found["final_1"])).frames == round(LENGTH_S * 30)
    assert "subtitles" not in found
    assert found["final_1"].facts["warnings"] == ["There are no subtitles: the narration has no script."]


def test_a_rest_that_is_no_picture_is_no_clip(files: dict[str, Path], tmp_path: Path) -> None:
    voice, still = tmp_path / "voice.wav", str(files["green"])
    run_ffmpeg("-f", "lavfi", "-i", "sine=300:d=1.012", voice)
    found, _, _ = composed(tmp_path / "work", audio=str(voice), materials=[still], clip_s=1)
    assert found["final_1"].facts["video"]["frames"] == 30


@pytest.mark.parametrize("transition", ["cut", "crossfade"])
def test_films_of_any_length_are_filled_to_the_picture(transition: Transition) -> None:
    params = ComposeParams.model_validate({
        "audio": "a", "materials": ["b"], "clip_s": 0.9, "transition": transition,
    })  # fmt: skip
    scenes = [Scene(Path("a"), 0.0, length_s, is_still=False) for length_s in (0.9, 0.7, 0.55)]
    for length_s in (0.004, 0.05, 0.9, 0.901, 0.92, 1.6, 1.613, 2.15, *np.arange(3, 30, 0.0137)):
        chosen = filled(scenes, params, float(length_s), random.Random(1))
        lengths = [
            Length(
                Fraction(str(round(shown_s, 6))), transition if number else "cut", Fraction(str(transition_s(params)))
            )
            for number, (_, shown_s) in enumerate(chosen)
        ]
        assert abs(place(lengths, Fraction(30))[-1].end - max(1.0, length_s * 30)) <= 0.6, length_s


def test_the_space_of_all_films_is_reserved_before_the_first_is_rendered(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    hold = ReservedSpace.hold

    def noted(space: ReservedSpace, size: int) -> None:
        held.append(size)
        hold(space, size)

    monkeypatch.setattr(ReservedSpace, "hold", noted)
    outputs, _, _ = composed(
        tmp_path / "work", audio=str(files["voice"]), materials=[str(files["red"])], count=2, seed=1
    )
    films = sum(one.path.stat().st_size for name, one in outputs.items() if name.startswith(("final", "combined")))
    assert held[0] > films
    assert held[0] == max(held)
    assert held[-1] == 0
    assert not (tmp_path / "work" / ".reserved").exists()


def test_materials_that_are_too_short_are_told(files: dict[str, Path], tmp_path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:r=100:d=0.01", "-pix_fmt", "yuv420p", tmp_path / "one.mp4")
    one = str(tmp_path / "one.mp4")
    found, _, _ = composed(tmp_path / "work", audio=str(files["voice"]), materials=[one, str(files["green"])])
    assert "Material 0 is not shown" in " ".join(found["final_1"].facts["warnings"])
    with pytest.raises(VidqueueError, match="too short"):
        composed(tmp_path / "none", audio=str(files["voice"]), materials=[one])


def test_a_program_speaks_the_script(files: dict[str, Path], tmp_path: Path) -> None:
    program = "import shutil,sys; print('speaking as', sys.argv[2]); shutil.copy(sys.argv[4], sys.argv[3])"
    config = ComposeSettings(
        speech_command=[sys.executable, "-c", program, "{text_file}", "{voice}", "{out}", str(files["voice"])]
    )
    found, _, said = composed(
        tmp_path / "work", config, script=SCRIPT, voice="{out}", materials=[str(files["green"])], subtitles=False
    )
    assert video_of(facts_of(found["final_1"])).frames == round(LENGTH_S * 30)
    assert found["audio"].path.read_bytes() == files["voice"].read_bytes()
    assert "speaking as {out}" in [line.text for line in said], "what people say is no placeholder"


def test_the_work_may_end_with_the_narration_or_its_subtitles(files: dict[str, Path], tmp_path: Path) -> None:
    asked: dict[str, Any] = {"script": SCRIPT, "audio": str(files["voice"])}
    found, _, _ = composed(tmp_path / "audio", **asked, stop_at="audio")
    assert list(found) == ["audio"]
    assert found["audio"].path.read_bytes() == files["voice"].read_bytes()
    assert found["audio"].facts == {"script": SCRIPT, "audio_duration_s": LENGTH_S}
    found, _, _ = composed(tmp_path / "subtitle", **asked, stop_at="subtitle")
    assert list(found) == ["audio", "subtitles"]
    with pytest.raises(VidqueueError, match="materials"):
        composed(tmp_path / "film", **asked)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no such voice')", "status 1: no such voice"),
        ("pass", "status 0 and wrote no sound"),
        ("import os, sys; os.mkdir(sys.argv[1])", "status 0 and wrote no sound"),
        ("import sys; open(sys.argv[1], 'w').write('hello')", "no usable sound"),
        ("import os, sys; os.symlink('/etc/passwd', sys.argv[1])", "no usable sound.*symbolic link"),
        ("import os, sys; os.write(1, os.urandom(9000)); os.kill(os.getpid(), 9)", "status -9"),
    ],
)
def test_a_program_that_does_not_speak_is_told(
    files: dict[str, Path], tmp_path: Path, program: str, words: str
) -> None:
    config = ComposeSettings(speech_command=[sys.executable, "-c", program, "{out}"])
    with pytest.raises(VidqueueError, match=words) as caught:
        composed(tmp_path / "work", config, script=SCRIPT, materials=[str(files["green"])])
    assert caught.value.code == "model_failed"


def test_a_cancel_ends_a_program_that_speaks(files: dict[str, Path], tmp_path: Path) -> None:
    config = ComposeSettings(speech_command=[sys.executable, "-c", "import time; time.sleep(60)"])
    canceled = threading.Event()
    threading.Timer(0.5, canceled.set).start()
    begun = time.monotonic()
    with pytest.raises(CanceledError):
        composed(tmp_path / "work", config, canceled, script=SCRIPT, materials=[str(files["green"])])
    assert time.monotonic() - begun < promised(5)


@pytest.fixture
def writer() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An API that writes scripts, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body | {"path": self.path, "key": self.headers["Authorization"]})
            answer = json.dumps({"choices": [{"message": {"content": SCRIPT}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    server.server_close()


def test_a_service_writes_the_script(
    files: dict[str, Path], tmp_path: Path, writer: tuple[str, list[dict[str, Any]]]
) -> None:
    url, asked = writer
    (tmp_path / "key").write_text("sk-secret\n")
    config = ComposeSettings(
        script_url=url, script_model="small", script_key_file=tmp_path / "key",
        speech_command=[sys.executable, "-c", COPY, str(files["voice"]), "{out}"],
    )  # fmt: skip
    found, _, _ = composed(tmp_path / "work", config, subject="Numbers", materials=[str(files["green"])])
    assert found["final_1"].facts["script"] == SCRIPT
    assert len(read_subtitles(found["subtitles"].path.read_bytes())) == 3
    (request,) = asked
    assert (request["path"], request["key"], request["model"]) == ("/v1/chat/completions", "Bearer sk-secret", "small")
    assert request["messages"][0]["content"].endswith("Subject: Numbers")


def test_a_service_that_does_not_answer_is_waited_for(files: dict[str, Path], tmp_path: Path) -> None:
    config = ComposeSettings(script_url="http://127.0.0.1:9/v1", speech_command=["true"])
    with pytest.raises(WaitingError, match=r"127\.0\.0\.1"):
        composed(tmp_path / "work", config, subject="Numbers", materials=[str(files["green"])])


@pytest.mark.parametrize(
    "wishes",
    [{}, {"script": " "}, {"script": SCRIPT}, {"subject": "x"}, {"audio": "/a.wav", "materials": []},
     {"audio": "/a.wav", "count": 11}, {"audio": "/a.wav", "aspect": "4:3"}],
    ids=str,
)  # fmt: skip
def test_what_can_never_work_is_refused_at_submission(wishes: dict[str, Any]) -> None:
    with pytest.raises(VidqueueError) as caught:
        parse(Compose(ComposeSettings()), {"materials": ["/m.mp4"], **wishes})
    assert caught.value.code == "invalid_params"


def test_phrases_fit_on_the_screen_and_keep_every_word() -> None:
    long = "This sentence is long, so long that it is divided at its comma or even in the midst of many words. Short."
    found = phrases_of(long, 44)
    assert " ".join(found) == long
    assert max(map(len, found)) <= 50
    assert phrases_of("你好，世界。再见！\n\n- ...\nEnd", 20) == ["你好，世界。", "再见！", "End"]  # noqa: RUF001


def test_letters_of_chinese_count_twice_and_get_no_spaces() -> None:
    phrases = phrases_of("今天天气很好，我们去海边。" + "字" * 30 + "。", 20)  # noqa: RUF001
    assert phrases[:2] == ["今天天气很好，", "我们去海边。"]  # noqa: RUF001
    assert max(map(len, phrases)) == 10
    assert phrases_of("好，好。", 20) == ["好，好。"]  # noqa: RUF001


def test_speech_is_found_between_pauses_over_noise() -> None:
    levels = np.full(500, 0.002, np.float32)
    for begin, end in ((50, 150), (160, 200), (260, 400)):
        levels[begin:end] = 0.2
    found = spoken_spans(levels)
    assert [(round(one.begin_s, 2), round(one.end_s, 2)) for one in found] == [(0.5, 2.0), (2.6, 4.0)]
    assert spoken_spans(np.zeros(100, np.float32)) == []


def test_phrases_end_at_the_nearest_pause_and_errors_do_not_add_up() -> None:
    spans = [Span(10 * n, 10 * n + 4 + n % 3) for n in range(30)]
    phrases = [f"{'x' * 40} {n}" for n in range(30)]
    cues = timed(phrases, spans)
    late = [abs(cue.start_s - span.begin_s) for cue, span in zip(cues, spans, strict=True)]
    assert max(late) < 0.01


@pytest.mark.media
def test_a_real_speech_is_told_by_its_pauses(tmp_path: Path) -> None:
    if not FOLDER.exists():
        pytest.skip(f"no shared media at {FOLDER}")
    script = (
        "And so, my fellow Americans, ask not what your country can do for you. Ask what you can do for your country."
    )
    found, _, _ = composed(
        tmp_path / "work", audio=str(FOLDER / "speech_jfk.wav"), script=script, aspect="16:9", clip_s=3,
        materials=[str(FOLDER / "water_480x360.mp4"), str(FOLDER / "portrait_painting.jpg")], seed=1,
    )  # fmt: skip
    assert facts_of(found["final_1"]).duration_s == pytest.approx(11.0, abs=1 / 30)
    cues = read_subtitles(found["subtitles"].path.read_bytes())
    assert cues[0].start_s == pytest.approx(0.3, abs=0.2)
    assert [cue.start_s for cue in cues if cue.text.startswith("Ask")] == [pytest.approx(8.2, abs=0.2)]
