# SPDX-License-Identifier: GPL-2.0-or-later
"""A night: the cells of a matrix, one after the other, each by the command that users have, within a time.

A cell that failed last comes first of all, then the cells that were not run for longest. A claim that is worse than
before is run again on a fresh host before it counts; if the health of a machine is worse, which is judged by all that
was done to it, the whole cell is. All that was done is in the history at once, so a night that is killed continues
where it was: a run that came to its end is read, and one that did not is made anew. When all cells were tried, the
first bad patch of what regressed is searched for, if the matrix says so and time is left.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import NoSpaceError, SetupError, UserInputError
from common.names import path_text
from common.paths import PROJECT
from common.progress import clock
from common.store import disk_errors
from common.text import printable
from history.causes import BisectAnswer, command, heads, question, search
from history.compare import Change, Line
from history.database import Attempt, Cause, History, Night
from history.matrix import Cell, Matrix
from history.model import Place, Run, read_report
from history.review import GOOD, LOOKED_AT, CellReview, night_of, review_cell
from history.sittings import sittings
from history.sources import PATIENCE, update
from host_setup.claim_runs import claim_tests
from signoff.contract import Kind

LEAST = 60.0  # seconds: for less nothing is begun
_TAIL = 400  # characters of a run's last words
Runner = Callable[[Sequence[str], Path, Path, float], str]
"""Runs pytest: words, folder for reports, log, seconds; returns why it was ended early."""
Search = Callable[[Sequence[str], Path, float], BisectAnswer]
"""Runs ``sealproof bisect``: words, folder for reports, seconds."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Ground:
    """What a night works with.

    :ivar folder: for reports, below it one folder a night. :ivar say: told what is done.
    :ivar project: where the claims' tests are. :ivar search: for the first bad patch.
    """

    history: History
    folder: Path
    runner: Runner
    say: Callable[[str], None]
    now: Callable[[], datetime] = _now
    project: Path = PROJECT
    search: Search = search


class Nightly:
    """One night of a matrix."""

    def __init__(self, matrix: Matrix, ground: Ground) -> None:
        self._matrix = matrix
        self._ground = ground
        self._history = ground.history
        self._cells = {cell.name: cell for cell in matrix.cells}
        self._tests = claim_tests(ground.project)

    def run(self, *, fresh: bool = False) -> Night:
        """Run the night, or what is left of it.

        :param fresh: begin a new one also where an old one was not finished.
        :raises SetupError: another night is at work.
        """
        with self._alone():
            night = self._begin(fresh=fresh)
            not_begun = []
            for number, name in enumerate(night.cells, 1):
                if not self._cell(night, name, f"{number}/{len(night.cells)} {name}"):
                    not_begun.append(name)
            night = self._seek(night)
            night = night.model_copy(update={"left": tuple(not_begun), "ended": self._time()})
            self._history.put_night(night)
        return night

    def order(self) -> list[tuple[Cell, float]]:
        """The cells in the order in which they would be tried, each with the seconds that it took last (0: unknown)."""
        last = {name: self._last(name) for name in self._cells}
        ranked = sorted(self._matrix.cells, key=lambda cell: (not last[cell.name].failed, last[cell.name].started))
        return [(cell, last[cell.name].seconds) for cell in ranked]

    # --- the night ---

    def _begin(self, *, fresh: bool) -> Night:
        now = self._ground.now()
        open_ = [
            night
            for night in self._history.nights()
            if night.ended is None and night.matrix == self._matrix.digest and self._seconds_left(night) > LEAST
        ]
        if open_ and not fresh:
            self._ground.say(f"the night {open_[-1].id} was not finished: it goes on")
            return open_[-1]
        name, started = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}", self._time()
        problems = tuple(self._pull_trees(self._ground.folder / name))
        for words in problems:
            self._ground.say(words)
        night = Night(
            id=name,
            started=started,
            problems=problems,
            matrix=self._matrix.digest,
            cells=tuple(cell.name for cell, _ in self.order()),
            heads=heads(cell.words for cell in self._matrix.cells),
        )
        self._history.put_night(night)
        return night

    def _pull_trees(self, folder: Path) -> Iterator[str]:
        """Update the git trees, in no more than half of the night's time; yields what went wrong."""
        trees = self._matrix.pull
        if trees:
            yield from update(trees, folder, min(PATIENCE, 60 * self._matrix.minutes / 2 / len(trees)))

    def _seconds_left(self, night: Night) -> float:
        """Seconds of a night's time that are left."""
        passed = self._ground.now() - datetime.fromisoformat(night.started)
        return 60 * self._matrix.minutes - passed.total_seconds()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self._history.path.with_name(f"{self._history.path.name}.nightly")
        try:
            with FileLock(lock, timeout=0):
                yield
        except Timeout as error:
            raise SetupError("another night is at work", stage="nightly", hint="end it, or wait for it") from error

    def _time(self) -> str:
        return f"{self._ground.now():%Y-%m-%dT%H:%M:%SZ}"

    # --- a cell ---

    def _cell(self, night: Night, name: str, title: str) -> bool:
        """Try a cell, or what is left of it; returns whether it was begun."""
        claims: Sequence[str] = ()
        for number in range(1, self._matrix.again + 2):
            attempt = self._attempt(night, name, number)
            if attempt is None or attempt.ended is None:
                expected = self._last(name).seconds if not claims else 0.0
                seconds = self._seconds_left(night)
                if seconds < max(LEAST, expected):
                    words = f", and it took {clock(expected)} last time" if expected else ""
                    self._ground.say(f"{title}: no time is left ({clock(max(0.0, seconds))}{words})")
                    return attempt is not None or number > 1
                attempt = self._try(night, name, number, claims, title if number == 1 else f"{title}: once more")
            review = self._review(night, name)
            again = self._again(review)
            if again is None:
                break
            claims = again
        return True

    def _again(self, review: CellReview) -> Sequence[str] | None:
        """The claims that run again; empty: all of them; None: no claim."""
        if review.is_broken:
            return ()
        lines = _doubtful(review)
        if not lines:
            return None
        if any(line.after is not None and line.after.claim.kind is Kind.HEALTH for line in lines):
            return ()
        claims = [line.claim for line in lines]
        return claims if all(claim in self._tests for claim in claims) else ()

    def _try(self, night: Night, name: str, number: int, claims: Sequence[str], title: str) -> Attempt:
        """Make a run of a cell, or read the one that was made when the night was killed."""
        folder = self._ground.folder / night.id / f"{night.cells.index(name) + 1:02}-{number}"
        killed = self._attempt(night, name, number)
        place = Place(night=night.id, cell=name, number=number)
        if killed is not None and (runs := _finished_runs(folder)):
            return self._keep(killed, runs, place, killed.why, title)
        why = "the night was killed meanwhile, and it was run anew" if killed is not None else ""
        attempt = Attempt(
            night=night.id, cell=name, number=number, started=self._time(), folder=path_text(folder.resolve()),
            claims=tuple(claims), why=why,
        )  # fmt: skip
        self._history.put_attempt(attempt)
        self._ground.say(f"{title}{f': {len(claims)} claims' if claims else ''} ...")
        before = set(_runs(folder))
        log = folder / "pytest.log"
        full = late = ""
        try:
            with disk_errors(folder, "--reports"):
                late = self._ground.runner(self._words(name, claims), folder, log, self._seconds_left(night))
        except NoSpaceError as error:
            full = error.message
        runs = [run for run in _runs(folder) if run not in before]
        return self._keep(attempt.model_copy(update={"late": bool(late)}), runs, place, late or full or why, title, log)

    def _keep(
        self, attempt: Attempt, runs: Sequence[Path], place: Place, why: str, title: str, log: Path | None = None
    ) -> Attempt:
        run: Run | None = None
        if not runs:
            why = why or _last_words(log)
        else:
            try:
                run = read_report(runs[-1], place)
            except UserInputError as error:
                why = why or error.message
        if run is not None and not run.counted:
            why = why or run.given_up or run.summary
        host = any(any(attempt.glob("hosts/host-*")) for attempt in runs)
        attempt = attempt.model_copy(
            update={"ended": self._time(), "run": run.id if run else "", "why": why[:2000], "host": host}
        )
        self._history.put_attempt(attempt, run)
        self._ground.say(f"{title}: {_run_line(run) if run else 'no report'}{f' ({why})' if why else ''}")
        return attempt

    def _words(self, name: str, claims: Sequence[str]) -> list[str]:
        """The arguments of pytest."""
        cell = self._cells[name]
        options = [*cell.words, *self._matrix.shared]
        if not claims:
            return [str(self._ground.project / "tests_e2e"), *cell.selection, *options]
        health = [test for test in self._tests.values() if test.startswith("tests_e2e/health/")]
        nodes = dict.fromkeys([*(self._tests[claim] for claim in claims), *health])
        return [*(str(self._ground.project / node) for node in nodes), *options]

    # --- the first bad patch ---

    def _seek(self, night: Night) -> Night:
        """Say of each claim that regressed how its first bad patch is found, and find it, if that is wanted."""
        for name in night.cells:
            night_review = self._review(night, name)
            for line in night_review.regressed:
                if night_review.comparison is None or any(
                    (cause.cell, cause.claim) == (name, line.claim) for cause in night.causes
                ):
                    continue
                since, after = line.since or night_review.comparison.before, night_review.comparison.after
                then = since.place.night if since.place else ""
                old = next((night.heads for night in self._history.nights() if night.id == then), {})
                both = {path: (old.get(path, ""), commit) for path, commit in night.heads.items()}
                words = [*self._cells[name].words, *self._matrix.shared]
                bisect_words = question(line, since, after, words, both)
                if bisect_words is not None:
                    cause = self._cause(night, name, line.claim, bisect_words)
                    night = night.model_copy(update={"causes": (*night.causes, cause)})
                    self._history.put_night(night)
        return night

    def _cause(self, night: Night, cell: str, claim: str, bisect_words: Sequence[str]) -> Cause:
        cause = Cause(cell=cell, claim=claim, command=command(bisect_words)[:2000])
        searched = [cause for cause in night.causes if cause.told]
        seconds = self._seconds_left(night)
        if len(searched) >= self._matrix.bisect or seconds < LEAST:
            return cause
        self._ground.say(f"{claim}: searching for the first bad one ...")
        answer = self._ground.search(bisect_words, self._ground.folder / night.id / "bisect", seconds)
        self._ground.say(f"{claim}: {answer.message}")
        return cause.model_copy(update={"told": answer.message[:2000], "file": answer.file})

    # --- what is known ---

    def _attempt(self, night: Night, cell: str, number: int) -> Attempt | None:
        attempts = self._history.attempts(night.id)
        return next((attempt for attempt in attempts if attempt.cell == cell and attempt.number == number), None)

    def _review(self, night: Night, cell: str) -> CellReview:
        attempts = [attempt for attempt in self._history.attempts(night.id) if attempt.cell == cell]
        return review_cell(self._history, night.id, cell, attempts)

    def _last(self, cell: str) -> _Last:
        """What came of a cell the last time that it was begun."""
        for night in reversed(self._history.nights()):
            attempts = [attempt for attempt in self._history.attempts(night.id) if attempt.cell == cell]
            if attempts:
                sitting_before = next(
                    (
                        sitting
                        for sitting in sittings(self._history.runs(cell, newest=LOOKED_AT))
                        if night_of(sitting) == night.id
                    ),
                    None,
                )
                results = sitting_before.results.values() if sitting_before else ()
                failed = any(run.worst not in GOOD for run in results)
                failed |= not results and not any(attempt.late for attempt in attempts)
                return _Last(failed, attempts[0].started, self._last_duration(cell))
        return _Last(failed=False, started="", seconds=0.0)

    def _last_duration(self, cell: str) -> float:
        """Seconds that the cell's last whole run took; 0: there is none."""
        whole = [
            run
            for run in self._history.runs(cell, newest=LOOKED_AT)
            if run.place and run.place.number == 1 and not run.cut_short
        ]
        if not whole:
            return 0.0
        begin, end = (datetime.fromisoformat(str(when)) for when in (whole[-1].started, whole[-1].ended))
        return (end - begin).total_seconds()


@dataclass(frozen=True, slots=True)
class _Last:
    """The last time that a cell was begun; ``started`` is empty if it never was."""

    failed: bool
    started: str
    seconds: float


def _doubtful(review: CellReview) -> list[Line]:
    """The claims that would count against the night, and of which it is not known whether they are flaky."""
    if review.comparison is None:  # the first night of the cell: what fails is new
        results = review.sitting.results if review.sitting else {}
        return [Line(name, Change.NEW, None, result) for name, result in results.items() if result.best not in GOOD]
    new = [line for line in review.comparison.of(Change.NEW) if line.after and line.after.best not in GOOD]
    return [*review.regressed, *new]


def _runs(folder: Path) -> list[Path]:
    """The folders of runs below one, the oldest first."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.is_dir() and not path.is_symlink() and re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", path.name)
    )


def _finished_runs(folder: Path) -> list[Path]:
    """Of the runs below a folder those that came to their end."""
    runs = []
    for path in _runs(folder):
        try:
            run = read_report(path)
        except UserInputError:
            continue
        if not run.cut_short:
            runs.append(path)
    return runs


def _last_words(log: Path | None) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log is not None and log.is_file() else ""
    complaints = [line for line in text.splitlines() if "the set-up failed" in line or line.startswith("sealproof: ")]
    return printable((complaints or [" ".join(text[-_TAIL:].split()) or "it said nothing"])[0])


def _run_line(run: Run) -> str:
    counted = [claim.status for claim in run.counted.values()]
    counts = ", ".join(f"{counted.count(status)} {status}" for status in dict.fromkeys(sorted(counted)))
    return f"{run.verdict}, {counts or 'no claim was tried'}"
