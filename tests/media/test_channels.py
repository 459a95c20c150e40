"""The channel layouts that encoders get, and those that containers keep."""

from __future__ import annotations

import pytest

from vidqueue.media.channels import fitting_layout, survives_copy


@pytest.mark.parametrize(
    ("layout", "becomes"),
    [("mono", "mono"), ("stereo", "stereo"), ("2.1", "5.1"), ("3.0(back)", "quad"), ("3.1", "5.1"), ("4.0", "5.0"),
     ("quad(side)", "quad"), ("5.0(side)", "5.0"), ("5.1(side)", "5.1"), ("6.0", "6.1"), ("hexagonal", "6.1"),
     ("6.1(back)", "6.1"), ("7.0", "7.1"), ("octagonal", "7.1"), ("7.1.4", "7.1"), ("22.2", "7.1"), ("cube", "7.1")],
)  # fmt: skip
def test_opus_gets_a_layout_with_room_for_each_channel(layout: str, becomes: str) -> None:
    assert fitting_layout("libopus", layout) == becomes


@pytest.mark.parametrize(
    ("layout", "becomes"), [("4.0", "4.0"), ("6.1", "6.1(back)"), ("5.1.2", "7.1"), ("22.2", "7.1")]
)
def test_aac_gets_what_it_can_store(layout: str, becomes: str) -> None:
    assert fitting_layout("aac", layout) == becomes


@pytest.mark.parametrize(
    ("codec", "container", "layout", "survives"),
    [("pcm_s16le", "mkv", "quad", False), ("pcm_s24le", "mkv", "5.1(side)", True), ("pcm_s16le", "mov", "quad", True),
     ("flac", "mp4", "3.1", False), ("flac", "mp4", "quad", True), ("flac", "mkv", "3.1", True)],
)  # fmt: skip
def test_where_only_the_number_of_channels_is_stored_their_places_are_lost(
    codec: str, container: str, layout: str, survives: bool
) -> None:
    assert survives_copy(codec, container, layout) is survives
