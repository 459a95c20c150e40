"""What the walks through the first hour share: a terminal of one width, and the widths at which they are walked."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.cli.conftest import CommandLine
from tests.cli.screens import ESCAPE, on_a_terminal

COLUMNS = (60, 80, 140)


def widths(quick: int) -> pytest.MarkDecorator:
    """Each width, of which only one is no test of `make test-long` alone."""
    marks = {columns: () if columns == quick else (pytest.mark.long,) for columns in COLUMNS}
    return pytest.mark.parametrize("columns", [pytest.param(columns, marks=marks[columns]) for columns in COLUMNS])


class Terminal:
    """A terminal of one width; what is on it in the end, and that no table is wider than it."""

    def __init__(self, vidqueue: CommandLine, columns: int) -> None:
        self.vidqueue, self.columns = vidqueue, columns

    def __call__(self, *words: str, code: int = 0) -> str:
        shown = on_a_terminal(self.vidqueue, *words, columns=self.columns, code=code)
        return ESCAPE.sub("", shown).replace("\r\n", "\n")

    def table(self, *words: str, code: int = 0) -> str:
        shown = self(*words, code=code)
        assert max(map(cell_len, shown.splitlines())) <= self.columns, shown
        return shown
