# SPDX-License-Identifier: GPL-2.0-or-later
"""What came of a night, cell by cell: read from the history alone, so it can be said again at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from history.compare import WINDOW, Background, Change, Comparison, Line, Sitting, compare, times_of
from history.database import Attempt, Cause, History, Night
from history.matrix import ExitOn
from history.sittings import sittings
from signoff.verdict import Status

LOOKED_AT = 300
"""Runs of a cell, the newest, that a night is compared with."""
GOOD = (Status.PASS, Status.SKIP)


class NightExit(IntEnum):
    """The exit status of a night."""

    WELL = 0
    WORSE = 1
    NOT_TRIED = 2
    """Nothing regressed, but a cell could not be tried, or none was."""


@dataclass(frozen=True, slots=True)
class CellReview:
    """What came of a cell.

    :ivar attempts: the runs that were begun. :ivar sitting: what counts of them; None: no run came to any claim.
    :ivar comparison: with the nights before; None: there is nothing to compare.
    :ivar past: the nights before in which the cell came to a claim, the newest last.
    :ivar causes: of the claims that regressed.
    """

    cell: str
    attempts: tuple[Attempt, ...]
    sitting: Sitting | None
    comparison: Comparison | None
    past: tuple[Sitting, ...]
    causes: tuple[Cause, ...] = ()

    def cause(self, claim: str) -> Cause | None:
        """What made a claim fail, or how that is found; None: that is not known."""
        return next((cause for cause in self.causes if cause.claim == claim), None)

    @property
    def is_broken(self) -> bool:
        """Whether it was tried to its end, and came to no claim."""
        return (
            self.is_begun
            and self.sitting is None
            and all(attempt.ended and not attempt.late for attempt in self.attempts)
        )

    @property
    def is_begun(self) -> bool:
        """Whether a run of it was begun."""
        return bool(self.attempts)

    @property
    def broke(self) -> bool:
        """Whether its host came to no claim, and did before: a regression of all its claims.

        Where not even a host was started, nothing is known of the claims: the set-up failed.
        """
        return self.is_broken and bool(self.past) and any(attempt.host for attempt in self.attempts)

    @property
    def why(self) -> str:
        """Why it came to no claim."""
        return next((attempt.why for attempt in reversed(self.attempts) if attempt.why), "no reason is known")

    @property
    def regressed(self) -> list[Line]:
        """The claims that are worse than before."""
        return self.comparison.of(Change.REGRESSED) if self.comparison else []

    @property
    def flaky(self) -> list[Line]:
        """The claims that were run again, and ended in another way."""
        return self.comparison.of(Change.FLAKY) if self.comparison else []

    @property
    def failing(self) -> list[str]:
        """All claims that are neither PASS nor SKIP, the flaky ones among them."""
        results = self.sitting.results if self.sitting else {}
        return [name for name, result in results.items() if result.worst not in GOOD]

    @property
    def was_confirmed(self) -> bool:
        """Whether the claims that regressed were run again."""
        return all(line.after is not None and len(line.after.statuses) > 1 for line in self.regressed)


@dataclass(frozen=True, slots=True)
class Review:
    """What came of a night."""

    night: Night
    cells: tuple[CellReview, ...]

    @property
    def regressions(self) -> int:
        """Claims that regressed; a cell that comes to no claim any more is one."""
        return sum(len(cell.regressed) + cell.broke for cell in self.cells)

    @property
    def flaky(self) -> int:
        """Claims that were flaky."""
        return sum(len(cell.flaky) for cell in self.cells)

    @property
    def not_begun(self) -> tuple[str, ...]:
        """Cells that were not begun."""
        return tuple(cell.cell for cell in self.cells if not cell.is_begun)

    def exit(self, on: ExitOn = ExitOn.REGRESSIONS) -> NightExit:
        """The exit status."""
        failing = any(cell.failing for cell in self.cells)
        if self.regressions or (on is ExitOn.FLAKY and self.flaky) or (on is ExitOn.FAILURES and failing):
            return NightExit.WORSE
        if any(cell.is_broken for cell in self.cells) or not any(cell.sitting for cell in self.cells):
            return NightExit.NOT_TRIED
        return NightExit.WELL


def review(history: History, night: Night) -> Review:
    """Look at a night, finished or not."""
    attempts = history.attempts(night.id)
    return Review(night, tuple(_review_cell(history, night, cell, attempts) for cell in night.cells))


def _review_cell(history: History, night: Night, cell: str, attempts: Sequence[Attempt]) -> CellReview:
    cell_review = review_cell(history, night.id, cell, [attempt for attempt in attempts if attempt.cell == cell])
    return replace(cell_review, causes=tuple(cause for cause in night.causes if cause.cell == cell))


def review_cell(history: History, night: str, cell: str, attempts: Sequence[Attempt]) -> CellReview:
    """Look at one cell of a night."""
    came_to_claims = [sitting for sitting in sittings(history.runs(cell, newest=LOOKED_AT)) if sitting.results]
    past = [sitting for sitting in came_to_claims if night_of(sitting) < night]
    now = next((sitting for sitting in came_to_claims if night_of(sitting) == night), None)
    comparison = None
    if now is not None and past:
        comparison = compare(past, now, Background(times=times_of(past[-WINDOW:])))
    return CellReview(cell, tuple(attempts), now, comparison, tuple(past))


def night_of(sitting: Sitting) -> str:
    """The night of a sitting; of a run outside of any, its own id."""
    place = sitting.first.place
    return place.night if place else sitting.first.id
