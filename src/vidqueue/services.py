"""The open dependencies of one process, as one value, which is passed on instead of globals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.jobs.inputs import Inputs
from vidqueue.ops.watchdog import Watchdog
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import Storage


@dataclass(frozen=True, slots=True)
class Services:
    """The open dependencies of one process; the daemon opens and closes them.

    `pools` has every pool of database connections of the process by its name: each half's services have their own
    `database`, and all of them this. `on_reload` has what each half does once the processors were loaded anew.
    `stopping` is set once the daemon takes no more jobs because it ends.
    `origins` says where each key of the configuration was set, if not by its default.
    """

    settings: Settings
    database: Database
    event_feed: EventFeed
    storage: Storage
    inputs: Inputs
    watchdog: Watchdog = field(default_factory=Watchdog)
    pools: dict[str, Database] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    on_reload: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
