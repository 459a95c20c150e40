"""Channel layouts of sound: the layout for an encoder, and whether a stream copy preserves the layout. No IO."""

from __future__ import annotations

# The layouts of ffmpeg whose channels stand on one level, as the places of their channels.
_PLACES = {
    "mono": "FC",
    "stereo": "FL+FR",
    "2.1": "FL+FR+LFE",
    "3.0": "FL+FR+FC",
    "3.0(back)": "FL+FR+BC",
    "3.1": "FL+FR+FC+LFE",
    "4.0": "FL+FR+FC+BC",
    "4.1": "FL+FR+FC+LFE+BC",
    "quad": "FL+FR+BL+BR",
    "quad(side)": "FL+FR+SL+SR",
    "5.0": "FL+FR+FC+BL+BR",
    "5.0(side)": "FL+FR+FC+SL+SR",
    "5.1": "FL+FR+FC+LFE+BL+BR",
    "5.1(side)": "FL+FR+FC+LFE+SL+SR",
    "6.0": "FL+FR+FC+BC+SL+SR",
    "6.0(front)": "FL+FR+FLC+FRC+SL+SR",
    "hexagonal": "FL+FR+FC+BL+BR+BC",
    "6.1": "FL+FR+FC+LFE+BC+SL+SR",
    "6.1(back)": "FL+FR+FC+LFE+BL+BR+BC",
    "6.1(front)": "FL+FR+LFE+FLC+FRC+SL+SR",
    "7.0": "FL+FR+FC+BL+BR+SL+SR",
    "7.0(front)": "FL+FR+FC+FLC+FRC+SL+SR",
    "7.1": "FL+FR+FC+LFE+BL+BR+SL+SR",
    "7.1(wide)": "FL+FR+FC+LFE+BL+BR+FLC+FRC",
    "7.1(wide-side)": "FL+FR+FC+LFE+FLC+FRC+SL+SR",
    "octagonal": "FL+FR+FC+BL+BR+BC+SL+SR",
}
_MOST = "7.1"
# Layouts of Opus, from few channels to many; its surround channels at the side are called back channels.
OPUS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
# FLAC has eight channels at most; these are some of them above a listener.
_ON_TWO_LEVELS = frozenset({"3.1.2", "5.1.2", "5.1.2(back)", "cube"})
# Channels that AAC has elsewhere than the source.
_AAC = {"6.1": "6.1(back)", "7.1(wide-side)": "7.1(wide)"}
# Layouts that readers assume where a container stores only the number of channels.
_COUNTED_PCM = frozenset({
    "mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1", "7.1.4", "9.1.6", "22.2",
})  # fmt: skip
_COUNTED_FLAC = frozenset({"mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"})


def same_places(one: str, other: str) -> bool:
    """True if two layouts differ at most in whether their surround channels are called back or side."""
    return one.replace("(side)", "") == other.replace("(side)", "")


def fitting_layout(encoder: str, layout: str) -> str:
    """The layout in which an encoder gets sound of this one: with room for each channel, as far as it knows any."""
    if encoder == "flac":
        return layout
    if encoder != "libopus":
        return _AAC.get(layout, layout if layout in _PLACES else _MOST)
    return next((name for name in OPUS if layout in _PLACES and _has_room(name, layout)), _MOST)


def flac_holds(layout: str) -> bool:
    """True if FLAC can store all channels of this layout."""
    return layout in _PLACES or layout in _ON_TWO_LEVELS


def survives_copy(codec: str, container: str, layout: str) -> bool:
    """True if the container stores the places of the channels, or its readers guess them right."""
    counted = None
    if container == "mkv" and codec.startswith("pcm_"):
        counted = _COUNTED_PCM
    elif container == "mp4" and codec == "flac":
        counted = _COUNTED_FLAC
    return counted is None or layout.replace("(side)", "") in counted


def has_room(wider: str, layout: str) -> bool:
    """True if a layout has room for each channel of another one; False where either is not known."""
    return wider == layout or (wider in _PLACES and layout in _PLACES and _has_room(wider, layout))


def _has_room(wider: str, layout: str) -> bool:
    room, needed = set(_PLACES[wider].split("+")), set(_PLACES[layout].split("+"))
    if needed <= room:
        return True
    front = {"FL", "FR"} <= room
    middle = "FC" in room or not needed & {"FC", "FLC", "FRC"}
    deep = "LFE" in room or "LFE" not in needed
    pairs, backs = _surround(room)
    pairs_needed, backs_needed = _surround(needed)
    return front and middle and deep and pairs >= pairs_needed and pairs + backs >= pairs_needed + backs_needed


def _surround(places: set[str]) -> tuple[int, int]:
    """How many pairs of channels are behind or beside a listener, and whether there is one in the middle behind."""
    return ("BL" in places) + ("SL" in places), int("BC" in places)
