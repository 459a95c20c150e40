"""What is old goes, whole and in small batches; what anything unfinished needs stays."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.factory import Queue
from tests.jobs.stock import Stock
from vidqueue.db.tables import files, jobs
from vidqueue.errors import VidqueueError
from vidqueue.jobs import control, removal, retention
from vidqueue.jobs.reconcile import reconcile
from vidqueue.settings.sections import RetentionSettings
from vidqueue.storage.local import Storage

FOR_EVER = RetentionSettings(jobs_days=0, logs_days=0, events_days=0, uploads_days=0)


@pytest.fixture
def stock(any_queue: Queue, tmp_path: Path) -> Stock:
    (tmp_path / "scratch").mkdir()
    return Stock(any_queue, Storage(tmp_path / "data"), tmp_path / "scratch")


async def prune(stock: Stock, settings: RetentionSettings | None = None) -> dict[str, int]:
    """Prune, and tell what went; the promises hold whatever went."""
    gone = await retention.prune(stock.queue.database, stock.storage, settings or RetentionSettings())
    assert await stock.queue.violations() == []
    return {name: number for name, number in gone.items() if number}


async def test_an_old_finished_job_goes_with_its_log_events_output_and_bytes(stock: Stock) -> None:
    old, young = await stock.finished(days=91), await stock.finished(days=89)
    assert (await prune(stock))["jobs"] == 1
    assert await stock.jobs() == {young}
    assert await stock.files() == {await stock.output_of(young)}
    for table in ("events", "attempt_logs", "attempts", "outputs"):
        assert await stock.count(table, old) == 0, table


async def test_everything_stays_for_ever_where_the_settings_say_so(stock: Stock) -> None:
    job_id, upload = await stock.finished(days=5000), await stock.uploaded(days=5000)
    assert await prune(stock, FOR_EVER) == {}
    assert await stock.jobs() == {job_id}
    assert await stock.files() == {await stock.output_of(job_id), upload}
    assert await stock.count("attempt_logs", job_id) == 2


async def test_a_job_that_is_not_finished_stays_however_old_it_is(stock: Stock) -> None:
    running, waiting = [await stock.queue.submit() for _ in range(2)]
    await stock.queue.dispatch(await stock.queue.lane())
    await stock.queue.sql("UPDATE vidqueue.jobs SET created_at = now() - interval '999 days'")
    await stock.queue.sql("UPDATE vidqueue.events SET at = now() - interval '999 days'")
    assert await prune(stock) == {}
    assert await stock.jobs() == {running, waiting}
    assert await stock.count("events", running) == 2


async def test_logs_and_events_go_before_their_job(stock: Stock) -> None:
    old, young = await stock.finished(days=31), await stock.finished(days=29)
    assert await prune(stock) == {"logs": 2, "events": 3}
    assert await stock.jobs() == {old, young}
    assert [await stock.count("attempt_logs", job_id) for job_id in (old, young)] == [0, 2]
    assert [await stock.count("events", job_id) for job_id in (old, young)] == [0, 3]
    looked_at = "SELECT logs_pruned_at, events_pruned_at FROM vidqueue.jobs ORDER BY id"
    before = await stock.queue.sql(looked_at)
    assert await prune(stock) == {}
    assert await stock.queue.sql(looked_at) == before, "nothing is looked at twice"


async def test_a_job_that_was_retried_has_a_history_to_prune_again(stock: Stock) -> None:
    job_id = await stock.queue.submit()
    for _ in range(2):
        await control.cancel(stock.queue.database, job_id, owner=None)
        await stock.age(job_id, 31)
        await stock.queue.sql("UPDATE vidqueue.jobs SET events_pruned_at = events_pruned_at - interval '60 days'")
        assert (await prune(stock))["events"] >= 2
        assert await stock.count("events", job_id) == 0
        await control.retry(stock.queue.database, job_id, owner=None)
        assert await prune(stock) == {}, "it waits again"
        assert await stock.count("events", job_id) == 1


Keeper = Callable[[Stock, UUID], Awaitable[object]]


async def _depends(stock: Stock, old: UUID) -> None:
    await stock.queue.submit(input={"video": f"vq:jobs/{old}/video"})


async def _depends_and_runs(stock: Stock, old: UUID) -> None:
    await _depends(stock, old)
    assert await stock.queue.dispatch(await stock.queue.lane(node=stock.storage.node))


async def _names_its_file(stock: Stock, old: UUID) -> None:
    await stock.queue.submit(input={"a": [{"deep": [1, f"vq:files/{await stock.output_of(old)}"]}]})


async def _is_its_parent(stock: Stock, old: UUID) -> None:
    parent = await stock.queue.submit()
    await stock.queue.sql("UPDATE vidqueue.jobs SET parent_id = %s WHERE id = %s", parent, old)


async def _is_its_child(stock: Stock, old: UUID) -> None:
    child = await stock.queue.submit()
    await stock.queue.sql("UPDATE vidqueue.jobs SET parent_id = %s WHERE id = %s", old, child)


KEEPERS = [_depends, _depends_and_runs, _names_its_file, _is_its_parent, _is_its_child]


@pytest.mark.parametrize("keeper", KEEPERS, ids=lambda keeper: keeper.__name__.strip("_"))
async def test_a_job_that_an_unfinished_one_needs_stays_and_goes_after_it(stock: Stock, keeper: Keeper) -> None:
    old = await stock.finished(days=999)
    await keeper(stock, old)
    settings = RetentionSettings(max_jobs=1, max_files_gib=1e-9, logs_days=0, events_days=0)
    assert await prune(stock, settings) == {}
    assert await stock.files() == {await stock.output_of(old)}
    with pytest.raises(VidqueueError, match="an unfinished job or a schedule needs it"):
        await control.delete(stock.queue.database, stock.storage, old, owner=None)
    await stock.queue.sql(
        "UPDATE vidqueue.jobs SET state = 'canceled', fence = NULL, finished_at = now() WHERE finished_at IS NULL"
    )
    await stock.queue.sql("UPDATE vidqueue.attempts SET ended_at = now(), outcome = 'canceled' WHERE ended_at IS NULL")
    await stock.queue.sql("DELETE FROM vidqueue.jobs WHERE parent_id = %s", old)
    assert (await prune(stock, settings))["jobs"] >= 1
    assert old not in await stock.jobs()
    assert await stock.files() == set()


@pytest.mark.parametrize("more", ["\n", "\r\n", "\n\n", " ", "\nvq:files/x"])
async def test_a_reference_with_more_behind_it_neither_protects_nor_names_a_file(stock: Stock, more: str) -> None:
    file_id = await stock.uploaded(days=31)
    await stock.queue.submit(input={"video": f"vq:files/{file_id}{more}", "list": [f"{more}vq:files/{file_id}{more}"]})
    named = await stock.queue.sql("SELECT * FROM vidqueue.job_files WHERE file_id = %s", file_id)
    assert named == []
    assert await prune(stock) == {"uploads": 1}
    assert file_id not in await stock.files()


async def test_uploads_go_by_the_time_they_were_last_of_use(stock: Stock) -> None:
    old, young, used, named, published = [await stock.uploaded(days=days) for days in (31, 29, 999, 999, 999)]
    reader = await stock.finished(days=29, input={"video": f"vq:files/{used}"})
    await stock.queue.submit(input={"list": [f"vq:files/{named}"]})
    # As a program from before the column would leave it.
    await stock.queue.sql("INSERT INTO vidqueue.outputs VALUES (%s, 'second', 1, %s)", reader, published)
    assert await prune(stock) == {"uploads": 1}
    assert await stock.files() == {young, used, named, published, await stock.output_of(reader)}
    await stock.age(reader, 31)
    assert (await prune(stock))["uploads"] == 1
    assert not {old, used} & await stock.files()
    taken_for = await stock.queue.sql("SELECT id FROM vidqueue.files WHERE NOT published")
    assert {one["id"] for one in taken_for} == {young, named}, "the published one is not looked at again"


async def test_uploads_leave_with_the_last_job_that_needs_them_where_a_job_asks_for_it(stock: Stock) -> None:
    left, shared, scheduled, anew, of_another, kept = [await stock.uploaded() for _ in range(6)]
    await stock.queue.sql("UPDATE vidqueue.files SET owner = 'somebody' WHERE id = %s", of_another)
    named = [f"vq:files/{upload}" for upload in (left, shared, scheduled, anew, of_another)]
    await stock.queue.sql("UPDATE vidqueue.files SET sha256 = repeat('a', 64), name = 'anew' WHERE id = %s", anew)
    other = await stock.queue.submit(input={"video": named[1]})
    unasked = await stock.finished(input={"video": f"vq:files/{kept}"})
    first = await stock.finished(input={"clips": named}, forget_uploads=True)
    async with stock.queue.database.transaction() as connection:
        again = await files.renew(
            connection, files.Hashed("sha256", "a" * 64), stock.storage.node, owner="local", name="anew"
        )
        assert again is not None
        await connection.execute(
            "INSERT INTO vidqueue.schedules (name, cron, timezone, job, files, missed, one_at_a_time, paused, next_at) "
            "VALUES ('s', '@daily', 'UTC', '{}', %s, 'skip', false, false, now())",
            [[scheduled]],
        )
    assert await prune(stock) == {"uploads": 1}
    outputs = {await stock.output_of(unasked), await stock.output_of(first)}
    assert await stock.files() == {shared, scheduled, anew, of_another, kept} | outputs
    await control.cancel(stock.queue.database, other, owner=None)
    assert await prune(stock) == {}, "a canceled job may be retried"
    await control.delete(stock.queue.database, stock.storage, other, owner=None)
    assert await prune(stock) == {"uploads": 1}
    assert await stock.files() == {scheduled, anew, of_another, kept} | outputs


async def test_more_finished_jobs_than_wanted_go_oldest_first(stock: Stock) -> None:
    ended = [await stock.finished(days=days) for days in (5, 4, 3, 2)]
    waiting = await stock.queue.submit()
    assert await prune(stock, RetentionSettings(max_jobs=4)) == {}
    assert (await prune(stock, RetentionSettings(max_jobs=2)))["jobs"] == 2
    assert await stock.jobs() == {*ended[2:], waiting}


async def test_what_ended_just_now_stays_however_many_and_large_there_are(stock: Stock) -> None:
    ended, upload = {await stock.finished() for _ in range(3)}, await stock.uploaded()
    assert await prune(stock, RetentionSettings(max_jobs=1, max_files_gib=1e-9)) == {}
    assert await stock.jobs() == ended
    assert upload in await stock.files()


async def test_files_beyond_the_size_go_by_the_time_they_were_last_of_use(stock: Stock) -> None:
    oldest = await stock.finished(days=9, size=1000)
    upload = await stock.uploaded(days=8, size=1000)
    kept = await stock.finished(days=7, size=1000)
    bare = await stock.queue.submit()
    await control.cancel(stock.queue.database, bare, owner=None)
    await stock.age(bare, 10)
    newest = await stock.uploaded(size=1000)
    assert await prune(stock, _at_most(4000)) == {}
    gone = await prune(stock, _at_most(2500))
    assert (gone["jobs"], gone["uploads"]) == (1, 1)
    assert await stock.jobs() == {kept, bare}, "a job without files frees nothing"
    assert await stock.files() == {await stock.output_of(kept), newest}
    assert {oldest, upload}.isdisjoint(await stock.jobs() | await stock.files())


async def test_the_limit_on_bytes_is_kept_batch_by_batch_by_the_time_of_the_last_use(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a batch of each kind, many that end in one moment, and some that may not go at the head of the line."""
    monkeypatch.setattr(retention, "BATCH", 2)
    needed = [await stock.finished(days=20, size=100) for _ in range(3)]
    for job_id in needed:
        await stock.queue.submit(input={"video": f"vq:jobs/{job_id}/video"})
    read_late, unread = await stock.uploaded(days=19, size=100), await stock.uploaded(days=19, size=100)
    together = [await stock.finished(days=9, size=100) for _ in range(5)]
    await stock.queue.sql("UPDATE vidqueue.jobs SET finished_at = date_trunc('hour', finished_at)")
    reader = await stock.finished(days=5, size=100, input={"video": f"vq:files/{read_late}"})
    newest = await stock.finished(days=2, size=100)
    everything = 12 * 100
    assert (await prune(stock, _at_most(everything - 100))) == {"uploads": 1}
    assert unread not in await stock.files()
    assert (await prune(stock, _at_most(everything - 400)))["jobs"] == 3
    assert len(set(together) & await stock.jobs()) == 2, "no more go than have to, also of those of one moment"
    gone = await prune(stock, _at_most(everything - 700))
    assert (gone["jobs"], gone["uploads"]) == (2, 1), "an upload counts from the end of the last job that read it"
    assert {reader, newest, *needed} <= await stock.jobs()
    assert await prune(stock, _at_most(1)) != {}
    assert set(needed) == await stock.jobs() - await _waiting(stock), "what is needed stays, whatever the limit"


async def _waiting(stock: Stock) -> set[UUID]:
    return {one["id"] for one in await stock.queue.sql("SELECT id FROM vidqueue.jobs WHERE state = 'queued'")}


def _at_most(size: int) -> RetentionSettings:
    return RetentionSettings(max_files_gib=size / 2**30)


async def test_bytes_in_the_folder_of_another_running_daemon_are_left_to_it(stock: Stock, tmp_path: Path) -> None:
    old, upload = await stock.finished(days=999), await stock.uploaded(days=999)
    other = Stock(stock.queue, Storage(tmp_path / "other"), stock.scratch)
    assert await prune(other) == {"logs": 2, "events": 3}
    assert (await prune(stock)).keys() >= {"jobs", "uploads"}
    assert await stock.files() == set()
    # Its daemon has gone for good: rows go all the same, and the bytes with the sweep of whoever takes the folder.
    del old, upload
    await stock.finished(days=999)
    await stock.queue.sql("UPDATE vidqueue.lanes SET state = 'offline'")
    assert (await prune(other))["jobs"] == 1
    assert len(list(stock.storage.stored_ids())) == 1


async def test_a_crash_between_rows_and_bytes_leaves_what_the_sweep_removes(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock.finished(days=999)
    await stock.uploaded(days=999)

    async def crash(storage: Storage, file_ids: set[UUID]) -> None:
        if file_ids:
            raise ConnectionAbortedError

    with monkeypatch.context() as patched:
        patched.setattr(removal, "remove_bytes", crash)
        for _ in range(2):
            with pytest.raises(ConnectionAbortedError):
                await prune(stock)
    assert await stock.jobs() == set()
    left = list(stock.storage.stored_ids())
    assert len(left) == 2
    for file_id in left:
        os.utime(stock.storage.path(file_id), (0, 0))
    await reconcile(stock.queue.database, stock.storage)
    assert await stock.files() == set()


async def test_many_go_in_many_small_transactions(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 5)
    monkeypatch.setattr(retention, "LINES", 20)
    monkeypatch.setattr(removal, "LINES", 20)
    await _fill(stock, jobs=23, events=3)
    large = await stock.finished(days=999)
    await stock.queue.sql(
        "INSERT INTO vidqueue.events (job_id, owner, kind) SELECT %s, 'local', 'progress' FROM generate_series(1, 100)",
        large,
    )
    sizes = await _transactions(stock)
    assert max(sizes) <= 5 + 20 + 20
    assert sum(size > 0 for size in sizes) >= 23 / 5 + 100 / 20
    assert await stock.jobs() == set()


async def _fill(stock: Stock, *, jobs: int, events: int) -> None:
    await stock.queue.sql(
        "INSERT INTO vidqueue.jobs (processor, input, device, state, finished_at) "
        "SELECT 'zoo', '{}', 'cpu', 'canceled', now() - interval '200 days' - interval '1 s' * g "
        "FROM generate_series(1, %s) g",
        jobs,
    )
    await stock.queue.sql("DELETE FROM vidqueue.events")
    await stock.queue.sql(
        "INSERT INTO vidqueue.events (job_id, owner, kind) SELECT id, 'local', 'canceled' "
        "FROM vidqueue.jobs, generate_series(1, %s)",
        events,
    )


async def _transactions(stock: Stock) -> list[int]:
    """Prune, and tell how many jobs, log lines and events each transaction deleted."""
    await stock.queue.sql("CREATE TABLE public.deleted (transaction bigint, rows integer)")
    await stock.queue.sql(
        "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO public.deleted SELECT txid_current(), count(*) FROM gone; RETURN NULL; END $$"
    )
    for table in ("jobs", "events", "attempt_logs"):
        await stock.queue.sql(
            f"CREATE TRIGGER note AFTER DELETE ON vidqueue.{table} REFERENCING OLD TABLE AS gone "
            "FOR EACH STATEMENT EXECUTE FUNCTION public.note()"
        )
    await retention.prune(stock.queue.database, stock.storage, RetentionSettings())
    found = await stock.queue.sql("SELECT sum(rows)::integer AS rows FROM public.deleted GROUP BY transaction")
    return [one["rows"] for one in found]


async def test_several_pruners_at_once_remove_everything_once_and_none_waits_for_another(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 7)
    monkeypatch.setattr(retention, "PAUSE_S", 0)
    await _fill(stock, jobs=200, events=2)
    for _ in range(5):
        await stock.finished(days=999)
    # Not with `prune`, which looks at promises that a pruner beside it is in the middle of keeping.
    settings = RetentionSettings()
    at_once = (retention.prune(stock.queue.database, stock.storage, settings) for _ in range(4))
    rounds: list[Mapping[str, int]] = list(await asyncio.gather(*at_once))
    # Whoever finds the last rows locked by another ends; a later round has nothing left to do or little.
    rounds.append(await prune(stock))
    assert sum(gone.get("jobs", 0) for gone in rounds) == 205
    assert await stock.jobs() == set()
    assert await stock.files() == set()


@pytest.mark.parametrize("refers_to", ["job", "file"])
async def test_a_job_that_is_just_being_queued_keeps_what_it_refers_to(stock: Stock, refers_to: str) -> None:
    old = await stock.finished(days=999)
    reference = f"vq:jobs/{old}/video" if refers_to == "job" else f"vq:files/{await stock.output_of(old)}"
    async with stock.queue.database.transaction() as connection:
        await connection.execute("SELECT vidqueue.submit('zoo', jsonb_build_object('video', %s::text))", [reference])
        assert await prune(stock, RetentionSettings(logs_days=0, events_days=0)) == {}, "it neither waits nor removes"
    assert old in await stock.jobs()
    assert await stock.files() == {await stock.output_of(old)}


async def test_a_reference_committed_while_the_pruner_looked_is_seen(stock: Stock) -> None:
    """The lock is had after a submit has committed that the look for old jobs did not see yet."""
    old = await stock.finished(days=999)
    upload = await stock.uploaded(days=999)
    async with stock.queue.database.transaction() as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        await stock.queue.submit(input={"video": f"vq:jobs/{old}/video", "other": f"vq:files/{upload}"})
        await jobs.lock(connection, old)
        locked = await files.lock(connection, [upload])
        assert await jobs.unneeded(connection, [old]) == set()
        assert await files.unused(connection, list(locked)) == set()


async def test_a_submit_that_comes_too_late_is_refused_or_queued_without_harm(stock: Stock) -> None:
    old = await stock.finished(days=999)
    file_id = await stock.output_of(old)
    await prune(stock)
    with pytest.raises(VidqueueError, match="there is no job"):
        await stock.queue.submit(input={"video": f"vq:jobs/{old}/video"})
    late = await stock.queue.submit(input={"video": f"vq:files/{file_id}", "other": f"vq:files/{uuid4()}"})
    assert late in await stock.jobs()


async def test_a_job_of_which_no_file_is_noted_has_its_files_noted_when_it_is_retried(stock: Stock) -> None:
    upload = await stock.uploaded(days=999)
    job_id = await stock.queue.submit(input={"video": f"vq:files/{upload}"})
    await control.cancel(stock.queue.database, job_id, owner=None)
    # As the migration leaves what had ended before it.
    await stock.queue.sql("DELETE FROM vidqueue.job_files")
    await control.retry(stock.queue.database, job_id, owner=None)
    assert await prune(stock) == {}
    assert await stock.files() == {upload}
