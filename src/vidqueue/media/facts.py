"""The facts of a media file: values that are sent between processes and stored in the database. No IO."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from vidqueue.media.joining import steps_up_to

MULTIVIEW = "multiview"  # the second view is a layer of its own, as in MV-HEVC

Ratio = Annotated[
    Fraction,
    BeforeValidator(lambda value: Fraction(value) if isinstance(value, str | int) else value),
    PlainSerializer(str, return_type=str, when_used="json"),
]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class Colour(_Facts):
    """The colour tags of a video stream, in ffmpeg's words; None where the file does not say.

    Attributes:
        range: `tv` (limited) or `pc` (full).
        space: the matrix, such as `bt709` or `bt2020nc`.
        primaries: such as `bt709` or `bt2020`.
        transfer: such as `bt709`, `smpte2084` (PQ) or `arib-std-b67` (HLG).
    """

    range: str | None = None
    space: str | None = None
    primaries: str | None = None
    transfer: str | None = None

    @property
    def is_hdr(self) -> bool:
        """True if the transfer function is one of the two used for high dynamic range."""
        return self.transfer in {"smpte2084", "arib-std-b67"}


# How many pixels share one sample of colour, across and down, by parts of names of pixel formats.
_COLOUR_STEPS = {
    "420": (2, 2), "nv12": (2, 2), "nv21": (2, 2), "p01": (2, 2), "422": (2, 1), "nv16": (2, 1), "p21": (2, 1),
    "440": (1, 2), "411": (4, 1), "410": (4, 4),
}  # fmt: skip


class VideoFacts(_Facts):
    """One video stream.

    Attributes:
        index: number of the stream in the file.
        width: stored width in pixels, before rotation; `height` as well.
        sar: shape of one stored pixel, width to height.
        leading: packets before the first key picture, which cannot be shown and are not among `frames`.
        early: pictures shown before the first key picture, `early_s` long; a decoder may have to leave them out.
        hidden: packets that an edit list hides, which are not among `frames`; `untimed` are those without a time.
        encrypted: True if the packets can be read with a key only.
        clock_restarts: True if the file's clock begins again or jumps; times are counted from the beginning then.
        clock_step_s: the longest step of such a clock within a part, in seconds; 0 where ffmpeg itself expects parts.
            `clock_by_packets` is True if the times of sound are made of the lengths of its packets there, and
            `clock_late_s` makes room for pictures without a time.
        decoder: where ffmpeg's usual one does not see everything.
        frames: packets that are to be shown; decoding may yield fewer where the file is damaged.
        fps: average pictures per second; 0 of a single one.
        cropping: pixels that a player hides at the left, right, top and bottom.
        projection: how a 360 degree video is laid out, in ffmpeg's words, such as `equirectangular`.
        stereo: how a picture holds the views of both eyes, in ffmpeg's words, such as `side by side`; or MULTIVIEW.
        dolby_vision: its profile; `dolby_vision_base` tells which other screens can show it, 0 for none.
        rotation: degrees clockwise that a player must turn the picture: 0, 90, 180 or 270.
        start_s: time of the first picture on the file's own clock, in seconds.
        duration_s: from the first picture to the end of the last, in seconds.
        last_duration: how long the last picture stays, in ticks; 0 when unknown.
        longest_gap_s: the longest time between two pictures, in seconds; `key_gap_s` that without a key picture.
    """

    index: int
    codec: str
    profile: str | None = None
    width: int
    height: int
    sar: Ratio = Fraction(1)
    pixel_format: str
    decoder: str | None = None
    bit_depth: int = 8
    colour: Colour = Colour()
    interlaced: bool = False
    fps: float
    frames: int
    leading: int = 0
    early: int = 0
    early_s: float = 0.0
    hidden: int = 0
    untimed: int = 0
    encrypted: bool = False
    clock_restarts: bool = False
    clock_step_s: float = 0.0
    clock_by_packets: bool = False
    clock_late_s: float = 0.0
    time_base: Ratio
    is_vfr: bool = False
    cropping: tuple[int, int, int, int] = (0, 0, 0, 0)
    dolby_vision: int | None = None
    dolby_vision_base: int | None = None
    projection: str | None = None
    stereo: str | None = None
    rotation: int = 0
    start_s: float = 0.0
    duration_s: float = 0.0
    last_duration: int = 0
    longest_gap_s: float = 0.0
    key_gap_s: float = 0.0
    default: bool = False
    attached_picture: bool = False

    @property
    def joining(self) -> tuple[str, ...]:
        """The arguments of ffmpeg, before the input, that join parts which were appended to each other."""
        return steps_up_to(self.clock_step_s, sound_by_packets=self.clock_by_packets, late_s=self.clock_late_s)

    @property
    def reading(self) -> tuple[str, ...]:
        """The same, with those that choose the decoder."""
        return (*self.joining, *((f"-c:{self.index}", self.decoder) if self.decoder else ()))

    @property
    def longest_frame_s(self) -> float:
        """How long one picture is shown at most, in seconds."""
        return max(self.longest_gap_s, float(self.last_duration * self.time_base))

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in pixels as a player shows them, cropping and rotation applied, pixel shape not."""
        width, height = self.width, self.height
        if any(self.cropping):
            left, right, top, bottom = self.cropping
            # ffmpeg crops whole samples of colour only, so an odd last line goes with the cropping.
            across, down = next((steps for name, steps in _COLOUR_STEPS.items() if name in self.pixel_format), (1, 1))
            width, height = width - left - right, height - top - bottom
            width, height = max(1, width - width % across), max(1, height - height % down)
        return (height, width) if self.rotation in (90, 270) else (width, height)

    @property
    def upright_sar(self) -> Fraction:
        """Shape of one pixel after rotation."""
        return 1 / self.sar if self.rotation in (90, 270) else self.sar


class AudioFacts(_Facts):
    """One audio stream; times in seconds. `clock_step_s` and `clock_by_packets` are as those of pictures.

    Attributes:
        start_s: on the file's own clock.
        duration_s: from the first packet to the end of the last one.
        heard_s: the packets' own lengths together, which no clock changes; 0 where they do not say it.
        cut: True if an edit list hides a part in the middle.
        language: ISO 639-2, such as `eng`; `marks` are what the track is for, such as `comment`.
    """

    index: int
    codec: str
    sample_rate: int
    channel_layout: str | None = None
    start_s: float = 0.0
    duration_s: float = 0.0
    heard_s: float = 0.0
    clock_step_s: float = 0.0
    clock_by_packets: bool = False
    cut: bool = False
    default: bool = False
    language: str | None = None
    marks: tuple[str, ...] = ()

    @property
    def joining(self) -> tuple[str, ...]:
        """As those of pictures."""
        return steps_up_to(self.clock_step_s, sound_by_packets=self.clock_by_packets)


class SubtitleFacts(_Facts):
    """One track of subtitles; `codec` is empty where ffmpeg does not know it, `marks` are as those of sound."""

    index: int
    codec: str = ""
    default: bool = False
    forced: bool = False
    language: str | None = None
    marks: tuple[str, ...] = ()


class MediaFacts(_Facts):
    """What a probe found.

    Attributes:
        container: ffmpeg's name of the format, such as `mov` or `matroska`.
        size: in bytes.
        start_s: where the file's clock starts, in seconds.
        duration_s: of the chosen video track, else of the longest audio, from its packets, in seconds.
        declared_duration_s: what the header says, in seconds; None when it says nothing.
        video: the track that processors work on; None when no stream has moving or still pictures.
        audio: the track to prefer, when there are several.
        other_videos: further moving pictures, except those of another program; `covers` are pictures of the file.
        left_out: sentences about sound tracks that are not among `audios`: of another program, empty, or not readable.
        unread_audio: codecs of sound tracks that are left out because they are not accepted.
        subtitles: how many subtitle tracks; `chapters`, `attachments` (fonts, covers) as well.
        data_tracks: how many tracks of other data there are, those of a timecode and of chapters aside.
        is_still: whether the picture does not move.
        damage: sentences about what is visibly wrong; empty for a sound file.
        estimated: True if the file has more packets than were read; frames and durations are then projections.
    """

    container: str
    size: int
    start_s: float = 0.0
    duration_s: float = 0.0
    declared_duration_s: float | None = None
    video: VideoFacts | None = None
    videos: tuple[VideoFacts, ...] = ()
    audio: AudioFacts | None = None
    audios: tuple[AudioFacts, ...] = ()
    left_out: tuple[str, ...] = ()
    other_videos: int = 0
    covers: int = 0
    unread_audio: tuple[str, ...] = ()
    other_streams: int = 0
    subtitles: int = 0
    chapters: int = 0
    attachments: int = 0
    data_tracks: int = 0
    subtitle_tracks: tuple[SubtitleFacts, ...] = ()
    is_still: bool = False
    damage: tuple[str, ...] = ()
    estimated: bool = False

    @property
    def described_streams(self) -> list[int]:
        """Indices of the streams whose tags say something: picture, sound, subtitles."""
        video = [self.video.index] if self.video else []
        return [*video, *(one.index for one in self.audios), *(one.index for one in self.subtitle_tracks)]

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON values; `MediaFacts.model_validate` reads them back."""
        return self.model_dump(mode="json")


def late_of(facts: MediaFacts, video: VideoFacts) -> float:
    """How long after the beginning of the file, which may be that of its sound, the first picture is shown."""
    return 0.0 if video.clock_restarts or facts.is_still else max(0.0, video.start_s - facts.start_s)


def end_of(facts: MediaFacts, video: VideoFacts) -> float:
    """When the pictures of a file end, in seconds from its beginning."""
    return late_of(facts, video) + video.duration_s


def choose_video(videos: tuple[VideoFacts, ...]) -> VideoFacts | None:
    """Choose the track to work on: moving before still, the default before others, then most frames, then pixels.

    ffmpeg itself prefers the largest picture, which in a phone's motion photo is a two-frame preview.
    """
    candidates = [video for video in videos if not video.attached_picture]
    return max(
        candidates,
        key=lambda one: (one.frames > 1, one.default, one.frames, one.width * one.height, -one.index),
        default=None,
    )


def choose_audio(audios: tuple[AudioFacts, ...]) -> AudioFacts | None:
    """Choose the audio track that is marked as default, else the first."""
    return next((audio for audio in audios if audio.default), audios[0] if audios else None)


def projected(facts: MediaFacts, bytes_read: int) -> MediaFacts:
    """Facts of a whole file, estimated from those of its beginning, whose packets have that many bytes."""
    seen_s = max((*(one.duration_s for one in facts.videos), *(one.duration_s for one in facts.audios), 0.0))
    share = min(1.0, max(bytes_read, 1) / facts.size)
    duration_s = max(facts.declared_duration_s or seen_s / share, seen_s)

    def video(one: VideoFacts) -> VideoFacts:
        frames = max(one.frames, round(one.fps * duration_s))
        return one.model_copy(update={"duration_s": duration_s, "frames": frames})

    return facts.model_copy(
        update={
            "duration_s": duration_s,
            "video": facts.video and video(facts.video),
            "videos": tuple(map(video, facts.videos)),
            "audio": facts.audio and facts.audio.model_copy(update={"duration_s": duration_s}),
            "audios": tuple(one.model_copy(update={"duration_s": duration_s}) for one in facts.audios),
            "estimated": True,
        }
    )
