# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that ends a run: a line a case, with how it ended, its time, and what was said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

CASE, SAID = "case", "said"  # properties of a report
WIDTH = 90  # columns for a case's name
_WORDS = {"failed": "FAIL", "error": "FAIL", "skipped": "SKIP", "passed": "PASS"}  # the worst first


@dataclass(slots=True)
class Row:
    """One case, from all reports of its phases."""

    name: str
    word: str = ""
    seconds: float = 0.0
    said: str = ""


def table(stats: Mapping[str, Iterable[Any]]) -> list[str]:
    """The lines; none if there was no case.

    :param stats: of pytest's terminal reporter: reports by what they are counted as.
    """
    rows: dict[str, Row] = {}
    for word in (*_WORDS, ""):
        for report in stats.get(word, ()):
            if not isinstance(report, pytest.TestReport):
                continue
            properties = dict(report.user_properties)
            row = rows.setdefault(report.nodeid, Row(str(properties.get(CASE) or _plain(report.nodeid))))
            row.seconds += report.duration
            row.word = row.word or _WORDS.get(word, "")
            row.said = row.said or (
                _why(report) if word in ("failed", "error", "skipped") else str(properties.get(SAID, ""))
            )
    if not rows:
        return []
    begun = {node: number for number, node in enumerate(_in_order(stats))}
    lines = [
        f"{row.word:<4}  {row.name:<{WIDTH}} {row.seconds:7.1f} s  {row.said}".rstrip()
        for _, row in sorted(rows.items(), key=lambda item: begun[item[0]])
    ]
    good = sum(row.word == "PASS" for row in rows.values())
    return [*lines, f"{good} of {len(rows)} cases went as they must"]


def _in_order(stats: Mapping[str, Iterable[Any]]) -> list[str]:
    """The cases as they were run."""
    reports = [
        report for reports_of in stats.values() for report in reports_of if isinstance(report, pytest.TestReport)
    ]
    return list(dict.fromkeys(report.nodeid for report in sorted(reports, key=lambda report: report.start)))


def _plain(node: str) -> str:
    """A name out of a test's own."""
    return node.rpartition("::")[2].removeprefix("test_").replace("_", " ")


def _why(report: pytest.TestReport) -> str:
    """The last line of what went wrong."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    words = str(crash.message if crash is not None else report.longrepr).strip().splitlines()
    return words[0] if words else ""
