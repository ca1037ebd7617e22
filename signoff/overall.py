# SPDX-License-Identifier: GPL-2.0-or-later
"""All claims: one word for the whole run, one sentence, one exit code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from signoff.contract import Kind, Mode
from signoff.verdict import Status


class RunVerdict(StrEnum):
    """The verdict on a run."""

    PROTECTED = "PROTECTED"
    NOT_PROTECTED = "NOT PROTECTED"
    NOT_USABLE = "NOT USABLE"
    """No attack got through, but something that must work or stay well does not."""
    NOT_PROVEN = "NOT PROVEN"
    CONTROLS_HOLD = "CONTROLS HOLD"
    CONTROLS_BROKEN = "CONTROLS BROKEN"


class Exit(IntEnum):
    """The run's exit code."""

    PROVEN = 0
    FAILED = 1
    NOT_PROVEN = 2


EXIT_MEANING = {
    Exit.PROVEN: "every claim PASS",
    Exit.FAILED: "at least one claim FAIL",
    Exit.NOT_PROVEN: "not proven: a claim is ERROR or MISS, or the run was interrupted",
}


INTERRUPTED = "The run was interrupted."
"""How the sentence about a run begins that was stopped by hand."""
PROTECTION = (Kind.ATTACK, Kind.BOUNDARY, Kind.ORACLE)
"""What a claim about the protection is."""


@dataclass(frozen=True, slots=True)
class Overall:
    """The verdict on a run."""

    word: RunVerdict
    exit_code: Exit
    sentence: str


def overall(claims: Iterable[tuple[Kind, Status, str]], mode: Mode, problems: Sequence[str] = ()) -> Overall:
    """Judge a run.

    :param claims: kind, status and reason of every claim of the contract, those that did not run included.
    :param problems: what makes the run as a whole no proof: interrupted, kernel unknown.
    """
    rows = list(claims)
    # A claim set aside without a reason is a claim that was not tried; and every run can look whether all is well.
    open_ = sum(
        status in (Status.ERROR, Status.MISS) or (status is Status.SKIP and (not why or kind is Kind.HEALTH))
        for kind, status, why in rows
    )
    attacks = [status for kind, status, _ in rows if kind is Kind.ATTACK]
    passed = {kind for kind, status, _ in rows if status is Status.PASS}
    unproven = [*([f"{open_} of {len(rows)} claims are not proven"] if open_ else []), *problems]
    if any(status is Status.FAIL for _, status, _ in rows):
        word, sentence = _verdict_on_failures(rows, mode)
        return Overall(word, Exit.FAILED, f"{sentence} {_also(unproven)}".strip())
    if Kind.ATTACK not in passed:
        unproven.append("no attack was tried and refused" if mode is Mode.PROTECTED else "no probe was tried")
    elif 2 * attacks.count(Status.SKIP) > len(attacks):
        unproven.append(f"{attacks.count(Status.SKIP)} of {len(attacks)} attacks were skipped")
    if unproven:
        return Overall(RunVerdict.NOT_PROVEN, Exit.NOT_PROVEN, f"Nothing failed, but {'; '.join(unproven)}.")
    if mode is Mode.PLAIN:
        return Overall(
            RunVerdict.CONTROLS_HOLD, Exit.PROVEN, "Every probe gets through to a guest that is not protected."
        )
    return Overall(
        RunVerdict.PROTECTED,
        Exit.PROVEN,
        "Every attack was refused exactly as contracted, while the same probe got through in its control.",
    )


def of_interrupted(run: Overall) -> Overall:
    """The verdict on a run that was stopped by hand: not proven, whatever had failed by then."""
    before = " A claim had already failed." if run.exit_code is Exit.FAILED else ""
    return Overall(RunVerdict.NOT_PROVEN, Exit.NOT_PROVEN, f"{INTERRUPTED}{before}")


def _verdict_on_failures(rows: Sequence[tuple[Kind, Status, str]], mode: Mode) -> tuple[RunVerdict, str]:
    failed = [kind for kind, status, _ in rows if status is Status.FAIL]
    if mode is Mode.PLAIN:
        return (
            RunVerdict.CONTROLS_BROKEN,
            f"{len(failed)} of {len(rows)} probes or paths misbehave in a plain guest.",
        )
    against = sum(kind in PROTECTION for kind in failed)
    if against:
        of = sum(kind in PROTECTION for kind, _, _ in rows)
        return RunVerdict.NOT_PROTECTED, f"{against} of {of} claims about the protection failed."
    return (
        RunVerdict.NOT_USABLE,
        f"No attack is known to get through, but {len(failed)} legitimate paths or health checks failed.",
    )


def _also(unproven: list[str]) -> str:
    return f"Besides: {'; '.join(unproven)}." if unproven else ""
