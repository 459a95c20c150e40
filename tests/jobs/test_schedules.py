"""Schedules by an injected clock: every time once, over changes of the clocks, stopped daemons and crashes."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.daemon import promised
from tests.factory import Queue
from vidqueue.db.tables.schedules import ScheduleRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import control, retention, schedules
from vidqueue.jobs.scheduler import Scheduler
from vidqueue.jobs.schedules import ScheduleRequest
from vidqueue.ops import cron, failpoints
from vidqueue.services import Services
from vidqueue.settings.entries import ScheduleSettings

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(expression: str, zone: str, begin: str, count: int) -> list[str]:
    found, moment = [], utc(begin)
    for _ in range(count):
        moment = cron.next_after(cron.check(expression), zone, moment)
        found.append(f"{moment:%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "begin", "expected"),
    [
        # The clocks go from 02:00 to 03:00 on 28 March 2027: 02:30 is at 03:30 summer time, once.
        ("30 2 * * *", BERLIN, "2027-03-27T00:00", ["03-27 01:30", "03-28 01:30", "03-29 00:30"]),
        # They go from 03:00 back to 02:00 on 31 October 2027: 02:30 comes twice and runs once.
        ("30 2 * * *", BERLIN, "2027-10-30T00:00", ["10-30 00:30", "10-31 00:30", "11-01 01:30"]),
        # Every hour goes on by real time.
        ("0 * * * *", BERLIN, "2027-03-27T23:30", ["03-28 00:00", "03-28 01:00", "03-28 02:00"]),
        ("0 * * * *", BERLIN, "2027-10-30T23:30", ["10-31 00:00", "10-31 01:00", "10-31 02:00"]),
        ("*/30 * * * *", BERLIN, "2027-10-31T00:00", ["10-31 00:30", "10-31 01:00", "10-31 01:30", "10-31 02:00"]),
        ("0 9 * * 1-5", BERLIN, "2027-03-26T09:00", ["03-29 07:00", "03-30 07:00"]),
        # Half an hour, in the other hemisphere.
        ("15 2 * * *", "Australia/Lord_Howe", "2027-10-01T12:00", ["10-01 15:45", "10-02 15:45", "10-03 15:15"]),
        ("0 0 29 2 *", "UTC", "2027-03-01T00:00", ["02-29 00:00"]),
        ("@daily", "America/New_York", "2027-03-13T12:00", ["03-14 05:00", "03-15 04:00"]),
    ],
)
def test_times_over_changes_of_the_clocks(expression: str, zone: str, begin: str, expected: list[str]) -> None:
    assert times(expression, zone, begin, len(expected)) == expected


def test_every_minute_of_a_day_with_a_change_comes_once() -> None:
    for day in ("2027-03-27T23:00", "2027-10-30T22:00"):
        found = times("*/15 * * * *", BERLIN, day, 40)
        moment = utc(day)
        assert found == [f"{moment + timedelta(minutes=15 * number):%m-%d %H:%M}" for number in range(1, 41)]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "0 0 30 2 *",
        "H * * * *",
        "a b c d e",
        "@never",
        "R * * * *",
        "* R(1-3) * * *",
        "0 h * * *",
    ],
)
def test_an_expression_that_is_not_valid_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="cron expression"):
        cron.check(expression)


class Timetable:
    """A schedule, a scheduler, and the clock that both go by."""

    def __init__(self, services: Services, queue: Queue) -> None:
        self.services = services
        self.queue = queue
        self.now = utc("2027-01-10T00:30")
        self.scheduler = self.another()

    def another(self) -> Scheduler:
        return Scheduler(self.services.database, self.services.inputs, lambda: None, lambda: self.now)

    async def add(self, expression: str = "0 * * * *", **more: Any) -> ScheduleRow:
        request = ScheduleRequest(**({"name": "nightly", "cron": expression, "job": {"processor": "zoo"}} | more))
        return await schedules.add(self.services.database, request, owner="local", now=self.now)

    async def at(self, text: str) -> None:
        self.now = utc(text)
        await self.scheduler.run_due()

    async def outcomes(self, schedule: UUID) -> list[tuple[str, str]]:
        found = await schedules.runs(self.services.database, schedule, owner="local")
        return [(f"{one.due_at.astimezone(UTC):%d %H:%M}", one.outcome) for one in reversed(found)]

    async def jobs(self) -> int:
        (found,) = await self.queue.sql("SELECT count(*) AS jobs FROM vidqueue.jobs")
        return int(found["jobs"])


@pytest.fixture
def timetable(services: Services, queue: Queue) -> Timetable:
    return Timetable(services, queue)


async def test_each_time_submits_one_job_whoever_looks(timetable: Timetable) -> None:
    schedule = await timetable.add()
    assert schedule.next_at == utc("2027-01-10T01:00")
    await timetable.at("2027-01-10T00:59")
    assert await timetable.jobs() == 0
    await timetable.at("2027-01-10T01:00")
    await timetable.at("2027-01-10T01:00")
    await timetable.at("2027-01-10T02:00:30")
    assert await timetable.outcomes(schedule.id) == [("10 01:00", "submitted"), ("10 02:00", "submitted")]
    assert await timetable.jobs() == 2


async def test_two_daemons_at_once_submit_one_job(timetable: Timetable) -> None:
    schedule = await timetable.add()
    timetable.now = utc("2027-01-10T01:00")
    await asyncio.gather(*(timetable.another().run_due() for _ in range(5)))
    assert (await timetable.jobs(), await timetable.outcomes(schedule.id)) == (1, [("10 01:00", "submitted")])


@pytest.mark.parametrize(("point", "jobs"), [("submit.before_commit", 0), ("submit.committed", 1)])
async def test_a_crash_at_the_commit_makes_no_second_job_and_loses_none(
    timetable: Timetable, monkeypatch: pytest.MonkeyPatch, point: str, jobs: int
) -> None:
    schedule = await timetable.add()

    async def dies(reached: str) -> None:
        if reached == point:
            raise RuntimeError("the daemon died")

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "reach", dies)
        with pytest.raises(RuntimeError):
            await timetable.at("2027-01-10T01:00")
    assert (await timetable.jobs(), len(await timetable.outcomes(schedule.id))) == (jobs, jobs)
    timetable.scheduler = timetable.another()
    await timetable.at("2027-01-10T01:00:20")
    assert (await timetable.jobs(), await timetable.outcomes(schedule.id)) == (1, [("10 01:00", "submitted")])


async def test_a_schedule_that_was_paused_after_the_look_submits_nothing(timetable: Timetable) -> None:
    schedule, database = await timetable.add(), timetable.services.database
    timetable.now = utc("2027-01-10T01:00")
    await schedules.change(database, schedule.id, {"paused": True}, owner="local", now=timetable.now)
    # As a scheduler that had read the row before.
    await timetable.scheduler._run_one(schedule)
    assert (await timetable.jobs(), await timetable.outcomes(schedule.id)) == (0, [])


@pytest.mark.parametrize(
    ("missed", "jobs", "outcomes"),
    [
        ("skip", 0, [("10 01:00", "missed")]),
        ("once", 1, [("10 01:00", "submitted")]),
        ("all", 3, [("10 01:00", "submitted"), ("10 02:00", "submitted"), ("10 03:00", "submitted")]),
    ],
)
async def test_times_at_which_no_daemon_ran(
    timetable: Timetable, missed: str, jobs: int, outcomes: list[tuple[str, str]]
) -> None:
    schedule = await timetable.add(missed=missed)
    for _ in range(4):
        await timetable.at("2027-01-10T03:30")
    assert (await timetable.jobs(), await timetable.outcomes(schedule.id)) == (jobs, outcomes)
    await timetable.at("2027-01-10T04:00")
    assert (await timetable.jobs(), (await timetable.outcomes(schedule.id))[-1]) == (
        jobs + 1,
        ("10 04:00", "submitted"),
    )


async def test_after_a_year_only_the_last_times_get_a_job_and_the_history_tells_which_were_left_out(
    timetable: Timetable,
) -> None:
    schedule = await timetable.add("* * * * *", missed="all")
    first = schedule.next_at
    begun = time.monotonic()
    await timetable.at("2028-01-10T03:30:30")
    assert time.monotonic() - begun < promised(2)
    (left_out,) = await schedules.runs(timetable.services.database, schedule.id, owner="local")
    assert (left_out.outcome, left_out.due_at, left_out.job_id) == ("missed", first, None)
    assert "until before 2028-01-10T01:51:00+00:00" in str(left_out.error)
    for _ in range(101):
        await timetable.at("2028-01-10T03:30:30")
    assert await timetable.jobs() == 100
    assert (await timetable.outcomes(schedule.id))[-1] == ("10 03:30", "submitted")


async def test_one_at_a_time_leaves_times_out_until_the_job_has_ended(timetable: Timetable) -> None:
    schedule = await timetable.add(one_at_a_time=True)
    await timetable.at("2027-01-10T01:00")
    await timetable.at("2027-01-10T02:00")
    await timetable.queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now()")
    await timetable.at("2027-01-10T03:00")
    found = [outcome for _, outcome in await timetable.outcomes(schedule.id)]
    assert found == ["submitted", "overlapped", "submitted"]


async def test_a_refused_job_is_told_in_the_history_and_the_schedule_goes_on(timetable: Timetable) -> None:
    schedule = await timetable.add(missed="once")
    await timetable.queue.sql("""UPDATE vidqueue.schedules SET job = '{"processor": "gone"}'""")
    await timetable.at("2027-01-10T01:00")
    (run,) = await schedules.runs(timetable.services.database, schedule.id, owner="local")
    assert (run.outcome, (run.error or "").partition(":")[0]) == ("refused", "unknown_processor")
    assert (await schedules.read(timetable.services.database, schedule.id, owner="local")).next_at > timetable.now


async def test_a_pause_and_a_change_count_from_now(timetable: Timetable) -> None:
    schedule, database = await timetable.add(), timetable.services.database
    paused = await schedules.change(database, schedule.id, {"paused": True}, owner="local", now=timetable.now)
    assert paused.paused
    await timetable.at("2027-01-10T05:30")
    assert await timetable.jobs() == 0
    changes = {"paused": False, "cron": "30 6 * * *", "timezone": BERLIN}
    resumed = await schedules.change(database, schedule.id, changes, owner="local", now=timetable.now)
    assert resumed.next_at == utc("2027-01-11T05:30")
    for wrong in ({"cron": "x"}, {"timezone": "Moon/Base"}, {"job": {"processor": "zoo", "input": {"act": "fly"}}}):
        with pytest.raises(VidqueueError):
            await schedules.change(database, schedule.id, wrong, owner="local", now=timetable.now)
    with pytest.raises(VidqueueError) as caught:
        await timetable.add()
    assert caught.value.code == "conflict"
    await schedules.remove(database, schedule.id, owner="local")
    with pytest.raises(VidqueueError):
        await schedules.read(database, schedule.id, owner="local")


async def test_a_change_of_the_job_keeps_the_next_time(timetable: Timetable) -> None:
    schedule, database = await timetable.add(), timetable.services.database
    timetable.now = utc("2027-01-10T01:00:30")
    changes = {"job": {"processor": "zoo", "title": "new"}}
    changed = await schedules.change(database, schedule.id, changes, owner="local", now=timetable.now)
    assert changed.next_at == schedule.next_at
    await timetable.at("2027-01-10T01:00:31")
    assert await timetable.outcomes(schedule.id) == [("10 01:00", "submitted")]


async def test_each_run_is_an_event_of_the_owner(timetable: Timetable) -> None:
    schedule = await timetable.add(one_at_a_time=True)
    await timetable.at("2027-01-10T01:00")
    await timetable.at("2027-01-10T02:00")
    told = await timetable.queue.sql(
        "SELECT owner, job_id, data FROM vidqueue.events WHERE kind = 'schedule' ORDER BY number"
    )
    assert [(one["owner"], one["job_id"], one["data"]["outcome"]) for one in told] == [
        ("local", None, "submitted"),
        ("local", None, "overlapped"),
    ]
    assert {one["data"]["schedule"] for one in told} == {str(schedule.id)}


async def test_a_time_zone_that_is_gone_pauses_its_schedule_and_no_other(timetable: Timetable) -> None:
    broken = await timetable.add()
    well = await timetable.add(name="well")
    await timetable.queue.sql("UPDATE vidqueue.schedules SET timezone = 'Moon/Base' WHERE name = 'nightly'")
    await timetable.at("2027-01-10T01:00")
    assert await timetable.outcomes(broken.id) == [("10 01:00", "refused")]
    assert await timetable.outcomes(well.id) == [("10 01:00", "submitted")]
    assert (await schedules.read(timetable.services.database, broken.id, owner="local")).paused


async def test_a_job_of_a_schedule_has_no_time_of_its_own(timetable: Timetable) -> None:
    with pytest.raises(ValueError, match="no run_at"):
        await timetable.add(job={"processor": "zoo", "run_at": "2027-01-10T00:00:00Z"})


async def test_what_a_schedule_names_is_kept(timetable: Timetable) -> None:
    services, job_id = timetable.services, await timetable.queue.submit()
    await timetable.queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now()")
    file_id = UUID(int=7)
    await timetable.queue.sql(
        "INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256, node)"
        " VALUES (%s, 'local', 'a.mp4', 'video/mp4', 1, repeat('0', 64), %s)", file_id, services.storage.node
    )  # fmt: skip
    given = {"media": f"vq:files/{file_id}", "marker": f"vq:jobs/{job_id}/video"}
    schedule = await timetable.add(job={"processor": "zoo", "input": given})
    for act in (
        control.delete(services.database, services.storage, job_id, owner="local"),
        control.delete_file(services.database, services.storage, file_id, owner="local"),
    ):
        with pytest.raises(VidqueueError, match="a schedule needs it"):
            await act
    await schedules.remove(services.database, schedule.id, owner="local")
    await control.delete(services.database, services.storage, job_id, owner="local")
    await control.delete_file(services.database, services.storage, file_id, owner="local")


async def test_the_history_goes_by_count_and_by_age(timetable: Timetable) -> None:
    schedule, services = await timetable.add(), timetable.services
    await timetable.queue.sql(
        "INSERT INTO vidqueue.schedule_runs (schedule_id, due_at, outcome, at)"
        " SELECT %s, '2026-01-01'::timestamptz + n * interval '1 hour', 'missed', now() - interval '1 day'"
        " FROM generate_series(1, 1200) n", schedule.id
    )  # fmt: skip
    await timetable.at("2027-01-10T01:00")
    runs = await schedules.runs(services.database, schedule.id, owner="local")
    assert (len(runs), runs[0].outcome) == (1000, "submitted")
    await timetable.queue.sql(
        "UPDATE vidqueue.schedule_runs SET at = now() - interval '91 days' WHERE outcome = 'missed'"
    )
    await timetable.queue.sql("UPDATE vidqueue.events SET at = now() - interval '31 days' WHERE job_id IS NULL")
    gone = await retention.prune(services.database, services.storage, services.settings.retention)
    assert (gone["schedule_runs"], gone["events_of_no_job"]) == (999, 1201)
    assert len(await schedules.runs(services.database, schedule.id, owner="local")) == 1


def entry(name: str, expression: str = "0 * * * *", **more: Any) -> ScheduleSettings:
    return ScheduleSettings(name=name, cron=expression, **({"job": {"processor": "zoo"}} | more))


async def test_schedules_of_a_configuration_come_stay_and_go_with_it(timetable: Timetable) -> None:
    database, node = timetable.services.database, UUID(int=1)

    async def started(*entries: ScheduleSettings, by: UUID = node) -> list[str]:
        await schedules.declare(database, entries, by, timetable.now)
        return [one.name for one in await schedules.of_owner(database, owner="local")]

    assert await started(entry("a"), entry("b")) == ["a", "b"]
    (first, _) = await schedules.of_owner(database, owner="local")
    for act in (
        schedules.remove(database, first.id, owner="local"),
        schedules.change(database, first.id, {"cron": "1 * * * *"}, owner="local", now=timetable.now),
    ):
        with pytest.raises(VidqueueError, match="in the configuration"):
            await act
    await schedules.change(database, first.id, {"paused": True}, owner="local", now=timetable.now)
    # The daemon was stopped over a time: that one is missed, and not forgotten.
    timetable.now = utc("2027-01-10T05:30")
    assert await started(entry("a"), entry("b", missed="skip")) == ["a", "b"]
    (paused, late) = await schedules.of_owner(database, owner="local")
    assert (paused.paused, late.next_at) == (True, utc("2027-01-10T01:00"))
    # Another daemon's configuration takes nothing away.
    assert await started(entry("c"), by=UUID(int=2)) == ["a", "b", "c"]
    assert await started(entry("b", "5 * * * *")) == ["b", "c"]
    with pytest.raises(VidqueueError, match="schedules: b: "):
        await started(entry("b", job={"processor": "zoo", "input": {"act": "fly"}}))


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("*/15 * * * *", "UTC"),
        ("30 2 * * *", "Europe/Berlin"),
        ("*/20 1-3 * * *", "Europe/Berlin"),
        ("0 0 29 2 *", "UTC"),
    ],
)
def test_the_last_times_are_the_same_however_they_are_found(expression: str, zone: str) -> None:
    since, until = utc("2027-10-25T00:00"), utc("2027-11-05T12:00")
    times, moment = list[datetime](), since
    while (moment := cron.next_after(expression, zone, moment)) <= until:
        times.append(moment)
    for count in (1, 10, 40):
        found = cron.among_last(expression, zone, until, count, since=times[0] if times else since)
        assert found == (times[-count:][0] if times else since)
