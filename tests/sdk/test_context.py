"""The context of a run, with real programs and a real ffmpeg in the jail."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import alive, until
from vidqueue.sdk import (
    CanceledError,
    Context,
    Output,
    Parameters,
    Processor,
    Progress,
    RefusedError,
    VideoInput,
    VidqueueError,
)
from vidqueue.testing import Trial, sample_video

Act = Callable[[Context], Any]


class Nothing(Processor):
    """Does nothing; its context is what is tried."""

    name = "nothing"
    Params = Parameters

    def run(self, params: Any, ctx: Context) -> None:
        """Do nothing."""


def doing(act: Act) -> type[Processor]:
    """A processor that does this."""

    class Doing(Nothing):
        def run(self, params: Any, ctx: Context) -> Any:
            return act(ctx)

    return Doing


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_video(tmp_path_factory.mktemp("clips") / "in clip.mp4", seconds=2)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(Nothing, tmp_path / "work")


def test_ffmpeg_makes_several_outputs_in_the_jail_and_reports_progress(trial: Trial, clip: Path) -> None:
    ctx = trial.context
    video, still = ctx.output("video", "out.mp4"), ctx.output("poster", "poster.png")
    ctx.ffmpeg(["-i", clip, "-vf", "hflip", "-to", "1", video, "-frames:v", "1", still], span=(0.5, 1.0))
    assert ctx.probe(video.path).duration_s == pytest.approx(1, abs=0.1)
    assert still.path.read_bytes().startswith(b"\x89PNG")
    assert video.path.read_bytes().index(b"moov") < video.path.read_bytes().index(b"mdat"), "the index comes first"
    assert all(0.5 <= one.fraction <= 1 for one in trial.reports)
    assert trial.reports
    assert trial.reports[-1].fraction > 0.5


def test_ffmpeg_writes_and_reads_files_of_a_temporary_folder_and_takes_generated_inputs(
    trial: Trial, clip: Path
) -> None:
    ctx = trial.context
    between = ctx.temporary() / "between.mkv"
    ctx.ffmpeg(["-i", clip, "-c", "copy", between])
    made = ctx.output("video", "out.mkv")
    red = ["-f", "lavfi", "-t", "1", "-i", "color=red:size=64x64:rate=10"]
    ctx.ffmpeg([*red, "-i", between, "-map", "0:v", "-map", "1:a", "-t", "1", made])
    facts = ctx.probe(made.path)
    assert facts.video is not None
    assert (facts.video.width, facts.video.height) == (64, 64)
    assert facts.audio is not None


def test_ffmpeg_reads_raw_pictures_and_samples_that_a_processor_has_made(trial: Trial, clip: Path) -> None:
    ctx = trial.context
    pictures, samples = ctx.temporary() / "pictures.rgb", ctx.temporary() / "samples.raw"
    ctx.ffmpeg(["-i", clip, "-vf", "scale=64:36", "-f", "rawvideo", "-pix_fmt", "rgb24", pictures])
    ctx.ffmpeg(["-i", clip, "-f", "f32le", "-ac", "1", "-ar", "8000", samples])
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", "64x36", "-framerate", "25"]
    made = ctx.output("video", "made.mp4")
    ctx.ffmpeg([*raw, "-i", pictures, "-f", "f32le", "-ac", "1", "-ar", "8000", "-i", samples, made], duration_s=2)
    facts = ctx.probe(made.path)
    assert facts.video is not None
    assert facts.video.upright == (64, 36)
    assert facts.duration_s == pytest.approx(2, abs=0.2)
    assert facts.audio is not None
    assert not any("duration" in line.text for line in trial.log), "raw pictures have no length to be estimated"
    # A file from outside is not opened as something that only a raw format would take, nor by another one.
    with pytest.raises(VidqueueError, match="not a video"):
        ctx.ffmpeg(["-f", "concat", "-i", pictures, ctx.output_path("again.mp4")])


@pytest.mark.parametrize("generated", [[], ["-f", "lavfi", "-i", "color=red:size=64x64:duration=1"]])
def test_ffmpeg_opens_no_other_file_than_those_that_are_named(
    trial: Trial, tmp_path: Path, generated: list[str]
) -> None:
    """An input that names others is no way out, whatever stands before it."""
    secret = sample_video(tmp_path / "secret.mp4")
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {secret}\n")
    (tmp_path / "list.bin").write_text(f"# a list\nfile {secret}\n")
    for name in ("list.txt", "list.bin"):
        arguments: list[str | Path] = [*generated, "-f", "concat", "-i", tmp_path / name]
        with pytest.raises(VidqueueError) as caught:
            trial.context.ffmpeg(
                [*arguments, "-map", f"{len(generated) and 1}", trial.context.output_path(f"{name}.mp4")], duration_s=1
            )
        assert caught.value.code in ("input_is_a_playlist", "unsupported_format", "media_damaged"), caught.value
    with pytest.raises(VidqueueError):
        trial.context.ffmpeg(["-f", "lavfi", "-i", f"movie={secret}", trial.context.output_path("out.mp4")])


def test_a_failed_ffmpeg_leaves_nothing_and_its_output_may_be_tried_again_and_written_anew(trial: Trial) -> None:
    ctx = trial.context
    clip, made = ["-f", "lavfi", "-i", "testsrc2=size=64x36:duration=0.2"], ctx.output_path("made.mp4")
    with pytest.raises(VidqueueError, match=r"This ffmpeg has no encoder h264_nonsense\.") as refused:
        ctx.ffmpeg([*clip, "-c:v", "h264_nonsense", made])
    assert refused.value.code == "encoder_unavailable"
    with pytest.raises(VidqueueError, match="The encoder libx264 could not be started"):
        ctx.ffmpeg([*clip, "-c:v", "libx264", "-profile:v", "nonsense", made])
    assert not made.exists()
    ctx.ffmpeg([*clip, made])
    ctx.ffmpeg([*clip, "-t", "0.1", made])
    assert ctx.probe(made).duration_s < 0.2
    with pytest.raises(VidqueueError, match=r"ffmpeg cannot write made\.mp4"):
        ctx.ffmpeg(["-i", made, "-vf", "hflip", made])
    assert made.exists()


@pytest.mark.parametrize("arguments", [["-vf", "hflip"], ["out.mp4"], ["-i", "/etc/passwd", "/tmp/elsewhere.mp4"]])
def test_ffmpeg_without_an_output_in_the_workspace_is_refused(trial: Trial, arguments: list[str]) -> None:
    with pytest.raises(VidqueueError, match="workspace"):
        trial.context.ffmpeg(arguments)


def test_the_lines_of_a_program_are_lines_of_the_log_and_its_progress_is_read(trial: Trial) -> None:
    code = r"""
import sys
print("begin", flush=True)
print("step 1 of 4", flush=True)
sys.stderr.write("\r 50%|#####     | 2/4 [00:01<00:01]\r")
"""
    ran = trial.context.run([sys.executable, "-c", code], stage="swap", span=(0.2, 0.6))
    assert ran.returncode == 0
    assert [line.text for line in trial.log][:2] == ["begin", "step 1 of 4"]
    assert [(one.stage, one.fraction) for one in trial.reports] == [("swap", 0.4)]
    trial.context.run(["printf", "step 1 of 4\\nstep 4 of 4\\nno step\\n"], progress=r"step (\d+) of (\d+)")
    assert [one.fraction for one in trial.reports[1:]] == [0.25, 1.0]
    trial.context.run(["printf", "7\\n"], progress=lambda line: int(line) / 10)
    assert trial.reports[-1].fraction == 0.7


def test_a_program_that_fails_or_is_not_there_says_so(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(VidqueueError, match="ended with 7: not today") as caught:
        trial.context.run(["sh", "-c", "echo not today >&2; exit 7"])
    assert caught.value.code == "program_failed"
    assert trial.context.run(["sh", "-c", "exit 7"], check=False).returncode == 7
    with pytest.raises(VidqueueError, match="No such file") as caught:
        trial.context.run(["no-such-program"])
    assert caught.value.code == "program_missing"
    with pytest.raises(VidqueueError) as caught:
        trial.context.run(["sleep", "60"], timeout_s=0.2)
    assert caught.value.code == "timed_out"


def test_a_program_that_cannot_run_or_was_killed_says_what_to_do(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("print(1)\n")
    with pytest.raises(VidqueueError, match=r"plain\.py cannot be started: Permission denied") as caught:
        trial.context.run([tmp_path / "plain.py"])
    assert "chmod +x" in caught.value.hint
    with pytest.raises(VidqueueError, match=r"The working folder .*nowhere of true cannot be entered: No such file"):
        trial.context.run(["true"], cwd=tmp_path / "nowhere")
    with pytest.raises(VidqueueError, match=r"sh was ended by SIGKILL: last words\.") as caught:
        trial.context.run(["sh", "-c", "echo last words; kill -9 $$"])
    assert (caught.value.code, "memory" in caught.value.hint) == ("program_failed", True)


def test_the_words_of_a_command_are_texts_paths_and_numbers(trial: Trial, clip: Path) -> None:
    ctx = trial.context
    made = ctx.output("video", "out.mp4")
    ctx.ffmpeg(["-i", clip, "-frames:v", 5, "-r", 12.5, made])
    assert ctx.run(["echo", 3, clip]).tail == (f"3 {clip}",)
    for act in (ctx.run, ctx.ffmpeg):
        with pytest.raises(TypeError, match=r"list of words.*not the text 'ls -l'"):
            act("ls -l")
        with pytest.raises(TypeError, match=r"element 1 of a command is None \(NoneType\)"):
            act(["-i", None, made])


def test_media_that_a_job_does_not_have_is_named_beside_what_it_has(tmp_path: Path, clip: Path) -> None:
    class Odd(Nothing):
        class Params(Parameters):
            video: VideoInput
            sound: VideoInput | None = None

        def run(self, params: Any, ctx: Context) -> None:
            ctx.input("sound")

    with pytest.raises(KeyError, match=r"sound is not media of this job \(it has: video\)"):
        Trial(Odd, tmp_path / "work").run(video=clip)


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM;"])
def test_a_cancel_kills_the_whole_process_group_of_a_program(trial: Trial, tmp_path: Path, stubborn: str) -> None:
    pids = tmp_path / "pids"
    script = f"{stubborn} sleep 61 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; sleep 62; sleep 63"

    def cancel() -> None:
        until(pids.exists)
        trial.canceled.set()

    threading.Thread(target=cancel).start()
    began = time.monotonic()
    with pytest.raises(CanceledError):
        trial.context.run(["sh", "-c", script])
    assert time.monotonic() - began < 30
    until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_a_child_that_a_program_leaves_behind_is_not_waited_for(trial: Trial) -> None:
    ran = trial.context.run(["sh", "-c", "sleep 64 & echo $!"])
    until(lambda: not alive(int(ran.tail[0])))


def test_a_program_that_has_closed_its_output_is_waited_for(trial: Trial) -> None:
    ran = trial.context.run(["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 5"], check=False)
    assert ran.returncode == 5


def test_a_trial_is_canceled_by_its_event_and_not_by_an_assignment(trial: Trial) -> None:
    with pytest.raises(AttributeError):
        trial.canceled = True  # type: ignore[assignment, misc]
    trial.canceled.set()
    with pytest.raises(CanceledError):
        trial.context.progress(0.5)


def test_a_cancel_ends_ffmpeg(trial: Trial) -> None:
    threading.Timer(0.3, trial.canceled.set).start()
    endless: list[str | Path] = ["-re", "-f", "lavfi", "-i", "color=red", trial.context.output_path("out.mp4")]
    with pytest.raises(CanceledError):
        trial.context.ffmpeg(endless)


def test_what_was_promised_is_published_where_run_returns_nothing(tmp_path: Path) -> None:
    def act(ctx: Context) -> None:
        ctx.output("text", "words.srt").path.write_text("words")
        ctx.output("other", "data.json", facts={"n": 1}).path.write_text("{}")

    outputs = Trial(doing(act), tmp_path / "work").run()
    assert {name: one.media_type for name, one in outputs.items()} == {
        "text": "application/x-subrip",
        "other": "application/json",
    }
    assert os.fspath(outputs["text"]).endswith("words.srt")


def test_what_was_published_early_is_not_published_again(tmp_path: Path) -> None:
    def act(ctx: Context) -> None:
        first, second = ctx.output("first", "1.txt"), ctx.output("second", "2.txt")
        for draft in (first, second):
            draft.path.write_text("words")
        ctx.publish(first)

    trial = Trial(doing(act), tmp_path / "work")
    assert list(trial.run()) == ["first", "second"]
    assert [draft.name for draft in trial.early] == ["first"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda ctx: None, "no output.*Declare it"),
        (lambda ctx: ctx.output("text", "x.txt"), "x.txt was not written.*Write the file"),
        (lambda ctx: ctx.output("text", "../x.txt"), "not the name of a file.*Name the file only"),
        (lambda ctx: "x.txt", "returned str.*Return None"),
        (lambda ctx: ["chart"], "Item 1 of the returned list is str.*ctx.output"),
        (lambda ctx: [ctx.output("text", "x.txt"), None], "Item 2 of the returned list is NoneType.*ctx.output"),
        (lambda ctx: [Output("Not A Name", ctx.workspace / "x", "text/plain")], "'Not A Name' is not allowed.*a-z"),
        (lambda ctx: [ctx.output("a", "1"), ctx.output("a", "2")], "Two outputs have the name 'a'.*of its own"),
        (lambda ctx: [Output("text", Path("/etc/passwd"), "text/plain")], "not in the workspace.*the path that"),
        (lambda ctx: Output("text", ctx.temporary().rename(ctx.workspace / "x"), "a/b"), "not a regular file.*folder"),
    ],
)
def test_outputs_that_a_job_could_not_publish_fail_a_trial_too(tmp_path: Path, act: Act, message: str) -> None:
    with pytest.raises(VidqueueError) as caught:
        Trial(doing(act), tmp_path / "work").run()
    assert caught.value.code == "bad_output"
    assert re.search(message, f"{caught.value.message} {caught.value.hint}")


@pytest.mark.parametrize(("given", "share"), [(7, 1.0), (-3, 0.0), (float("nan"), 0.0), (float("inf"), 1.0)])
def test_progress_outside_of_0_to_1_counts_as_the_nearest_share_and_is_warned_of_once(
    trial: Trial, given: float, share: float
) -> None:
    for _ in range(2):
        trial.context.progress(given, "swap")
    trial.context.progress(Progress(given, "again"))
    trial.context.run(["printf", "7\\n"], progress=lambda line: given)
    assert [one.fraction for one in trial.reports] == [share] * 4
    (warning,) = [line for line in trial.log if line.level == "warning"]
    assert "from 0 to 1" in warning.text


def test_progress_that_rounding_carries_beyond_the_end_is_no_mistake(trial: Trial) -> None:
    trial.context.progress(1.000001)
    assert ([one.fraction for one in trial.reports], trial.log) == ([1.0], [])


def test_the_time_left_of_a_step_is_told_as_that_of_the_whole_work(trial: Trial) -> None:
    def half(line: str) -> Progress:
        return Progress(float(line), eta_s=10)

    for span in ((0, 1), (0, 0.5), (0.5, 1)):
        trial.context.run(["printf", "0.5\\n"], progress=half, span=span)
    trial.context.run(["printf", "1\\n"], progress=half, span=(0, 0.5))
    assert [one.eta_s for one in trial.reports] == [10, 30, 10, None]


def test_ffmpeg_says_what_was_wrong_and_not_only_that_it_could_not_go_on(trial: Trial, clip: Path) -> None:
    for number, (arguments, cause) in enumerate((
        (["-vf", "foo"], "No such filter: 'foo'"), (["-vf", "scale=foo=3"], "option 'foo' to filter 'scale'"),
        (["-map", "0:7"], "matches no streams"), (["-nosuch", "3"], "Unrecognized option 'nosuch'"),
        (["-c:v", "libx264", "-crf", "x"], 'Unable to parse "crf"'), (["-bsf:v", "foo"], "filter sequence 'foo'"),
    )):  # fmt: skip
        with pytest.raises(VidqueueError) as caught:
            trial.context.ffmpeg(["-i", clip, *arguments, trial.context.output_path(f"{number}.mp4")])
        assert cause in caught.value.message


def test_a_model_is_loaded_once_and_weights_are_found_by_name(tmp_path: Path) -> None:
    trial = Trial(Nothing, tmp_path / "work", models_dir=tmp_path / "weights")
    models = trial.context.models
    loads = [models.get("net", object) for _ in range(2)]
    assert loads[0] is loads[1]
    models.drop("net")
    assert models.get("net", object) is not loads[0]
    (tmp_path / "weights" / "sr").mkdir(parents=True)
    (tmp_path / "weights" / "sr" / "x2.pt").write_bytes(b"weights")
    (tmp_path / "outside.pt").write_bytes(b"weights")
    assert models.file("sr/x2.pt").read_bytes() == b"weights"
    for name in ("x4.pt", "../outside.pt", str(tmp_path / "outside.pt")):
        with pytest.raises(VidqueueError) as caught:
            models.file(name)
        assert caught.value.code == "weights_missing"
        assert str(tmp_path / "weights") in caught.value.hint
    with pytest.raises(VidqueueError) as caught:
        models.file("sr/x8.pt")
    assert caught.value.hint.startswith(f"Put the file at {tmp_path}/weights/sr/x8.pt. ")


def test_errors_of_a_processors_own_code_need_no_hint() -> None:
    assert VidqueueError("too_dark", "It is too dark.").hint == ""
    assert RefusedError("It is too dark.").code == "input_refused"


class Pair(Processor):
    """Has media in a list."""

    name = "pair"

    class Params(Parameters):
        """Two or more videos."""

        clips: list[VideoInput]

    def run(self, params: Any, ctx: Context) -> Output:
        """Say where they are."""
        made = ctx.output("text", "paths.txt")
        made.path.write_text("\n".join(str(ctx.input("clips", number)) for number in range(len(params.clips))))
        return made


def test_a_trial_checks_parameters_and_stages_media_wherever_they_stand(tmp_path: Path, clip: Path) -> None:
    outputs = Trial(Pair, tmp_path / "work").run(clips=[clip, clip])
    assert outputs["text"].path.read_text().splitlines() == [str(clip), str(clip)]
    with pytest.raises(VidqueueError) as caught:
        Trial(Pair, tmp_path / "work").run(clips="one")
    assert caught.value.code == "invalid_params"
    with pytest.raises(VidqueueError) as caught:
        Trial(Pair, tmp_path / "work").run(clips=[tmp_path / "missing.mp4"])
    assert caught.value.code == "input_not_found"
