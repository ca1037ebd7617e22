# SPDX-License-Identifier: GPL-2.0-or-later
"""What more machines would bring, computed from the measured parts of a merged run.

Avocado hands the groups out in their order, the next one to whichever machine is free (list scheduling). With
``t[1] .. t[k]`` the measured seconds of the groups::

    T(n) = the latest end, when each group in its order begins on the machine that is free first
    T(n) >= max((t[1] + .. + t[k]) / n, longest t)       no order does better than that
    S(n) = T(1) / T(n)

It leaves out what a job costs beside its groups, and takes all machines for as fast as those that were measured.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from common import table as tables

FORMULA = """T(n) = latest end when each group, in its order, begins on the machine that is free first
floor = max(sum(t) / n, longest t)     S(n) = T(1) / T(n)"""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a number of machines would take.

    :ivar seconds: T(n). :ivar floor: what no order of the groups could undercut, in seconds. :ivar speedup: S(n).
    """

    machines: int
    seconds: float
    floor: float
    speedup: float


def forecast(seconds: Sequence[float], machines: int) -> Forecast:
    """Compute T(n), its floor and S(n).

    :param seconds: of the groups, in their order; at least one. :param machines: n, at least 1.
    """
    ends = [0.0] * machines  # a heap: the machine that is free first
    for duration in seconds:
        heapq.heapreplace(ends, ends[0] + duration)
    total = sum(seconds)
    latest = max(ends)
    return Forecast(machines, latest, max(total / machines, *seconds, 0.0), total / latest if latest else 1.0)


def table(seconds: Sequence[float], machines: Sequence[int]) -> list[str]:
    """The forecasts as lines, with the formula."""
    longest = max(seconds)
    lines = [
        FORMULA,
        f"{len(seconds)} groups, {sum(seconds):.1f} s in all, the longest {longest:.1f} s",
        "",
    ]
    rows = [("machines", "T(n)", "floor", "S(n)")]
    for number in machines:
        run = forecast(seconds, number)
        rows.append((str(run.machines), f"{run.seconds:.1f} s", f"{run.floor:.1f} s", f"{run.speedup:.2f}"))
    return [*lines, *tables.table(rows, right=range(len(rows[0])))]
