# SPDX-License-Identifier: GPL-2.0-or-later
"""``signoff.tap``: the claims as a stream of the Test Anything Protocol, version 14.

FAIL, ERROR and MISS are ``not ok``, and the block below says which. SKIP is ``ok`` with that directive, and so is what
mode plain tries, which passes no claim about protection. The last point stands for the whole run: ``ok`` is PROTECTED.
"""

from __future__ import annotations

import json

from common.text import printable
from signoff.report.data import WHOLE, Report
from signoff.report.terminal import NO_SIGNOFF
from signoff.results import Row
from signoff.verdict import Status


def to_tap(report: Report) -> str:
    """The stream."""
    out = ["TAP version 14", f"1..{len(report.rows) + 1}"]
    for number, row in enumerate(report.rows, 1):
        out += _point(report, number, row)
    out += _line(len(report.rows) + 1, WHOLE, report.whole, NO_SIGNOFF)
    out += _block({"verdict": report.overall.word, "why": report.overall.sentence})
    return "\n".join(out) + "\n"


def _point(report: Report, number: int, row: Row) -> list[str]:
    result = row.result
    if report.is_control(row):
        return _line(number, result.id, Status.SKIP, "the control alone: the probe gets through where nothing protects")
    details = {} if result.status is Status.PASS else {"status": str(result.status), "why": result.why}
    facts = {name: getattr(result, name) for name in ("expected", "observed", "control", "shared")}
    return _line(number, result.id, result.status, result.why) + _block(
        {**details, **{k: v for k, v in facts.items() if v}}
    )


def _line(number: int, name: str, status: Status | None, why: str) -> list[str]:
    """A test point. None: what is neither good nor bad."""
    word = "ok" if status in (Status.PASS, Status.SKIP, None) else "not ok"
    directive = f" # SKIP {_escape(why)}" if status in (Status.SKIP, None) else ""
    return [f"{word} {number} - {_escape(name)}{directive}"]


def _escape(text: str) -> str:
    """A description: one line, in which only our own ``#`` begins a directive."""
    return " ".join(printable(text).split()).replace("\\", "\\\\").replace("#", "\\#")


def _block(facts: dict[str, str]) -> list[str]:
    """A YAML block; each value is a JSON text, which YAML reads as the same."""
    return ["  ---", *(f"  {name}: {json.dumps(printable(value))}" for name, value in facts.items()), "  ..."]
