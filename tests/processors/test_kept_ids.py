"""Ids of work on servers: they outlive an attempt whose end nobody hears of, and go in the end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vidqueue.processors.remote.kept_ids import FETCHED_S, KEPT_S, kept_id

SERVER = "http://server/v1"
TOLD = {"id": "video_1", "created_at": 1_790_000_000, "prompt": "a fox"}


def _attempt(folder: Path, job: str, attempt: int) -> Any:
    return SimpleNamespace(attempt=f"{job}-{attempt}", cache_dir=folder)


def test_work_whose_result_was_fetched_is_known_to_the_next_attempt_for_a_day(tmp_path: Path) -> None:
    """The daemon may die after the download, and before the job has ended."""
    first = kept_id(_attempt(tmp_path, "job", 1), "videos", SERVER)
    first.ask()
    first.remember("video_1", TOLD)
    first.fetched()
    assert kept_id(_attempt(tmp_path, "job", 2), "videos", SERVER).remote == "video_1"
    assert first.path is not None
    os.utime(first.path, (time.time() - KEPT_S + FETCHED_S - 86_500,) * 2)
    kept_id(_attempt(tmp_path, "other", 1), "videos", SERVER)
    assert not first.path.exists()


def test_work_that_failed_is_forgotten(tmp_path: Path) -> None:
    first = kept_id(_attempt(tmp_path, "job", 1), "videos", SERVER)
    first.remember("video_1", TOLD)
    first.forget()
    assert kept_id(_attempt(tmp_path, "job", 2), "videos", SERVER).remote == ""


def test_an_id_that_a_restarted_server_gave_to_other_work_is_noticed(tmp_path: Path) -> None:
    kept_id(_attempt(tmp_path, "job", 1), "videos", SERVER).remember("video_1", TOLD)
    kept = kept_id(_attempt(tmp_path, "job", 2), "videos", SERVER)
    assert not kept.is_other(TOLD | {"status": "completed"})
    assert not kept.is_other({"id": "video_1"})
    assert not kept.is_other(TOLD | {"prompt": "a red fox, as the server would have it"})
    assert kept.is_other({"created_at": 1_790_000_900, "prompt": "a dog"})
