"""Processor `verify`: decodes every picture and all sound of a file, and reports damaged and missing parts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar

from pydantic import Field

from vidqueue.errors import VidqueueError
from vidqueue.formats import allowed
from vidqueue.job import OutputDraft
from vidqueue.media import ffmpeg
from vidqueue.media.facts import AudioFacts, MediaFacts, VideoFacts
from vidqueue.media.inspection import Inspected, Range, inspect
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import CUT_SHORT, probe
from vidqueue.media.source import check_source, unchanged
from vidqueue.processors.base import Context, MediaInput, Parameters, Processor
from vidqueue.processors.parts.reporting import remarks_logged, stage_reporter
from vidqueue.progress import Progress

# The most ranges in the report for each stream, and in the facts for all streams.
_MOST_RANGES = 1000
_MOST_IN_FACTS = 100


class VerifyParams(Parameters):
    """Parameters of `verify`."""

    media: MediaInput
    fail_if_damaged: bool = Field(
        False, description="Fail with `media_damaged` instead of a report, as a gate before other jobs."
    )


class Verify(Processor):
    """Decode everything in a video or sound file, and report damaged and missing parts with their times."""

    name = "verify"
    deterministic: ClassVar[bool] = True
    Params: ClassVar[type[Parameters]] = VerifyParams

    def run(self, params: VerifyParams, ctx: Context) -> list[OutputDraft]:
        """Probe, decode, and return the report."""
        with unchanged(ctx.inputs["media"]):
            report = _report(ctx)
        for sentence in report["damage"]:
            ctx.log(sentence, "warning")
        if params.fail_if_damaged and not report["ok"]:
            raise VidqueueError("media_damaged", " ".join(report["damage"])[:500])
        path = ctx.output_path("report.json")
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        ranges = [
            {"stream": stream["index"], **part} for stream in report["streams"] for part in stream["ranges"]
        ] + report["lost"]
        facts = {
            "ok": report["ok"], "duration_s": report["duration_s"], "ranges": ranges[:_MOST_IN_FACTS],
            "warnings": report["damage"],
        }  # fmt: skip
        return [OutputDraft("report", path, "application/json", facts)]


def _report(ctx: Context) -> dict[str, Any]:
    ctx.progress(Progress(0.0, "probe"))
    path = ctx.inputs["media"]
    facts = probe(path, ctx.limits, ctx.canceled, whole=True)
    streams = _decodable(facts, ctx)
    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
    tally = ffmpeg.Tally()
    with remarks_logged(ctx.log, tally):
        found = inspect(
            check_source(path), facts, streams, bounds, tally,
            stage_reporter(ctx.progress, "decode", facts.duration_s, begin=0.05),
        )  # fmt: skip
    lost = _lost(facts)
    damage = [
        *_damage(facts, found),
        *(sentence for place, one in enumerate(found) for sentence in _said(one, found[:place])),
    ]
    checked = {one.index for one in found}
    return {
        "ok": not damage,
        "container": facts.container,
        "duration_s": facts.duration_s,
        "damage": damage,
        "lost": [_as_json(part) for part in lost],
        "streams": [_stream(one) for one in found],
        "not_checked": [*facts.left_out, *_unchecked(facts, checked)],
        "messages": [f"{level}: {text}" for level, text in tally.remarks],
    }


def _damage(facts: MediaFacts, found: Iterable[Inspected]) -> list[str]:
    """What the probe found, without marks of the container on packets whose pictures are all there.

    Where recordings are joined, the first packet behind the joint has such a mark.
    """
    shown = [one for one in found if facts.video and one.index == facts.video.index]
    whole = bool(shown) and shown[0].sound and shown[0].decoded == shown[0].expected
    return [said for said in facts.damage if not (whole and said.endswith(CUT_SHORT))]


def _decodable(facts: MediaFacts, ctx: Context) -> list[VideoFacts | AudioFacts]:
    accepted = allowed(ctx.limits.formats).video
    videos = [one for one in facts.videos if one.codec in accepted and one.frames and not one.attached_picture]
    if any(one.encrypted for one in videos):
        raise VidqueueError("encrypted", "The video is encrypted.")
    streams: list[VideoFacts | AudioFacts] = [*videos, *facts.audios]
    if not streams:
        raise VidqueueError("no_video_stream", "The file has neither pictures nor sound that can be decoded.")
    return streams


def _lost(facts: MediaFacts) -> list[Range]:
    """Return what the header announces beyond the end of the file."""
    declared = facts.declared_duration_s
    if not facts.damage or not declared or facts.duration_s >= declared * 0.98 - 0.1:
        return []
    return [Range(facts.duration_s, declared, "missing")]


def _said(one: Inspected, before: Iterable[Inspected]) -> list[str]:
    place = 1 + sum(other.kind == one.kind for other in before)
    if one.kind == "audio":
        return [f"{one.refused} packets of sound track {place} cannot be decoded."] if one.refused else []
    which = "" if place == 1 else f" of video track {place}"
    said = [f"{one.missing} of {one.expected} pictures{which} cannot be decoded."] if one.missing else []
    return said + ([f"{one.damaged} of {one.expected} pictures{which} are visibly damaged."] if one.damaged else [])


def _stream(one: Inspected) -> dict[str, Any]:
    told = asdict(one) | {"ranges": [_as_json(part) for part in one.ranges[:_MOST_RANGES]]}
    return told | {"ranges_left_out": max(0, len(one.ranges) - _MOST_RANGES)}


def _as_json(part: Range) -> dict[str, Any]:
    return {"start_s": round(part.start_s, 4), "end_s": round(part.end_s, 4), "what": part.what, "count": part.count}


def _unchecked(facts: MediaFacts, checked: set[int]) -> list[str]:
    said = [
        f"Video track {place} ({one.codec or 'unknown'}) was not decoded."
        for place, one in enumerate(facts.videos, start=1)
        if one.index not in checked
    ]
    return said + ([f"{facts.subtitles} subtitle tracks were not decoded."] if facts.subtitles else [])
