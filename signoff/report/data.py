# SPDX-License-Identifier: GPL-2.0-or-later
"""The data behind every form of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signoff.contract import Kind, Mode
from signoff.evidence import read
from signoff.fleet import Fleet
from signoff.journal import KILLED, faults
from signoff.overall import PROTECTION, Exit, Overall, RunVerdict, of_interrupted, overall
from signoff.record import Record
from signoff.results import Row, rows
from signoff.verdict import Status

UNKNOWN = "the kernel under test and the tier of its host were not identified"
NO_HEALTH = "the contract has no claim about the whole run, so the health of host and guest was not checked"
WHOLE = "the_whole_run"
"""What stands for the whole run where there are only tests."""
NOBODY = "no part of the run has a verdict on it"


@dataclass(frozen=True, slots=True)
class Report:
    """A run, judged.

    :ivar problems: what makes the run as a whole no proof. :ivar logs: names relative to the run's folder.
    :ivar fleet: which machines a merged run is of; None: one machine.
    :ivar signing_key: fingerprint of the key of who signs it; empty if nobody does.
    :ivar contract_sha256: what names the contract: see :func:`signoff.contract_files.sha256`.
    """

    record: Record
    rows: list[Row]
    overall: Overall
    problems: tuple[str, ...]
    logs: list[str]
    fleet: Fleet | None = None
    signing_key: str = ""
    contract_sha256: str = ""

    @property
    def contract(self) -> str:
        """The contract in a few words: number of claims, and SHA-256."""
        claims = f"{len(self.rows)} {'claim' if len(self.rows) == 1 else 'claims'}"
        return f"contract of {claims}, sha256 {self.contract_sha256}"

    @property
    def is_plain(self) -> bool:
        """Whether it is of mode plain: no sign-off, whatever came of it."""
        return self.record.mode is Mode.PLAIN

    @property
    def whole(self) -> Status | None:
        """The whole run's verdict in a word for a claim: PASS is PROTECTED alone; None: controls that hold."""
        if self.overall.word is RunVerdict.PROTECTED:
            return Status.PASS
        if self.overall.exit_code is Exit.PROVEN:
            return None
        return Status.FAIL if self.overall.exit_code is Exit.FAILED else Status.MISS

    def is_control(self, row: Row) -> bool:
        """Whether a claim about protection was tried where nothing protects, so that its PASS is none of the claim."""
        return self.is_plain and row.claim.kind in PROTECTION and row.result.status is Status.PASS

    @property
    def counts(self) -> dict[Status, int]:
        """How many claims have each status."""
        return {status: sum(row.result.status is status for row in self.rows) for status in Status}


def assemble(folder: Path, problems: Sequence[str] = ()) -> Report:
    """Judge the run that a folder holds.

    :param problems: what makes it no proof, beside what the folder says.
    :raises UserInputError: if it is not a run's folder.
    """
    run = read(folder)
    record = run.record
    unreached = KILLED if run.fleet is None else NOBODY
    judged = rows(run.contract, record.mode, run.results, run.planned, f"not run: {unreached}")
    broken = faults(folder)
    killed = () if record.ended or KILLED in broken else (KILLED,)
    given_up = (record.given_up,) if record.given_up else ()
    unknown = () if record.kernel and record.tier else (UNKNOWN,)
    lacking = () if any(row.claim.kind is Kind.HEALTH for row in judged) else (NO_HEALTH,)
    problems = tuple(dict.fromkeys((*record.problems, *given_up, *killed, *broken, *unknown, *lacking, *problems)))
    verdict = overall(((row.claim.kind, row.result.status, row.result.why) for row in judged), record.mode, problems)
    if record.interrupted:
        verdict = of_interrupted(verdict)
    logs = run.logs
    return Report(record, judged, verdict, problems, logs, run.fleet, run.signing_key, run.contract_sha256)
