"""The open rooms of one process, as one value: what the verbs and the HTTP door are handed instead of globals."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.jobs.inputs import Inputs
from vidqueue.ops.watchdog import Watchdog
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import Storage


@dataclass(frozen=True, slots=True)
class Services:
    """Opened by the daemon, closed by the daemon."""

    settings: Settings
    database: Database
    event_feed: EventFeed
    storage: Storage
    inputs: Inputs
    watchdog: Watchdog = field(default_factory=Watchdog)
