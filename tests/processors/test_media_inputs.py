"""Media references anywhere in the parameters: found along the schema, checked for their kind, staged by extension."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from tests.daemon import Daemon
from vidqueue.errors import VidqueueError
from vidqueue.media.kinds import check_kind
from vidqueue.processors import registry
from vidqueue.processors.media import (
    FOREIGN_FORMATS,
    MediaField,
    is_reference,
    media_in,
    media_places,
    schema_of,
    suffix_of,
    with_reference,
)

INPUT: dict[str, Any] = {
    "clips": [{"media": "/a.mp4", "text": "/no.mp4"}, {"kind": "card", "media": "no media"}, {"media": "/b.png"}],
    "music": {"media": "/m.mp3"},
    "poster": "none",
    "layers": {"x/~y": "/l.mp4"},
    "pair": ["/p.mp4", "/q.png"],
    "foreign": {"image": "https://h/i.png", "frames": ["/f.png", None, "no reference"], "prompt": "/no"},
}
FOUND = {
    ("/clips/0/media", "/a.mp4", "any"),
    ("/clips/2/media", "/b.png", "any"),
    ("/music/media", "/m.mp3", "audio"),
    ("/layers/x~1~0y", "/l.mp4", "video"),
    ("/pair/0", "/p.mp4", "video"),
    ("/pair/1", "/q.png", "image"),
    ("/foreign/image", "https://h/i.png", "any"),
    ("/foreign/frames/0", "/f.png", "any"),
}


def test_references_are_found_wherever_the_schema_says_so() -> None:
    processor = registry.find("collage")
    found = list(processor.media(registry.parse(processor, INPUT)))
    assert {(one.pointer, one.reference, one.kind) for one in found} == FOUND
    assert len(found) == len(FOUND), "each place once"
    assert [one.name for one in found][:2] == ["clips.0.media", "clips.2.media"]


def test_the_schema_alone_is_enough_to_find_and_replace_them() -> None:
    schema = schema_of(registry.find("collage").Params)
    assert media_places(schema) == {
        "clips.*.media": "any", "music.media": "audio", "poster": "image",
        "layers.*": "video", "pair.0": "video", "pair.1": "image",
    }  # fmt: skip
    assert media_places(schema_of(registry.find("transcode").Params)) == {"video": "video"}
    value: Any = INPUT
    for one in media_in(schema, INPUT):
        value = with_reference(value, one.path, f"vq:{one.name}")
    assert value["clips"][0] == {"media": "vq:clips.0.media", "text": "/no.mp4"}
    assert value["layers"] == {"x/~y": "vq:layers.x/~y"}
    assert value["pair"] == ["vq:pair.0", "vq:pair.1"]
    assert value["foreign"] == INPUT["foreign"]
    assert INPUT["clips"][0]["media"] == "/a.mp4", "the original is left as it was"


def test_odd_schemas_and_values_end_and_find_nothing() -> None:
    circle: dict[str, Any] = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
    assert list(media_in(circle, {"a": "/x"})) == []
    tree = {"$ref": "#/$defs/T", "$defs": {"T": {"properties": {
        "media": {"type": "string", "format": "media-any"},
        "below": {"anyOf": [{"$ref": "#/$defs/T"}, True]}}}}}  # fmt: skip
    value = {"media": "/a", "below": {"media": "/b", "below": {"media": "/c"}}}
    assert [one.name for one in media_in(tree, value)] == ["media", "below.media", "below.below.media"]
    assert media_places(tree)["media"] == "any"
    odd: list[Any] = [{}, {"$ref": 5}, {"$ref": "http://x"}, {"properties": {"a": True}}, {"anyOf": [None, 3, "x"]}]
    for schema in odd:
        assert list(media_in(schema, {"a": ["/x"]}, formats=FOREIGN_FORMATS)) == []
        media_places(schema)
    assert is_reference("vq:files/x")
    assert not is_reference("a prompt")


def test_the_extension_of_a_copy_comes_from_the_name_or_the_type() -> None:
    assert suffix_of("holiday.MP4") == ".MP4"
    assert suffix_of("archive.tar.gz") == ".gz"
    assert suffix_of("blob", "video/mp4") == ".mp4"
    assert suffix_of("../../x.s h", "") == ""
    assert suffix_of(".hidden", "image/png; a=b") == ".png"
    assert suffix_of("a.much-too-long-for-one") == ""


FACTS: dict[str, Any] = {"container": "x", "is_still": False, "video": None, "audio": None}
TRACK = {"index": 0}
MP4, MP3, PNG = {**FACTS, "video": TRACK}, {**FACTS, "audio": TRACK}, {**FACTS, "video": TRACK, "is_still": True}
COVER = {**MP3, "videos": [{}]}


@pytest.mark.parametrize(
    ("kind", "facts", "head", "code"),
    [
        ("video", MP4, b"", None), ("video", MP3, b"", "no_video_stream"), ("video", PNG, b"", "still_image"),
        ("video", COVER, b"", "no_video_stream"), ("video", FACTS, b"", "no_video_stream"),
        ("audio", MP4, b"", "no_audio_stream"), ("audio", {**MP4, "audio": TRACK}, b"", None),
        ("audio", MP3, b"", None),
        ("image", MP4, b"", "not_an_image"), ("image", PNG, b"", None), ("image", MP3, b"", "not_an_image"),
        ("visual", MP4, b"", None), ("visual", PNG, b"", None), ("visual", COVER, b"", "no_video_stream"),
        ("visual", None, b"ID3\4", "no_video_stream"), ("visual", None, b"\xff\xd8\xff\xe0", None),
        ("visual", None, b"", None), ("any", MP3, b"", None), ("video", None, b"ID3\4", "no_video_stream"),
        ("video", None, b"\xff\xfb\x90\x00", "no_video_stream"), ("image", None, b"fLaC", "not_an_image"),
        ("video", None, b"RIFF\0\0\0\0WAVE", "no_video_stream"), ("video", None, b"RIFF\0\0\0\0AVI ", None),
        ("audio", None, b"\x89PNG\r\n\x1a\n", "no_audio_stream"), ("video", None, b"\xff\xd8\xff\xe0", "still_image"),
        ("video", None, b"\xff\xff\xff\xff", None), ("video", None, b"", None), ("video", {"a": 1}, b"", None),
        ("image", None, b"GIF89a", None), ("video", None, b"GIF89a", None),
    ],
)  # fmt: skip
def test_only_what_is_certainly_of_another_kind_is_refused(
    kind: str, facts: dict[str, Any] | None, head: bytes, code: str | None
) -> None:
    if code is None:
        check_kind(kind, facts, head)
        return
    with pytest.raises(VidqueueError) as caught:
        check_kind(kind, facts, head)
    assert caught.value.code == code


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("media") / "data").start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def clips(daemon: Daemon) -> dict[str, Path]:
    folder = daemon.data_dir.parent
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
    made = {
        "a.mp4": ["testsrc=d=0.4:s=64x64:r=10"], "b.mp3": ["sine=d=0.4"], "c.wav": ["sine=d=0.4"],
        "d.png": ["testsrc=s=64x64", "-frames:v", "1"], "e.jpg": ["testsrc=s=64x64", "-frames:v", "1"],
    }  # fmt: skip
    for name, words in made.items():
        subprocess.run([*ffmpeg, *words, folder / name], check=True)
    return {name: folder / name for name in made}


def upload(daemon: Daemon, path: Path, name: str) -> str:
    answer = daemon.http.post("/v1/files", files={"file": (name, path.read_bytes())})
    assert answer.status_code == 201, answer.text
    return f"vq:files/{answer.json()['id']}"


def refusal(daemon: Daemon, processor: str, parameters: dict[str, Any]) -> tuple[str, list[str]]:
    answer = daemon.http.post("/v1/jobs", json={"processor": processor, "input": parameters})
    assert answer.status_code == 422, answer.text
    return answer.json()["code"], [one["pointer"] for one in answer.json()["errors"]]


def test_another_kind_of_file_is_refused_at_submission(daemon: Daemon, clips: dict[str, Path]) -> None:
    def inline(name: str) -> str:
        return "data:application/octet-stream;base64," + base64.b64encode(clips[name].read_bytes()).decode()

    for name in ("b.mp3", "c.wav"):
        for reference in (str(clips[name]), upload(daemon, clips[name], name)):
            assert refusal(daemon, "transcode", {"video": reference}) == ("no_video_stream", ["/input/video"])
            shown = [{"media": str(clips["d.png"])}, {"media": reference}]
            assert refusal(daemon, "export", {"clips": shown}) == ("no_video_stream", ["/input/clips/1/media"])
            materials = {"script": "x", "audio": reference, "materials": [reference]}
            assert refusal(daemon, "compose", materials) == ("no_video_stream", ["/input/materials/0"])
            assert refusal(daemon, "collage", {"poster": reference}) == ("not_an_image", ["/input/poster"])
    if len(inline("b.mp3")) < 4096:
        assert refusal(daemon, "transcode", {"video": inline("b.mp3")})[0] == "no_video_stream"
    assert refusal(daemon, "transcode", {"video": str(clips["e.jpg"])})[0] == "still_image"
    video = upload(daemon, clips["a.mp4"], "a.mp4")
    assert refusal(daemon, "collage", {"music": {"media": video}}) == ("no_audio_stream", ["/input/music/media"])
    both = {"clips": [{"media": str(clips["a.mp4"])}, {"media": "/nowhere"}], "layers": {"x": str(clips["b.mp3"])}}
    code, pointers = refusal(daemon, "collage", both)
    assert code == "input_forbidden"
    assert pointers == ["/input/clips/1/media", "/input/layers/x"]
    answer = daemon.http.post("/v1/batches", json={"jobs": [{"processor": "collage", "input": both}]})
    assert answer.status_code == 422
    assert {one["pointer"] for one in answer.json()["errors"]} == {
        "/jobs/0/input/clips/1/media", "/jobs/0/input/layers/x",
    }  # fmt: skip
    assert refusal(daemon, "transcode", {"video": upload(daemon, clips["e.jpg"], "e")})[0] == "still_image"


def test_staged_files_keep_the_extension_of_their_names(daemon: Daemon, clips: dict[str, Path]) -> None:
    video, sound = upload(daemon, clips["a.mp4"], "My Clip.MOV"), upload(daemon, clips["b.mp3"], "no extension")
    first = daemon.submit("collage", clips=[{"media": video}])
    later = daemon.submit(
        "collage",
        clips=[{"media": video}, {"media": f"vq:jobs/{first}/text"}],
        music={"media": sound},
        layers={"../../x": str(clips["a.mp4"])},
        foreign={"image": "data:image/png;base64,iVBORw0KGgo=", "prompt": "/x"},
    )
    job = daemon.ended(later)
    assert job["state"] == "succeeded", job
    size = {name: path.stat().st_size for name, path in clips.items()}
    text = daemon.http.get(job["outputs"][0]["url"]).text.splitlines()
    assert text[0] == f"clips.0.media .MOV {size['a.mp4']}"
    assert text[1].startswith("clips.1.media .txt")
    assert text[2] == "foreign.image .png 8"
    assert text[3] == f"layers.../../x .mp4 {size['a.mp4']}"
    assert text[4].startswith("music.media ")
    assert list((daemon.data_dir / "work").iterdir()) == []
    stored = daemon.http.get(f"/v1/{video.removeprefix('vq:')}/content")
    assert stored.content == clips["a.mp4"].read_bytes(), "the copy's end is not the end of the file"


def test_a_job_waits_for_an_output_named_anywhere(daemon: Daemon) -> None:
    needed = daemon.submit("zoo", act="raise", max_attempts=1)
    waiting = daemon.submit("collage", clips=[{"media": f"vq:jobs/{needed}/text"}])
    job = daemon.ended(waiting)
    assert (job["state"], job["error"]["code"]) == ("failed", "dependency_failed")
    foreign = f'{{"foreign": {{"frames": ["vq:jobs/{needed}/text"]}}}}'
    with pytest.raises(Exception, match="dependency_failed"):
        daemon.sql(f"SELECT vidqueue.submit('collage', '{foreign}')")


def test_a_path_that_other_names_lead_to_is_one_field() -> None:
    assert MediaField(("a", 0, "b"), "/x", "any").name == "a.0.b"
