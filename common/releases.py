# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel releases, and ranges of them such as ``>=6.12.117,<6.13``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

Numbers = tuple[int, int, int]
_OPERATORS: dict[str, Callable[[Numbers, Numbers], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})")


def numbers(release: str) -> Numbers:
    """Three numbers to compare; what follows them (``-rc1``) does not count.

    :raises ValueError: it is no kernel release.
    """
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", release)
    if found is None:
        raise ValueError(f"{release!r} is not a kernel release")
    major, minor, patch = (int(number or 0) for number in found.groups())
    return major, minor, patch


def check(text: str) -> None:
    """See whether a text is a range.

    :raises ValueError: it is none.
    """
    _clauses(text)


def fits(release: str, text: str) -> bool:
    """Whether a release lies in a range.

    :raises ValueError: the one is no release, or the other no range.
    """
    return all(_OPERATORS[sign](numbers(release), numbers(bound)) for sign, bound in _clauses(text))


def meet(*texts: str) -> bool:
    """Whether there is a release that lies in all of these ranges.

    :raises ValueError: one is no range.
    """
    bounds = [numbers(bound) for text in texts for _, bound in _clauses(text)]
    # The least release that lies in all of them is 0.0.0, a bound, or the one after a bound.
    least = [(0, 0, 0), *bounds, *((major, minor, patch + 1) for major, minor, patch in bounds)]
    return any(all(fits(".".join(map(str, one)), text) for text in texts) for one in least)


def _clauses(text: str) -> list[tuple[str, str]]:
    found = [_CLAUSE.fullmatch(clause.strip()) for clause in text.split(",")]
    clauses = [clause.group(1, 2) for clause in found if clause is not None]
    if len(clauses) != len(found):
        raise ValueError("not a version range; for instance >=6.12,<6.13")
    return [(sign, release) for sign, release in clauses]
