"""A few mutated files through `transcode`: none takes long, none succeeds with wrong pictures."""

from __future__ import annotations

from pathlib import Path

from tests.processors.fuzzing import outcomes


def test_mutated_files_are_refused_or_come_out_as_they_decode(tmp_path: Path) -> None:
    found = dict(outcomes(15, 7, tmp_path))
    assert {name: what for name, what in found.items() if what.startswith(("WRONG", "internal"))} == {}
    assert len(set(found.values())) > 1, "some are refused and some come out"
