# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of the same claims side by side, for instance on several kernels: what differs, and nothing else.

A claim differs if its status does, or what was seen, or what the contract expects there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from common.text import printable
from history.model import Run, read
from history.wording import shorten
from signoff.report.page import STATUS_MEANING, SYMBOLS, environment, policy_of, to_css
from signoff.verdict import Status

PAGE = "index.html"
_LONGEST = 300  # characters
_NOT_LISTED = "not in its contract"


@dataclass(frozen=True)
class Column:
    """One report.

    :ivar name: of what makes it another one than the others. :ivar folder: of the run.
    """

    name: str
    folder: Path
    run: Run
    claims: Mapping[str, Mapping[str, Any]]

    @cached_property
    def counts(self) -> str:
        """How many claims came to which status."""
        counted = Counter(claim["status"] for claim in self.claims.values())
        return ", ".join(f"{counted[status]} {status}" for status in Status if counted[status])

    def cell(self, claim: str) -> Cell:
        """What came of a claim."""
        row = self.claims.get(claim)
        if row is None:
            return Cell(None, _NOT_LISTED, "", "")
        why = "" if row["status"] == Status.PASS else _line(row["why"])
        return Cell(Status(row["status"]), _line(row["observed"]) or why, printable(str(row["expected"])), why)


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of a claim in one report.

    :ivar status: None: its contract does not have the claim. :ivar why: it is not PASS.
    """

    status: Status | None
    observed: str
    expected: str
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """A claim that differs, or an input: one value for each column."""

    name: str
    sentence: str
    cells: tuple[Cell, ...]


def column(name: str, folder: Path) -> Column:
    """A report.

    :raises UserInputError: the folder has none, or one that is not understood.
    """
    run, document = read(folder)
    return Column(name, folder, run, {claim["id"]: claim for claim in document["claims"]})


def differing_claims(columns: Sequence[Column]) -> list[Row]:
    """The claims that differ, in the order of the contract."""
    names = dict.fromkeys(name for column in columns for name in column.claims)
    rows = []
    for name in names:
        cells = tuple(column.cell(name) for column in columns)
        if len({(cell.status, cell.observed, cell.expected) for cell in cells}) > 1:
            sentence = next(str(column.claims[name]["sentence"]) for column in columns if name in column.claims)
            rows.append(Row(name, printable(sentence), cells))
    return rows


def differing_inputs(columns: Sequence[Column]) -> list[tuple[str, tuple[str, ...]]]:
    """The inputs that differ: the name, and the value in each report."""
    names = dict.fromkeys(name for column in columns for name in column.run.inputs)
    values = ((name, tuple(column.run.inputs.get(name, "unknown") for column in columns)) for name in names)
    return [(name, in_each) for name, in_each in values if len(set(in_each)) > 1]


def _line(text: str) -> str:
    """The first line, which says it: what follows is a log's."""
    return printable(text.partition("\n")[0][:_LONGEST])


def to_text(columns: Sequence[Column], missing: Mapping[str, str]) -> Iterator[str]:
    """The comparison for a terminal.

    :param missing: what has no report, and why.
    """
    width = max(len(name) for name in (*(column.name for column in columns), *missing))
    for column in columns:
        kernel = column.run.inputs.get("kernel", "unknown")
        yield f"{column.name:<{width}}  Linux {kernel}: {column.run.verdict} ({column.counts})"
    for name, why in missing.items():
        yield f"{name:<{width}}  {why}"
    if len(columns) < 2:
        return
    rows = differing_claims(columns)
    yield f"{len(rows)} claims differ" if rows else "no claim differs"
    for row in rows:
        yield f"  {row.name}"
        for column, cell in zip(columns, row.cells, strict=True):
            yield f"    {column.name:<{width}}  {cell.status or '-':5}  {cell.observed}"


def to_html(columns: Sequence[Column], missing: Mapping[str, str], page: Path) -> str:
    """The comparison as a page without a script.

    :param missing: what has no report, and why. :param page: where it will lie: links are relative to its folder.
    """
    templates = environment("history")
    style = to_css() + templates.get_template("side_by_side.css").render()
    rows = differing_claims(columns)
    same = Counter(
        claim["status"] for name, claim in columns[0].claims.items() if name not in {row.name for row in rows}
    )
    return templates.get_template("side_by_side.html.j2").render(
        policy=policy_of(style),
        style=Markup(style),
        columns=columns,
        links=[quote(os.path.relpath(column.folder / "signoff.html", page.parent)) for column in columns],
        missing=missing,
        rows=rows,
        same=", ".join(f"{same[status]} {status}" for status in Status if same[status]),
        inputs=[(name, [shorten(value) for value in values]) for name, values in differing_inputs(columns)],
        symbols=SYMBOLS,
        meanings=STATUS_MEANING,
    )
