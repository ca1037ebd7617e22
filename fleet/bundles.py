# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups of claims in as few runs as there are workers.

Each run costs a start of pytest, a restored host and the claims about its health. One machine pays that once a worker;
many machines, one of which may go away, share smaller pieces (``fleet.groups``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.groups import Group

GUESS = 4.0  # seconds for a claim that never ran here; the mean of a whole list on two cores, docs/measured.md


def bundles(groups: Sequence[Group], seconds: Mapping[str, float], number: int) -> list[tuple[str, ...]]:
    """The files of each worker: the longest group first, to whoever has least (Graham's LPT rule).

    LPT ends at most a third later than the best order does (R. L. Graham, 1969, SIAM J. Appl. Math. 17, 2).

    :param seconds: what a claim took last time. :param number: of workers, at least 1.
    :returns: at most ``number`` bundles, none of them empty, each in the order of ``groups``.
    """
    takes = {group: sum(seconds.get(claim, GUESS) for claim in group.claims) for group in groups}
    loads = [0.0] * number
    of: dict[Group, int] = {}
    for group in sorted(groups, key=lambda group: -takes[group]):
        of[group] = loads.index(min(loads))
        loads[of[group]] += takes[group]
    files = [tuple(dict.fromkeys(group.file for group in groups if of[group] == at)) for at in range(number)]
    return [each for each in files if each]
