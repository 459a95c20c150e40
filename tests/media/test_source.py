"""Opening someone else's file: what is refused before any byte reaches a parser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidqueue.errors import VidqueueError
from vidqueue.media.source import check_source

PLAYLISTS = {
    "hls": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/passwd\n",
    "hls_after_a_byte_order_mark": b"\xef\xbb\xbf#EXTM3U\n",
    "ffconcat": b"ffconcat version 1.0\nfile other.mp4\n",
    "dash": b'<?xml version="1.0"?>\n<!-- a comment -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "dash_behind_a_style_sheet": b'<?xml version="1.0"?><?xml-stylesheet href="a"?><!DOCTYPE MPD>\n<MPD/>',
    "dash_with_a_prefix": b'<mpd:MPD xmlns:mpd="urn:mpeg:dash:schema:mpd:2011">',
    "pls": b"[Playlist]\nFile1=file:///etc/passwd\n",
    "asx": b'<ASX version="3.0"><entry><ref href="file:///etc/passwd"/></entry></ASX>',
    "xspf": b'<?xml version="1.0"?>\n<playlist version="1"><trackList/></playlist>',
    "wpl": b'<?wpl version="1.0"?>\n<smil><body/></smil>',
    "smooth_streaming": b'<?xml version="1.0"?><SmoothStreamingMedia MajorVersion="2">',
    "reference": b"[Reference]\r\nRef1=http://127.0.0.1/\r\n",
}


def refused(path: Path) -> str:
    with pytest.raises(VidqueueError) as caught:
        check_source(path)
    return caught.value.code


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing.mp4") == "input_not_found"


def test_a_path_through_a_file_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert refused(tmp_path / "file" / "inside.mp4") == "input_not_found"


def test_a_path_with_a_null_byte_is_not_found(tmp_path: Path) -> None:
    assert refused(tmp_path / "a\0b.mp4") == "input_not_found"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert refused(tmp_path) == "input_not_a_file"


def test_a_link_is_not_followed_even_to_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"bytes")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    assert refused(tmp_path / "link.mp4") == "input_not_a_file"


def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "pipe.mp4") == "input_not_a_file"


def test_a_device_is_refused() -> None:
    assert refused(Path("/dev/zero")) == "input_not_a_file"


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.webm").touch()
    assert refused(tmp_path / "empty.webm") == "input_empty"


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("ending", ["m3u8", "mp4"])
def test_a_playlist_is_known_by_its_text_whatever_it_is_called(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"input.{ending}"
    path.write_bytes(PLAYLISTS[kind])
    assert refused(path) == "input_is_a_playlist"


@pytest.mark.parametrize(
    "content", [b"<svg><playlist/></svg>", b"<MPDs>", b"<tt>", b"[Script Info]\n", b"<", b"<?", b"<!DOCTYPE", b"[play"]
)
def test_other_text_is_no_playlist(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "input.txt"
    path.write_bytes(content)
    assert check_source(path).size == len(content)


def test_each_opening_starts_at_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"abcdef")
    source = check_source(path)
    for _ in range(2):
        with source.opened() as descriptor:
            assert os.read(descriptor, 3) == b"abc"


def test_a_file_that_was_swapped_after_the_check_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"first")
    source = check_source(path)
    (tmp_path / "other").write_bytes(b"second")
    (tmp_path / "other").rename(path)
    with pytest.raises(VidqueueError, match="replaced"), source.opened():
        pass


def test_a_folder_that_became_a_link_is_noticed(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "clip.mp4").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to(inside)
    check_source(inside / "clip.mp4")
    with pytest.raises(VidqueueError) as caught:
        check_source(tmp_path / "link" / "clip.mp4")
    assert caught.value.code == "input_forbidden"
