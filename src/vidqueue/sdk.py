"""The public module for processors of one's own: everything that a processor needs, and nothing that may change.

Names and signatures here are stable. `docs/write-a-processor.md` shows how they are used; `vidqueue.testing` has what
tests of a processor need.
"""

from __future__ import annotations

from vidqueue.errors import CanceledError, RefusedError, VidqueueError, WaitingError
from vidqueue.job import Backoff
from vidqueue.job import OutputDraft as Output
from vidqueue.media.facts import AudioFacts, MediaFacts, VideoFacts
from vidqueue.processors.base import (
    AudioInput,
    Context,
    ImageInput,
    MediaInput,
    Parameters,
    Processor,
    VideoInput,
    settings_of,
)
from vidqueue.processors.model_cache import ModelCache
from vidqueue.processors.programs import Ran
from vidqueue.progress import Progress
from vidqueue.settings.entries import Section

__all__ = [
    "AudioFacts",
    "AudioInput",
    "Backoff",
    "CanceledError",
    "Context",
    "ImageInput",
    "MediaFacts",
    "MediaInput",
    "ModelCache",
    "Output",
    "Parameters",
    "Processor",
    "Progress",
    "Ran",
    "RefusedError",
    "Section",
    "VideoFacts",
    "VideoInput",
    "VidqueueError",
    "WaitingError",
    "settings_of",
]
