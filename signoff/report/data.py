# SPDX-License-Identifier: GPL-2.0-or-later
"""What every form of the report is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from signoff.evidence import read
from signoff.fleet import Fleet
from signoff.overall import Overall, interrupted, overall
from signoff.record import Record
from signoff.results import Row, rows
from signoff.verdict import Status

CUT_SHORT = "the run was killed before its end"
NOBODY = "no part of the run has a word on it"


@dataclass(frozen=True, slots=True)
class Report:
    """A run, judged.

    :ivar problems: what makes the run as a whole no proof. :ivar logs: names relative to the run's folder.
    :ivar fleet: which machines a merged run is of; None: one machine.
    :ivar signing_key: fingerprint of the key of who signs it; empty if nobody does.
    """

    record: Record
    rows: list[Row]
    overall: Overall
    problems: tuple[str, ...]
    logs: list[str]
    fleet: Fleet | None = None
    signing_key: str = ""

    @property
    def counts(self) -> dict[Status, int]:
        """How many claims have each status."""
        return {status: sum(row.result.status is status for row in self.rows) for status in Status}


def assemble(folder: Path) -> Report:
    """Judge the run that a folder holds.

    :raises UserInputError: if it is not a run's folder.
    """
    kept = read(folder)
    record = kept.record
    unreached = CUT_SHORT if kept.fleet is None else NOBODY
    found = rows(kept.contract, record.mode, kept.results, kept.planned, f"not run: {unreached}")
    problems = record.problems if record.ended else (*record.problems, CUT_SHORT)
    verdict = overall(((row.claim.kind, row.result.status, row.result.why) for row in found), record.mode, problems)
    if record.interrupted:
        verdict = interrupted(verdict)
    return Report(record, found, verdict, problems, kept.logs, kept.fleet, kept.signing_key)
