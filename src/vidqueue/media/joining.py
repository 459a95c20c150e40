"""The arguments with which ffmpeg goes on by the lengths of packets where the clock of a file steps too far. No IO."""

from __future__ import annotations

# Where a step is too long, or a time is missing, the next packet follows when the one before ends. ffmpeg does that by
# itself where it knows how long all packets of a stream are, but not for Opus and Vorbis.
_STEP_OF_SOUND = (
    "if(eq(PTS,NOPTS)+eq(PREV_INPTS,NOPTS)+not(between((PTS-PREV_INPTS)*TB,0,{seconds:.3f})),PREV_INDURATION,"
    "PTS-PREV_INPTS)"
)


def steps_up_to(seconds: float, *, sound_by_packets: bool, late_s: float = 0.0) -> tuple[str, ...]:
    """The arguments, before an input, that let ffmpeg ignore longer steps of its clock; none for 0.

    Args:
        seconds: the longest step that counts.
        sound_by_packets: whether the times of sound are made of the lengths of its packets, and not by its decoder.
        late_s: by how much times are moved where there is no such step.
    """
    if not seconds:
        return ("-itsoffset", f"{late_s:.3f}") if late_s else ()
    if not sound_by_packets:
        return ("-dts_error_threshold", f"{seconds:.3f}")
    step = _STEP_OF_SOUND.format(seconds=seconds)
    sound = f"setts=ts='if(eq(N,0),PTS,PREV_OUTPTS+{step})'"
    return ("-dts_error_threshold", f"{seconds:.3f}", "-bsf:a", sound)
