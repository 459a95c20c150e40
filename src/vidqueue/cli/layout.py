"""Lays out rows of cells for the width of a terminal: in columns where they fit, otherwise on further lines.

Nothing is cut, however narrow the terminal is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

GAP = 2
INDENT = 4
# The largest share of a narrow terminal for one column; after a longer cell the row continues on the next line.
LARGEST_SHARE = 0.4


def widths_of(rows: Sequence[Sequence[Text]], width: int | None) -> list[int]:
    """Return the width of each column of `rows` on a terminal of `width` columns; None is one without an end."""
    natural = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    if width is None or sum(natural) + GAP * len(natural) - GAP <= width:
        return natural
    largest = int(width * LARGEST_SHARE)
    return [min(one, largest) for one in natural]


def lines_of(console: Console, row: Sequence[Text], widths: Sequence[int], width: int | None) -> Iterator[Text]:
    """Yield the lines of one row.

    A cell that does not fit behind those before it begins a line of its own, indented; one that is longer than a line
    is wrapped between words, and inside a word only where the word is longer than a line.
    """
    line, start, continued = Text(), 0, False
    for cell, column in zip(row, widths, strict=True):
        if cell.cell_len:
            # Continuation lines do not follow the columns, because the headings do not apply to them.
            at = line.cell_len + GAP * bool(line.cell_len) if continued else start
            if continued or line.cell_len + GAP * bool(line.cell_len) <= at:
                *whole, line = _placed(console, line, cell, at, width, hangs=not continued)
            else:
                *whole, line = [line, *_wrapped(console, cell, width, INDENT)]
            yield from whole
            continued = continued or bool(whole)
        start += column + GAP
    yield line


def _placed(console: Console, line: Text, cell: Text, at: int, width: int | None, *, hangs: bool) -> list[Text]:
    """The line with the cell at a column of the terminal, or with the part of it that fits, and the lines after it."""
    if width is None or at + cell.cell_len <= width:
        return [line + Text(" " * (at - line.cell_len)) + cell]
    if hangs and width - at >= width // 2:
        first, *others = _wrapped(console, cell, width, at)
        return [line + first[line.cell_len :], *others]
    return [*([line] if line.cell_len else []), *_wrapped(console, cell, width, INDENT)]


def _wrapped(console: Console, cell: Text, width: int | None, indent: int) -> list[Text]:
    assert width is not None
    indent = indent if width > 2 * INDENT else 0
    parts = list(cell.wrap(console, width - indent, overflow="fold", no_wrap=False))
    for part in parts:
        part.rstrip()
    return [Text(" " * indent) + part for part in parts]
