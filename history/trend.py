# SPDX-License-Identifier: GPL-2.0-or-later
"""The trend page: all nights in one file, which needs no other, no script and no network.

Its policy (Content-Security-Policy) allows its own style, by the hash, and nothing else. A claim's stripe has one bar
a night: low for PASS, full for FAIL, so that nobody needs to see the colours. Runs outside of a night are columns of
their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from urllib.parse import quote

from markupsafe import Markup

from history.compare import WINDOW, Background, Change, ClaimResult, Comparison, Sitting, compare, is_slower, times_of
from history.database import Attempt, History, Night
from history.model import Run
from history.review import GOOD, LOOKED_AT, night_of, review
from history.sittings import sittings
from history.summary import headline
from history.wording import inputs
from signoff.report.page import STATUS_MEANING, SYMBOLS, environment, policy_of, to_css
from signoff.verdict import Status

NIGHTS = 30
"""Columns that are shown, the newest."""
STEP, BAR = 10, 8  # units of a column, and of its bar
HEIGHT, LINE = 14, 30  # units of a stripe, and of the line of times
_TALL = {Status.PASS: 5, Status.SKIP: 3, Status.MISS: 9, Status.ERROR: 11, Status.FAIL: 14}
_SHOWN_INPUTS = 8


class Look(StrEnum):
    """What a night has made of a cell, with the sign that stands for it."""

    REGRESSED = "regressed"
    BROKE = "comes to no claim any more"
    BROKEN = "could not be tried"
    FLAKY = "flaky"
    FAILING = "not PASS, as before"
    WELL = "every claim PASS or SKIP"
    CUT = "killed, or ended as the time was up"
    LEFT = "not begun: no time"


_SIGNS = {
    Look.REGRESSED: "▼", Look.BROKE: "⊘", Look.BROKEN: "!", Look.FLAKY: "~", Look.FAILING: "✗", Look.WELL: "✓",
    Look.CUT: "†", Look.LEFT: "·",
}  # fmt: skip
_CLASSES = {
    Look.REGRESSED: "FAIL worse", Look.BROKE: "FAIL worse", Look.BROKEN: "ERROR", Look.FLAKY: "MISS",
    Look.FAILING: "FAIL", Look.WELL: "PASS", Look.CUT: "MISS", Look.LEFT: "SKIP",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Square:
    """One cell in one night.

    :ivar count: of the claims that are meant; empty: it says nothing. :ivar link: to the report; empty: there is none.
    """

    look: Look
    count: str
    label: str
    link: str

    @property
    def sign(self) -> str:
        """Stands for it."""
        return _SIGNS[self.look]

    @property
    def classes(self) -> str:
        """Its look in the style."""
        return _CLASSES[self.look]


@dataclass(frozen=True, slots=True)
class Bar:
    """One claim in one night, if it is not simply PASS: a link to its evidence."""

    x: int
    status: Status
    best: Status
    label: str
    link: str


@dataclass(frozen=True, slots=True)
class Jump:
    """A time that is beyond noise."""

    x: float
    y: float
    word: str
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """A claim of a track.

    :ivar path: of all bars that are PASS. :ivar line: of the times. :ivar seconds: the first, the longest, the last.
    """

    claim: str
    sentence: str
    worst: Status
    now: str
    path: str
    bars: tuple[Bar, ...]
    line: str
    jumps: tuple[Jump, ...]
    seconds: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Track:
    """A cell, or the runs of one kind outside of any night.

    :ivar short: its name in the matrix. :ivar squares: one a column; None: the night had nothing to do there.
    :ivar changes: the nights in which inputs changed.
    :ivar causes: the first bad patches that were found: night, claim, and what was found.
    """

    name: str
    short: str
    anchor: str
    squares: tuple[Square | None, ...]
    telling: tuple[Row, ...]
    quiet: tuple[Row, ...]
    changes: tuple[tuple[str, tuple[str, ...]], ...]
    causes: tuple[tuple[str, str, str], ...]


def to_html(history: History, page: Path, nights: int = NIGHTS) -> str:
    """The page as text.

    :param page: where it will lie: links to the evidence are relative to it. :param nights: how many are shown.
    """
    runs: dict[str, list[Run]] = {}
    for run in history.runs():
        runs.setdefault(run.track, []).append(run)
    nights_by_id = {night.id: night for night in history.nights()}
    columns = sorted({*nights_by_id, *(run.id for each in runs.values() for run in each if not run.place)})[-nights:]
    attempts = {night: history.attempts(night) for night in columns if night in nights_by_id}
    names = dict.fromkeys([*(cell for night in nights_by_id.values() for cell in night.cells), *runs])
    short = short_names([*names])
    tracks = [
        _track(
            f"track-{number}",
            name,
            short[name],
            runs.get(name, [])[-LOOKED_AT:],
            columns,
            nights_by_id,
            attempts,
            page.parent,
        )
        for number, name in enumerate(names, 1)
    ]
    newest = review(history, nights_by_id[max(nights_by_id)]) if nights_by_id else None
    templates = environment("history")
    style = to_css() + templates.get_template("trend.css").render()
    return templates.get_template("trend.html.j2").render(
        policy=policy_of(style),
        style=Markup(style),
        title=headline(newest) if newest else "sealproof, runs",
        newest=newest,
        tone={0: "good", 1: "bad", 2: "open"}[newest.exit()] if newest else "neutral",
        columns=_heads(columns),
        tracks=[track for track in tracks if any(track.squares)],
        looks=[(_SIGNS[look], _CLASSES[look], look) for look in Look],
        symbols=SYMBOLS,
        statuses=STATUS_MEANING,
        tall=_TALL,
        step=STEP,
        bar_width=BAR,
        height=HEIGHT,
        line=LINE,
        width=max(STEP * len(columns), STEP),
    )


def _track(
    anchor: str, name: str, short: str, runs: Sequence[Run], columns: Sequence[str], nights: Mapping[str, Night],
    attempts: Mapping[str, Sequence[Attempt]], base: Path,
) -> Track:  # fmt: skip
    tried = [sitting for sitting in sittings(runs) if sitting.results]
    by_column = {night_of(sitting): sitting for sitting in tried}
    compared = {
        night_of(sitting): _comparison_of(tried[:number], sitting) for number, sitting in enumerate(tried) if number
    }
    squares = []
    for column in columns:
        begun = [attempt for attempt in attempts.get(column, ()) if attempt.cell == name]
        squares.append(_square(column, name, by_column.get(column), compared.get(column), begun, nights, base))
    shown = {column: by_column[column] for column in columns if column in by_column}
    rows = list(_rows(shown, columns, tried, compared, base))
    quiet = [row for row in rows if row.worst in GOOD and not row.jumps]
    changes = [
        (_when(column), _few(inputs(compared[column].inputs)))
        for column in shown
        if column in compared and compared[column].inputs
    ]
    telling = [row for row in rows if row not in quiet]
    causes = [
        (_when(column), cause.claim, cause.told)
        for column in reversed(columns)
        for cause in (nights[column].causes if column in nights else ())
        if cause.cell == name and cause.told
    ]
    return Track(
        name, short, anchor, tuple(squares), tuple(telling), tuple(quiet), tuple(reversed(changes)), tuple(causes)
    )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names for the matrix, where there is little space: without what all cells share, and paths by their ends."""
    parts = {name: re.split(r" (?=[a-z][a-z-]*=)", name) for name in names}
    shared = set.intersection(*map(set, parts.values())) if len(names) > 1 else set()
    short = {
        name: " ".join(re.sub(r"=\S*/(?=[^/\s])", "=…/", part) for part in words if part not in shared) or name
        for name, words in parts.items()
    }
    return short if len({*short.values()}) == len(names) else {name: name for name in names}


def _comparison_of(past: Sequence[Sitting], now: Sitting) -> Comparison:
    return compare(past, now, Background(times=times_of(past[-WINDOW:])))


def _square(
    column: str, name: str, sitting: Sitting | None, compared: Comparison | None, begun: Sequence[Attempt],
    nights: Mapping[str, Night], base: Path,
) -> Square | None:  # fmt: skip
    night = nights.get(column)
    if sitting is None:
        if not begun:
            if night is None or name not in night.cells:
                return None
            look = Look.LEFT if night.ended else Look.CUT
            return Square(look, "", f"{_when(column)}: {look}", "")
        cut = any(attempt.late or not attempt.ended for attempt in begun)
        look = Look.CUT if cut else Look.BROKE if any(attempt.host for attempt in begun) else Look.BROKEN
        why = next((attempt.why for attempt in reversed(begun) if attempt.why), "")
        return Square(look, "", f"{_when(column)}: {look}{f': {why}' if why else ''}", "")
    bad = {name for name, result in sitting.results.items() if result.worst not in GOOD}
    regressed = {line.claim for line in compared.of(Change.REGRESSED)} if compared else set()
    flaky = {name for name, result in sitting.results.items() if result.is_flaky} - regressed
    looks = (
        (Look.REGRESSED, len(regressed)),
        (Look.FAILING, len(bad - regressed - flaky)),
        (Look.FLAKY, len(flaky)),
    )
    look, count = next(((result, number) for result, number in looks if number > 0), (Look.WELL, 0))
    summary = ", ".join(f"{number} {result}" for result, number in looks if number > 0) or str(Look.WELL)
    return Square(look, str(count or ""), f"{_when(column)}: {summary}", _link(sitting.first, base))


def _rows(
    shown: Mapping[str, Sitting], columns: Sequence[str], tried: Sequence[Sitting],
    compared: Mapping[str, Comparison], base: Path,
) -> Iterator[Row]:  # fmt: skip
    names = dict.fromkeys(claim.id for sitting in reversed([*shown.values()]) for claim in sitting.first.claims)
    normal = times_of(tried)
    for name in names:
        results = {column: sitting.results[name] for column, sitting in shown.items() if name in sitting.results}
        if not results:
            continue
        places = {column: STEP * number for number, column in enumerate(columns)}
        plain = [column for column, result in results.items() if set(result.statuses) == {Status.PASS}]
        bars = [_bar(places[column], column, result, base) for column, result in results.items() if column not in plain]
        last = list(results)[-1]
        took = {column: sitting.seconds[name] for column, sitting in shown.items() if name in sitting.seconds}
        jumps = _jumps(name, tried, normal.get(name, []), compared)
        top = max(took.values(), default=0.0)
        points = {column: (places[column] + BAR / 2, _y(seconds, top)) for column, seconds in took.items()}
        yield Row(
            name,
            next((result.claim.sentence for result in reversed(results.values()) if result.claim.sentence), ""),
            max((result.worst for result in results.values()), key=list(_TALL).index),
            "/".join(dict.fromkeys(results[last].statuses)),
            "".join(_rectangle(places[column], Status.PASS) for column in plain),
            tuple(bars),
            "".join(f"{'L' if number else 'M'}{x:g} {y:g}" for number, (x, y) in enumerate(points.values())),
            tuple(
                Jump(*points[column], word, f"{_when(column)}: {word}, {took[column]:.1f} s")
                for column, word in jumps.items()
                if column in points
            ),
            (next(iter(took.values())), top, list(took.values())[-1]) if took else None,
        )


def _jumps(
    name: str, tried: Sequence[Sitting], normal: Sequence[float], compared: Mapping[str, Comparison]
) -> dict[str, str]:
    """The columns in which a claim's time jumped, and in which direction."""
    jumps = {}
    timed = [night_of(sitting) for sitting in tried if name in sitting.seconds]
    for number, column in enumerate(timed):
        earlier, took = list(normal[max(0, number - WINDOW) : number]), normal[number]
        if not earlier:
            continue
        pace = compared[column].pace if column in compared else 1.0
        if is_slower(earlier, _seconds(tried, column, name), pace):
            jumps[column] = str(Change.SLOWER)
        elif is_slower([took], median(earlier)) and not (
            len(earlier) > 1 and is_slower([earlier[-1]], median(earlier[:-1]))
        ):
            jumps[column] = "faster"
    return jumps


def _seconds(tried: Sequence[Sitting], column: str, name: str) -> float:
    """How long a claim took in a column."""
    return next(sitting.seconds[name] for sitting in tried if night_of(sitting) == column)


def _bar(x: int, column: str, result: ClaimResult, base: Path) -> Bar:
    words = "/".join(result.statuses)
    why = result.claim.why.partition("\n")[0][:200]
    label = f"{_when(column)}: {words}{f': {why}' if why else ''}"
    return Bar(x, result.worst, result.best, label, _link(result.run, base, result.claim.id))


def _rectangle(x: int, status: Status) -> str:
    tall = _TALL[status]
    return f"M{x} {HEIGHT - tall}h{BAR}v{tall}h-{BAR}z"


def _y(seconds: float, top: float) -> float:
    return round(LINE - 4 - (LINE - 8) * seconds / top, 1) if top else LINE - 4


def _link(run: Run, base: Path, claim: str = "") -> str:
    """The address of a run's page, relative to ours; empty if there is no such page here."""
    page = Path(run.folder) / "signoff.html"
    try:
        if not page.is_file():
            return ""
    except (OSError, ValueError):  # a stranger's path
        return ""
    return quote(os.path.relpath(page, base.resolve())) + (f"#{claim}" if claim else "")


def _few(lines: Iterable[str]) -> tuple[str, ...]:
    entries = list(lines)
    more = len(entries) - _SHOWN_INPUTS
    return (*entries[:_SHOWN_INPUTS], *([f"and {more} more"] if more > 0 else []))


def _when(column: str) -> str:
    return f"{column[:4]}-{column[4:6]}-{column[6:8]} {column[9:11]}:{column[11:13]}"


def _heads(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Above each column the day, and the time where the day has several."""
    days = [column[:8] for column in columns]
    return [
        (f"{column[4:6]}-{column[6:8]}", f"{column[9:11]}:{column[11:13]}" if days.count(column[:8]) > 1 else "")
        for column in columns
    ]
