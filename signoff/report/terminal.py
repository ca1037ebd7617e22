# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict for the person at the terminal."""

from __future__ import annotations

import textwrap
from pathlib import Path

from common.progress import clock
from common.text import printable
from signoff.contract import Mode
from signoff.fleet import Share, shares
from signoff.overall import EXIT_MEANING
from signoff.report.data import Report
from signoff.verdict import Status

NO_SIGNOFF = "This is not a sign-off: mode plain only checks that the probes succeed where nothing protects the guest."
_COLOURS = {Status.PASS: "green", Status.FAIL: "red", Status.ERROR: "red", Status.MISS: "yellow", Status.SKIP: "cyan"}
Line = tuple[str, dict[str, bool]]
"""A line and how it looks, in the words of pytest's terminal writer: ``{"green": True}``."""


def lines(report: Report, folder: Path, width: int, exit_0_means: str = "") -> list[Line]:
    """Every claim with its status, and why if it is not PASS; then the verdict, the report and the exit code's meaning.

    :param width: columns of the terminal. :param exit_0_means: why the exit code is 0, though the report has another.
    """
    shown: list[Line] = []
    for row in report.rows:
        result = row.result
        shown.append((f"{result.status:5}  {result.id}", {_COLOURS[result.status]: True}))
        if result.status is not Status.PASS:
            # Of a reason of several lines (a machine's last words) the first is enough here.
            shown += [(line, {}) for line in _indent(result.why.partition("\n")[0], width)]
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
    code = report.overall.exit_code
    tier = report.record.tier or "tier unknown"
    good = code == 0
    shown += [
        ("", {}),
        (
            f"{report.overall.word}   mode {report.record.mode}, {tier}: {counts}",
            {"green" if good else "red": True, "bold": True},
        ),
        (report.contract, {}),
        *((line, {}) for line in textwrap.wrap(report.overall.sentence, width)),
    ]
    if report.fleet is not None:
        shown += [(line, {}) for share in shares(report.fleet) for line in _machine(share, width)]
    if report.record.mode is Mode.PLAIN:
        shown.append((NO_SIGNOFF, {"yellow": True, "bold": True}))
    shown += [
        (f"report: {folder / 'signoff.html'}", {}),
        (f"exit 0: {exit_0_means}" if exit_0_means else f"exit {int(code)}: {EXIT_MEANING[code]}", {}),
    ]
    return [(printable(line), look) for line, look in shown]


def _machine(share: Share, width: int) -> list[str]:
    """One machine's results in one line; further lines say why it did not finish."""
    counts = ", ".join(f"{count} {status}" for status, count in share.settled.items() if count) or "nothing"
    parts = f"{len(share.parts)} {'part' if len(share.parts) == 1 else 'parts'}"
    shown = [f"{share.machine}: {counts} in {parts}{f', {clock(share.seconds)}' if share.seconds else ''}"]
    for why in share.cut_short:
        shown += _indent(f"cut short: {why.partition(chr(10))[0]}", width)
    return shown


def _indent(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(40, width), initial_indent=" " * 7, subsequent_indent=" " * 7)
