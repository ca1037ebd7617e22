# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of plain text."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDEST = 10_000  # columns of a line, which is never broken
_GAP = 2  # columns between two cells


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Rows of cells, each row a line; the cells of a column stand under each other.

    :param rows: all with the same number of cells; the first one may be the head.
    :param right: numbers of the columns, from 0 on, whose cells stand to the right, as numbers do.
    """
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for number in range(len(rows[0])):
        grid.add_column(justify="right" if number in right else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=_WIDEST, color_system=None).print(grid)
    return [line.rstrip() for line in out.getvalue().splitlines()]
