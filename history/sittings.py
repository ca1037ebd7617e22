# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs put together: those that count together are a sitting, and the sittings of one line are a track."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from history.compare import WINDOW, Background, Comparison, Sitting, compare, times_of
from history.database import History
from history.model import Run


def sittings(runs: Iterable[Run]) -> list[Sitting]:
    """The sittings of a track's runs, in the order of their first runs.

    The runs of one night's cell are one; every other run stands alone.
    """
    ordered = sorted(runs, key=lambda run: (run.place.night if run.place else run.id, run.place is None, run.id))
    groups = groupby(ordered, key=lambda run: run.place.night if run.place else run.id)
    return [Sitting(tuple(sorted(group, key=_number))) for _, group in groups]


def tracks(runs: Iterable[Run]) -> dict[str, list[Sitting]]:
    """The sittings of runs, by track."""
    runs_of: dict[str, list[Run]] = {}
    for run in runs:
        runs_of.setdefault(run.track, []).append(run)
    return {track: sittings(runs_of_track) for track, runs_of_track in runs_of.items()}


def compare_runs(history: History | None, before: Run, after: Run) -> Comparison:
    """Compare two runs, with what the history knows of such inputs, and of the times of runs like the earlier one."""
    past, now = Sitting((before,)), Sitting((after,))
    of_before, of_after, times = {}, {}, {}
    if history is not None:
        of_before, of_after = history.statuses(before.identity), history.statuses(after.identity)
        if before.tier == after.tier:
            times = _earlier_times(history, before)
    if before.identity and before.identity == after.identity:
        for statuses in (of_before, of_after):
            for sitting in (past, now):
                for name, result in sitting.results.items():
                    statuses[name] = statuses.get(name, frozenset()) | {*result.statuses}
    if before.tier == after.tier:
        times = times or times_of([past])
    return compare([past], now, Background(of_before, of_after, times))


def _earlier_times(history: History, before: Run) -> dict[str, list[float]]:
    earlier = [run for run in history.runs(before.track) if (run.started, run.id) < (before.started, before.id)]
    return times_of([Sitting((run,)) for run in [*earlier[-WINDOW + 1 :], before]])


def _number(run: Run) -> int:
    return run.place.number if run.place else 0
