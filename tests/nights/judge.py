# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds what the history says of the nights against what was seeded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from history.compare import Change
from history.database import History, Night
from history.review import review
from tests.nights.seeds import (
    BOOTS,
    BROKE,
    COMES,
    FAULTY,
    FIRST_BAD,
    FULL,
    GOES_ON,
    HEALTH,
    KILLED,
    NAMED,
    NIGHTS,
    PLAIN,
    READS,
    SHAKES,
    SLEEPS,
    comparison_of,
    statuses,
)
from tests.nights.world import World

CELLS = (FAULTY, PLAIN)
_GROUPS = tuple(str(change) for change in Change if change not in (Change.UNCHANGED, Change.NOT_TRIED))


class Judge:
    """Looks at the nights of a world.

    :param world: asked for what the commands say.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def night(self, number: int, status: int) -> list[str]:
        """What is not as it was seeded in the night that was run last, a line each.

        :param status: the exit status of ``sealproof nightly``.
        """
        with History(self._world.history) as history:
            night = history.nights()[-1]
            complaints = [*self._review(history, number, night, status)]
        return [*complaints, *self._summary(number, night), *self._page(number, night), *self._compare(number, night)]

    def all_nights(self) -> list[str]:
        """What is not as it was seeded over all nights."""
        complaints = []
        with History(self._world.history) as history:
            if len(history.nights()) != len(NIGHTS):
                complaints.append(f"the history has {len(history.nights())} nights, not {len(NIGHTS)}")
        for claim in (SHAKES, READS, BOOTS, SLEEPS, COMES, HEALTH, *NAMED):
            code, output = self._world.ask("claim", claim)
            printed = claim_lines(output)
            complaints += [
                f"history claim {claim}: {cell}: exit {code}: {printed.get(cell)}, not {statuses(claim, cell)}"
                for cell in CELLS
                if code or printed.get(cell) != statuses(claim, cell)
            ]
        return complaints

    def _review(self, history: History, number: int, night: Night, status: int) -> Iterator[str]:
        """The night itself."""
        seeded = NIGHTS[number]
        killed = number == KILLED
        yield from _unless(
            status == (-9 if killed else int(seeded.exit)), f"exit status {status}, not {int(seeded.exit)}"
        )
        yield from _unless((night.ended is None) is killed, f"ended: {night.ended}")
        actual = changes(history, night)
        expected = {str(change): lines for change, lines in seeded.changes.items()}
        yield from _unless(actual == expected, f"changes: {actual}, not {expected}")
        again = any("the night was killed meanwhile" in attempt.why for attempt in history.attempts(night.id))
        yield from _unless(again is (number == GOES_ON), f"it {'goes on' if again else 'does not go on'} after a kill")
        causes = {cause.claim: cause.told for cause in night.causes}
        if number == 5:
            reasons = [words for words in causes.values() if words]
            yield from _unless(set(causes) == {*NAMED}, f"a first bad patch is asked for of {sorted(causes)}")
            yield from _unless(len(reasons) == 1 and reasons[0].endswith(FIRST_BAD), f"the first bad patch: {causes}")
        else:
            yield from _unless(not causes, f"a first bad patch: {causes}")

    def _summary(self, number: int, night: Night) -> Iterator[str]:
        """``history summary``: its headline and exit status."""
        code, output = self._world.ask("summary", night.id)
        seeded = NIGHTS[number]
        expected = 2 if number == KILLED else int(seeded.exit)  # no cell of it came to a claim
        yield from _unless(code == expected, f"history summary: exit {code}, not {expected}")
        regressed = len(seeded.changes.get(Change.REGRESSED, ())) + len(seeded.changes.get(BROKE, ()))
        count = f"{regressed or 'no'} regression{'' if regressed == 1 else 's'}"
        head = (output.splitlines() or [""])[0]
        yield from _unless(f": {count}, " in head, f"history summary: {head}")
        yield from _unless((", not finished" in head) is (number == KILLED), f"history summary: {head}")

    def _page(self, number: int, night: Night) -> Iterator[str]:
        """The trend page's squares of the night."""
        file = self._world.folder / "trend.html"
        code, output = self._world.ask("trend", str(file))
        yield from _unless(code == 0, f"history trend: {output}")
        actual = squares(file.read_text(encoding="utf-8"), night.id)
        expected = dict(zip(CELLS, NIGHTS[number].squares, strict=True))
        yield from _unless(actual == expected, f"trend page: {actual}, not {expected}")

    def _compare(self, number: int, night: Night) -> Iterator[str]:
        """``history compare`` of each cell's run with the one before."""
        if number in (1, KILLED, FULL):
            return
        for cell in CELLS:
            with History(self._world.history) as history:
                whole = [
                    run for run in history.runs()
                    if run.place and cell_of(run.place.cell) == cell and run.place.number == 1
                    and run.counted and not run.cut_short
                ]  # fmt: skip
            if not whole or whole[-1].place is None or whole[-1].place.night != night.id:
                yield from _unless(cell in NIGHTS[number].changes.get(BROKE, ()), f"{cell}: there is no whole run")
                continue
            code, output = self._world.ask("compare", whole[-2].id, whole[-1].id)
            actual, expected = compare_lines(output), comparison_of(number, cell)
            worse = int(str(Change.REGRESSED) in expected)
            yield from _unless(
                (code, actual) == (worse, expected), f"history compare: {cell}: exit {code}: {actual}, not {expected}"
            )


def cell_of(name: str) -> str:
    """The short name of a cell."""
    return next(cell for cell in CELLS if re.search(rf"/{cell}\b", name))


def changes(history: History, night: Night) -> dict[str, set[str]]:
    """What became of which claims in a night, by change."""
    changes_of: dict[str, set[str]] = {}
    for cell_review in review(history, night).cells:
        cell = cell_of(cell_review.cell)
        if cell_review.broke:
            changes_of.setdefault(BROKE, set()).add(cell)
        for line in cell_review.comparison.lines if cell_review.comparison else ():
            if line.change in _GROUPS:
                changes_of.setdefault(str(line.change), set()).add(f"{cell} {line.claim}")
    return changes_of


def compare_lines(output: str) -> dict[str, set[str]]:
    """The claims that ``history compare`` names, by change."""
    changes_of: dict[str, set[str]] = {}
    for change, claim in re.findall(rf"^({'|'.join(_GROUPS)}) +(\w+)$", output, re.MULTILINE):
        changes_of.setdefault(change, set()).add(claim)
    return changes_of


def claim_lines(output: str) -> dict[str, list[str]]:
    """The statuses that ``history claim`` names, by cell, each once a night; nights without one are left out."""
    lines_of: dict[str, list[str]] = {}
    cell = ""
    for line in output.splitlines():
        if line.startswith("series="):
            cell = cell_of(line)
            lines_of[cell] = []
        elif row := re.match(r"  \d{4}-\d\d-\d\d \d\d:\d\d  \S+  ([A-Z/]+)", line):
            lines_of[cell].append("/".join(dict.fromkeys(row[1].split("/"))))
    return lines_of


def squares(text: str, night: str) -> dict[str, str]:
    """What the trend page says of a night's cells."""
    when = f"{night[:4]}-{night[4:6]}-{night[6:8]} {night[9:11]}:{night[11:13]}: "
    squares_of = {}
    for name, row in re.findall(
        r'<tr><th scope="row"><a href="#track-\d+"[^>]*>(.*?)</a></th>(.*?)</tr>', text, re.DOTALL
    ):
        titles = [unescape(title) for title in re.findall(r'title="([^"]*)"', row)]
        texts = [title.removeprefix(when) for title in titles if title.startswith(when)]
        squares_of[cell_of(name)] = (
            re.sub(r"(every claim PASS or SKIP|could not be tried|no claim any more|was up).*", r"\1", texts[-1])
            if texts
            else "nothing"
        )
    return squares_of


def _unless(holds: bool, words: str) -> Iterator[str]:  # noqa: FBT001
    if not holds:
        yield words
