"""The open rooms of one process, as one value: what the verbs and the HTTP door are handed instead of globals."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidqueue.channel import Channel
from vidqueue.config import Settings
from vidqueue.database import Database
from vidqueue.inputs import Inputs
from vidqueue.pulse import Pulse
from vidqueue.storage import Storage


@dataclass(frozen=True, slots=True)
class Rooms:
    """Opened by the daemon, closed by the daemon."""

    settings: Settings
    database: Database
    channel: Channel
    storage: Storage
    inputs: Inputs
    pulse: Pulse = field(default_factory=Pulse)
