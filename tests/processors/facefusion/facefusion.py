"""A stand-in for FaceFusion 3.8: the flags, the output on stderr and the exit codes of its `headless-run`, as recorded.

What it does is asked for by the name of the source: `refused.png`, `faceless.png`, `hold.png`, `memory.png` and others.
Like the original it folds every failure into exit code 1, and ends an interrupted run with 0 and no output.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

PROCESSORS = ["age_modifier", "face_enhancer", "face_swapper", "lip_syncer"]


def program() -> argparse.ArgumentParser:
    """The parser, with the formatter that the original has."""

    def formatter(prog: str) -> argparse.HelpFormatter:
        return argparse.HelpFormatter(prog, max_help_position=300)

    parser = argparse.ArgumentParser(formatter_class=formatter, add_help=False)
    run = parser.add_subparsers(dest="command").add_parser("headless-run", formatter_class=formatter)
    run.add_argument("--config-path", default="facefusion.ini", help="choose the config file to override defaults")
    run.add_argument("--temp-path", help="specify the directory for the temporary resources")
    run.add_argument("--jobs-path", default=".jobs", help="specify the directory to store jobs")
    run.add_argument("-s", "--source-paths", nargs="+", help="choose the image or audio paths")
    run.add_argument("-t", "--target-path", help="choose the image or video path")
    run.add_argument("-o", "--output-path", help="specify the image or video within a directory")
    run.add_argument("--face-selector-mode", choices=["many", "one", "reference"], default="reference")
    run.add_argument("--face-mask-blur", type=float, metavar="[0.0..1.0:0.05]")
    run.add_argument("--trim-frame-start", type=int)
    if not Path("older").exists():
        run.add_argument("--trim-frame-end", type=int)
    run.add_argument("--output-image-quality", type=int, metavar="[0..100:1]")
    run.add_argument("--output-video-encoder", choices=["libx264", "libx265", "h264_nvenc"])
    run.add_argument("--output-video-preset", choices=["ultrafast", "veryfast"])
    run.add_argument("--output-video-scale", type=float, choices=[0.5, 1.0, 2.0])
    run.add_argument("--face-detector-size", choices=["640x640"])
    run.add_argument("--output-video-quality", type=int, metavar="[0..100:1]")
    listed = f"load a single or multiple processors (choices: {', '.join(PROCESSORS)}, ...)"
    run.add_argument("--processors", choices=PROCESSORS, nargs="+", metavar="PROCESSORS", help=listed)
    run.add_argument("--face-swapper-model", choices=["hyperswap_1a_256", "inswapper_128"])
    run.add_argument("--execution-device-ids", type=int, nargs="+", metavar="EXECUTION_DEVICE_IDS")
    run.add_argument("--execution-providers", choices=["cuda", "cpu"], nargs="+", metavar="EXECUTION_PROVIDERS")
    run.add_argument("--log-level", choices=["error", "warn", "info", "debug"], default="info")
    return parser


def say(text: str, module: str = "CORE") -> None:
    print(f"[FACEFUSION.{module}] {text}", file=sys.stderr, flush=True)


def bar(name: str, total: int) -> None:
    for done in range(total + 1):
        drawn = f"\r{name}: {100 * done // total:3d}%|{'=' * done:<{total}}| {done}/{total} [00:00<00:01,  6.63frame/s]"
        print(drawn, end="", file=sys.stderr, flush=True)
        time.sleep(0.02)
    print(file=sys.stderr)


def leave(code: int, text: str = "", module: str = "CORE") -> NoReturn:
    if text:
        say(text, module)
    sys.exit(code)


def main() -> None:
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    given = program().parse_args()
    for needed in ("jobs_path", "temp_path"):
        assert Path(getattr(given, needed)).is_dir()
    jobs = list(Path(given.jobs_path).iterdir())
    assert not jobs, f"{jobs}: two runs share their jobs"
    act = Path(given.source_paths[0]).resolve().stem if given.source_paths else ""
    say("processing step 1 of 1")
    if act == "no_models":
        leave(1, "validating hash for nsfw_1 failed", "DOWNLOAD")
    if act == "faceless":
        leave(1, "no source face detected!", "FACE_SWAPPER")
    say(f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']} {' '.join(sys.argv[2:])}")
    bar("analysing", 10)
    if act == "refused":
        leave(1)
    if act == "memory":
        print("onnxruntime: Failed to allocate memory for requested buffer of size 1073741824", file=sys.stderr)
        leave(1, "processing to video failed")
    bar("processing", 8)
    while act == "hold":
        time.sleep(0.05)
    if act == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    if act == "damaged":
        Path(given.output_path).write_bytes(b"this is no video")
    elif act != "silent":
        assert Path(given.output_path).suffix == Path(given.target_path).suffix, (
            "match the target and output extension!"
        )
        shutil.copy(given.target_path, given.output_path)
    say("processing to video succeeded in 12.3 seconds", "TO_VIDEO")


if __name__ == "__main__":
    main()
