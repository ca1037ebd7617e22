# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from common.table import table


def test_cells_stand_under_each_other_and_numbers_to_the_right() -> None:
    assert table([("", "time", "of"), ("first", "7.25 s", "all"), ("a", "10.00 s", "")], right=[1]) == [
        "          time  of",
        "first   7.25 s  all",
        "a      10.00 s",
    ]


def test_cell_is_text_and_no_markup() -> None:
    assert table([("[red]x[/red]", ":smile:")]) == ["[red]x[/red]  :smile:"]


def test_long_line_stays_a_line() -> None:
    assert table([("x" * 500, "y" * 500)]) == ["x" * 500 + "  " + "y" * 500]


def test_nothing_of_the_terminal_changes_a_table() -> None:
    assert all("\x1b" not in line for line in table([("https://example.org", "12")]))
