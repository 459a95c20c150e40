"""The doctor says of each processor that is set up why it cannot run, and of none that nobody has set up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from vidqueue.doctor.checks import check_processors
from vidqueue.processors import registry
from vidqueue.processors.base import Processor
from vidqueue.processors.facefusion import Facefusion
from vidqueue.processors.generate import Generate
from vidqueue.processors.replicate import Replicate
from vidqueue.processors.videos import Videos


def checked(monkeypatch: pytest.MonkeyPatch, *processors: Processor) -> tuple[str, str]:
    found: Mapping[str, Processor] = {one.name: one for one in processors}
    monkeypatch.setattr(registry, "catalogue", lambda: found)
    monkeypatch.setattr(registry, "unloaded", tuple)
    told = check_processors()
    return told.level, told.found


def test_what_is_set_up_and_cannot_run_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipeline = {"path": tmp_path / "wan", "task": "text-to-video"}
    state, said = checked(
        monkeypatch,
        Facefusion(Facefusion.Settings.model_validate({"home": tmp_path})),
        Generate(Generate.Settings.model_validate({"models": {"wan": pipeline}})),
        Replicate(Replicate.Settings.model_validate({"accounts": {"hosted": {"token_file": tmp_path / "token"}}})),
    )
    assert state == "warning"
    for words in (
        f"facefusion: {tmp_path} has no facefusion.py",
        f"generate: wan: {tmp_path}/wan has no model_index.json",
        f"replicate: hosted: {tmp_path}/token cannot be read",
    ):
        assert words in said


def test_what_is_not_set_up_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doors share sections with processors."""
    aliases = {"still": {"processor": "export"}}
    videos = Videos(Videos.Settings.model_validate({"models": aliases, "enabled": True}))
    assert checked(monkeypatch, Facefusion(), videos) == ("ok", "2 can be loaded; not set up: facefusion, videos")
    usable = Videos(Videos.Settings.model_validate({"servers": {"main": {"url": "http://127.0.0.1:8000/v1"}}}))
    assert checked(monkeypatch, usable) == ("ok", "1 can be loaded")
