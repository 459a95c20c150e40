"""The real queue for the model check: the verbs and named queries themselves, on PostgreSQL and a folder.

Its clock can be moved: "time passes" moves every stored moment into the past, which is the same as a clock that ran on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.jobs.deeds import NODES
from tests.jobs.model import (
    LEASE_S,
    LIED,
    RETRY_AFTER_S,
    SUCCEEDED,
    WAIT_LIMIT_S,
    Attempt,
    Ending,
    Job,
    Lane,
    Processor,
    Refusal,
)
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts, jobs, lanes, new_jobs
from vidqueue.db.tables.jobs import JobFilter, JobRow, NewJob
from vidqueue.db.tables.lanes import LaneRow, NewLane, NewProcessor
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef, Canceled, Failed, Failure, Interrupted, Outcome, OutputDraft, Succeeded, Waiting
from vidqueue.jobs import control, reaper
from vidqueue.jobs.finish import Finished, finish
from vidqueue.jobs.finish_queue import FinishQueue
from vidqueue.progress import Progress
from vidqueue.storage.local import Storage
from vidqueue.storage.workspaces import Workspaces

# What a page of jobs does not tell. Moments as seconds, because -infinity is no datetime.
HIDDEN = """
SELECT j.id, j.title AS name, j.crashes, j.losses, j.waited_s, j.fence,
       extract(epoch FROM j.run_at) AS run_at, extract(epoch FROM j.queued_at) AS queued_at,
       extract(epoch FROM j.waits_since) AS waits_since,
       extract(epoch FROM j.cancel_requested_at) AS canceled_at, extract(epoch FROM j.expires_at) AS expires_at,
       (SELECT array_agg(e.kind ORDER BY e.number) FROM vidqueue.events e WHERE e.job_id = j.id) AS events,
       ARRAY(SELECT p.title FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
             WHERE d.job_id = j.id ORDER BY p.title) AS needs,
       coalesce((SELECT jsonb_agg(jsonb_build_array(a.number, a.fence, a.lane, a.outcome, a.error_code)
                                  ORDER BY a.number) FROM vidqueue.attempts a WHERE a.job_id = j.id), '[]') AS attempts
FROM vidqueue.jobs j
"""
LOOKS = (
    HIDDEN,
    "SELECT fence, extract(epoch FROM lease_expires_at) AS until FROM vidqueue.attempts WHERE ended_at IS NULL",
    "SELECT name, extract(epoch FROM served_at) AS at FROM vidqueue.owners WHERE served_at > '-infinity'",
    "SELECT id, job_id FROM vidqueue_report.invariant_violations",
    "SELECT id FROM vidqueue.files",
    "SELECT DISTINCT job_id FROM vidqueue.events",
    "SELECT extract(epoch FROM now()) AS at",
)
PUBLIC = [
    *("priority", "attempt", "failures", "max_attempts", "lane"),
    *("progress", "error_code", "version", "wait_reason", "position"),
]
STAMPS = ("run_at", "queued_at", "waits_since", "canceled_at", "expires_at")
VIOLATIONS = "SELECT pg_get_viewdef('vidqueue_report.invariant_violations') AS query"
MOMENTS = """
SELECT table_name, array_agg(column_name::text) AS columns FROM information_schema.columns
WHERE table_schema = 'vidqueue' AND table_name IN ('jobs', 'attempts', 'owners', 'lanes')
  AND data_type = 'timestamp with time zone' GROUP BY table_name
"""


@dataclass(frozen=True)
class Seen:
    """The whole queue at one moment (`at`, on the simulated clock)."""

    at: Decimal
    page: dict[UUID, JobRow]
    lanes: list[LaneRow]
    hidden: dict[UUID, dict[str, Any]]
    leases: dict[int, Decimal]
    served: dict[str, Decimal]
    violations: set[tuple[str, UUID]]
    files: set[UUID]
    stored: set[UUID]
    told_of: set[UUID]

    def broken(self, promise: str) -> set[UUID]:
        """The jobs of which a promise is broken."""
        return {job_id for name, job_id in self.violations if name == promise}

    def lane(self, name: str) -> dict[str, Any]:
        """A lane in the words of the model."""
        (row,) = [row for row in self.lanes if row.name == name]
        told = {name: getattr(row, name) for name in ("state", "paused", "blocked_by", "job_id", "attempt")}
        return told | {"warm": sorted(row.warm)}

    def job(self, job: Job) -> dict[str, Any]:
        """A job in the words of the model."""
        row, hidden = self.page[job.id], self.hidden[job.id]
        told = {
            name: hidden[name] for name in ("crashes", "losses", "waited_s", "fence", "needs", "events", "attempts")
        }
        told |= {name: getattr(row, name) for name in PUBLIC}
        return told | {"state": row.state.value, "outputs": [output["name"] for output in row.outputs]}


class World:
    """The database and the storage of a test, with an event loop of their own."""

    def __init__(self, runner: asyncio.Runner, database: Database, folder: Path) -> None:
        self._runner = runner
        self._database = database
        self._finishes = FinishQueue(database)
        self._storages = {node: _storage_of(folder, node) for node in NODES}
        self._storage = self._storages[NODES[0]]
        # How far the simulated clock is ahead of PostgreSQL's.
        self._ahead = Decimal(0)
        self._moments: dict[str, list[str]] = {}
        # The server has been there for as long as the simulated clock likes: no lease is held anew after its start.
        self._rescuer = reaper.Reaper(database, self._storage, UUID(int=0), lease_s=0, heartbeat=lambda: None)

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        """What an act came to."""
        return self._runner.run(_answer(act))

    def run_at_once(self, acts: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """What acts come to that race each other."""

        async def race() -> list[Any]:
            return await asyncio.gather(*(_answer(act) for act in acts))

        return self._runner.run(race())

    def clock(self) -> Decimal:
        """The simulated clock. PostgreSQL reads the same clock of the machine, in microseconds like here."""
        return Decimal(time.time_ns() // 1000) / 1_000_000 + self._ahead

    async def prepare(self, known: Sequence[Processor]) -> None:
        """Make the catalogue, and let the simulated clock count for the server's own start as well: long ago."""
        async with self._database.transaction() as connection:
            for processor in known:
                base_s, cap_s = processor.backoff
                new = NewProcessor(
                    name=processor.name,
                    device="cpu",
                    description="Known to the model.",
                    max_attempts=processor.max_attempts,
                    backoff_base_s=base_s,
                    backoff_cap_s=cap_s,
                )
                await lanes.register_processor(connection, new)
            for row in await (await connection.execute(MOMENTS)).fetchall():
                self._moments[row["table_name"]] = row["columns"]
            (view,) = await (await connection.execute(VIOLATIONS)).fetchall()
            aged = view["query"].replace("pg_postmaster_start_time()", "'-infinity'::timestamptz")
            await connection.execute(f"CREATE OR REPLACE VIEW vidqueue_report.invariant_violations AS {aged}")

    async def begin_anew(self, offered: list[Lane]) -> None:
        """An empty queue with these lanes."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "TRUNCATE vidqueue.jobs, vidqueue.lanes, vidqueue.owners, vidqueue.files, vidqueue.events CASCADE"
            )
            await connection.execute("ALTER SEQUENCE vidqueue.fences RESTART")
        for storage in self._storages.values():
            for file_id in list(storage.stored_ids()):
                storage.delete(file_id)
        await self.come(offered)

    async def come(self, offered: list[Lane]) -> None:
        """A daemon starts and offers these lanes."""
        for lane in offered:
            await self._offer(lane)

    async def _offer(self, lane: Lane) -> None:
        values: dict[str, Any] = {"device": lane.device, "takes": lane.takes, "processors": lane.processors}
        new = NewLane(
            node=lane.node, host="testhost", name=lane.name, vram_mb=lane.vram_mb, queue=f"lane:{lane.name}", **values
        )
        async with self._database.transaction() as connection:
            lane.id = await lanes.register(connection, new)

    async def pass_time(self, seconds: int) -> None:
        """Move every moment into the past. Without triggers: the clock changes no job, so nothing may tell of it."""
        async with self._database.transaction() as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            for table, columns in self._moments.items():
                changes = [f"{column} = {column} - make_interval(secs => {seconds})" for column in columns]
                if table == "jobs":
                    changes.append(f"rank = rank - {seconds}")
                await connection.execute(f"UPDATE vidqueue.{table} SET {', '.join(changes)}")
        self._ahead += seconds

    async def look(self) -> Seen:
        """Everything that is there, in one look."""
        async with self._database.transaction() as connection:
            page = await jobs.page(connection, JobFilter(limit=1000))
            offered = await lanes.page(connection, with_offline=True)
            async with connection.pipeline():
                cursors = [await connection.execute(query) for query in LOOKS]
            hidden, leases, served, violations, files, told_of, (now,) = [await cursor.fetchall() for cursor in cursors]
        return Seen(
            now["at"] + self._ahead,
            {job.id: job for job in page},
            offered,
            {row["id"]: row | self._seen_stamps(row) for row in hidden},
            {row["fence"]: row["until"] + self._ahead for row in leases},
            {row["name"]: row["at"] + self._ahead for row in served},
            {(row["id"], row["job_id"]) for row in violations},
            {row["id"] for row in files},
            {file_id for storage in self._storages.values() for file_id in storage.stored_ids()},
            {row["job_id"] for row in told_of},
        )

    def _seen_stamps(self, row: dict[str, Any]) -> dict[str, Decimal | None]:
        return {name: row[name] + self._ahead if row[name] is not None else None for name in STAMPS}

    # The doors.

    async def submit(
        self, job: Job, *, start_s: int = 0, deadline_s: int | None = None, request: str = ""
    ) -> tuple[UUID, bool]:
        """Queue a job that may start after and must start before so many seconds, under its name as idempotency key."""
        now = datetime.now(UTC)
        values: dict[str, Any] = {"device": job.device}
        new = NewJob(
            title=job.name,
            processor=job.processor.name,
            input={"videos": [f"vq:jobs/{needed.id}/text" for needed in job.needs]},
            owner=job.owner,
            vram_mb=job.vram_mb,
            priority=job.priority,
            max_attempts=job.max_attempts,
            lane=job.lane,
            run_at=now + timedelta(seconds=start_s) if start_s else None,
            expires_at=now + timedelta(seconds=deadline_s) if deadline_s else None,
            idempotency_key=job.name,
            request_hash=request,
            **values,
        )
        async with self._database.transaction() as connection:
            return await new_jobs.enqueue(connection, new)

    async def dispatch(self, lane: Lane) -> tuple[AttemptRef | None, Decimal]:
        """The lane's next ticket, and the exact moment of the choice."""
        assert lane.id is not None
        async with self._database.transaction() as connection:
            now = await (await connection.execute("SELECT extract(epoch FROM now()) AS at")).fetchone()
            given = (await attempts.dispatch(connection, [lane.id], lease_s=LEASE_S)).given
        assert now is not None
        return (given[0][0].ref if given else None), now["at"] + self._ahead

    async def begin(self, attempt: Attempt) -> bool:
        """Whether the lane may take the attempt in hand."""
        async with self._database.transaction() as connection:
            return await attempts.begin(connection, attempt.ref, lease_s=LEASE_S) is not None

    async def renew(self, attempt: Attempt) -> bool | None:
        """Whether someone wants the job to stop; None for a zombie."""
        async with self._database.transaction() as connection:
            renewed = await attempts.renew(connection, [attempt.ref], lease_s=LEASE_S)
        wanted = renewed.get(attempt.fence)
        return None if wanted is None else wanted.cancel

    async def note_progress(self, attempt: Attempt, fraction: float) -> None:
        """Say how far the work is."""
        async with self._database.transaction() as connection:
            await attempts.report(connection, attempt.ref, progress=Progress(fraction))

    async def finish(self, attempt: Attempt, ending: Ending) -> str | None:
        """The state that the job came to; None for a zombie."""
        storage = self._storages[attempt.lane.node]
        async with Workspaces(storage) as workspaces:
            workspace = await workspaces.begin(str(uuid4()))
            outcome = _outcome(ending, workspace)
            ended = await finish(
                self._database, storage, attempt.ref, outcome, workspace=workspace, together=self._finishes
            )
        return ended.state.value if isinstance(ended, Finished) else None

    async def rescue(self) -> set[int]:
        """Leases are looked at once; the fences of the attempts that were given back."""
        before = await self._open_fences()
        await self._rescuer._give_back_lost(leases=True)
        return before - await self._open_fences()

    async def _open_fences(self) -> set[int]:
        async with self._database.transaction() as connection:
            found = await connection.execute("SELECT fence FROM vidqueue.attempts WHERE ended_at IS NULL")
            return {row["fence"] for row in await found.fetchall()}

    async def expire(self) -> set[UUID]:
        """Deadlines are looked at once; the jobs that were ended."""
        before = await self._expired_jobs()
        await self._rescuer._expire()
        return await self._expired_jobs() - before

    async def _expired_jobs(self) -> set[UUID]:
        async with self._database.transaction() as connection:
            found = await connection.execute("SELECT id FROM vidqueue.jobs WHERE error_code = 'expired'")
            return {row["id"] for row in await found.fetchall()}

    async def restart(self, offered: list[Lane]) -> int:
        """The daemon of these lanes was killed and starts again; how many attempts it gives back."""
        orphans = await reaper.recover(self._database, self._storage, offered[0].node)
        await self.come(offered)
        return orphans

    async def leave(self, node: UUID) -> int:
        """The daemon of this node shuts down; how many attempts it gives back."""
        return await reaper.give_back(self._database, self._storage, node, Interrupted("the daemon shut down"))

    async def block(self, lane: Lane) -> None:
        """Block or unblock a lane, as it is now in the model."""
        assert lane.id is not None
        async with self._database.transaction() as connection:
            await lanes.block(connection, {lane.id: lane.blocked_by})

    async def pause(self, lane: Lane) -> None:
        """Pause a lane or let it go on, as it is now in the model."""
        async with self._database.transaction() as connection:
            await connection.execute("UPDATE vidqueue.lanes SET paused = %s WHERE id = %s", (lane.paused, lane.id))

    async def warmed(self, lane: Lane) -> None:
        """Write down what is warm on a lane, as it is now in the model."""
        assert lane.id is not None
        async with self._database.transaction() as connection:
            await lanes.warmed(connection, lane.id, [processor.name for processor in lane.warm])

    async def cancel(self, job: Job) -> None:
        """Ask for the end of a job."""
        await control.cancel(self._database, job.id, owner=job.owner)

    async def retry(self, job: Job) -> None:
        """Ask for a job once more."""
        await control.retry(self._database, job.id, owner=job.owner)

    async def prioritise(self, job: Job, priority: int, *, version: int) -> None:
        """Change the priority of a job that was read at this version."""
        await control.patch(self._database, job.id, {"priority": priority}, owner=job.owner, version=version)

    async def delete(self, job: Job) -> None:
        """Remove a job."""
        storage = self._storages[job.attempts[-1].lane.node] if job.attempts else self._storage
        await control.delete(self._database, storage, job.id, owner=job.owner)


def _storage_of(folder: Path, node: UUID) -> Storage:
    """The data folder of a node."""
    data_dir = folder / str(node)
    data_dir.mkdir()
    (data_dir / "node_id").write_text(str(node))
    return Storage(data_dir)


async def _answer(act: Coroutine[Any, Any, Any]) -> Any:
    """A refusal is an answer too."""
    try:
        return await act
    except VidqueueError as error:
        return Refusal(error.code)


def _outcome(ending: Ending, workspace: Path) -> Outcome:
    path = workspace / "text"
    if ending == SUCCEEDED:
        path.write_text("done")
    match ending.outcome:
        case "succeeded" | "failed" if ending in (SUCCEEDED, LIED):
            # The liar tells of an output that it did not write.
            return Succeeded((OutputDraft("text", path, "text/plain"),))
        case "failed":
            assert ending.code is not None
            return Failed(Failure.of(ending.code, "as told"), crashed=ending.crashed)
        case "interrupted":
            return Interrupted("as told", lost=ending.lost)
        case "waiting":
            return Waiting("peer_busy", "as told", RETRY_AFTER_S, limit_s=WAIT_LIMIT_S)
        case _:
            return Canceled()
