# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel releases, and ranges of them such as ``>=6.12.117,<6.13``."""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet

Numbers = tuple[int, int, int]
_OPERATORS = (">=", "<=", "==", "!=", ">", "<")
_BOUND = re.compile(r"\d+(?:\.\d+){0,2}")


def numbers(release: str) -> Numbers:
    """Three numbers to compare; what follows them (``-rc1``) does not count.

    :raises ValueError: it is no kernel release.
    """
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", release)
    if match is None:
        raise ValueError(f"{release!r} is not a kernel release")
    major, minor, patch = (int(number or 0) for number in match.groups())
    return major, minor, patch


def check(text: str) -> None:
    """Check that a text is a range.

    :raises ValueError: the text is not a range.
    """
    _range(text)


def fits(release: str, text: str) -> bool:
    """Whether a release lies in a range.

    :raises ValueError: the one is no release, or the other no range.
    """
    return _range(text).contains(_version(numbers(release)))


def meet(*texts: str) -> bool:
    """Whether there is a release that lies in all of these ranges.

    :raises ValueError: one is no range.
    """
    ranges = [_range(text) for text in texts]
    bounds = [numbers(clause.version) for specifiers in ranges for clause in specifiers]
    # The least release that lies in all of them is 0.0.0, a bound, or the one after a bound.
    least = [(0, 0, 0), *bounds, *((major, minor, patch + 1) for major, minor, patch in bounds)]
    return any(all(specifiers.contains(_version(bound)) for specifiers in ranges) for bound in least)


def _range(text: str) -> SpecifierSet:
    """The range as ``packaging`` has it, of whose forms a range of releases has only some."""
    fault = "not a version range; for instance >=6.12,<6.13"
    try:
        specifiers = SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(fault) from error
    are_versions = all(clause.operator in _OPERATORS and _BOUND.fullmatch(clause.version) for clause in specifiers)
    if not (are_versions and all(clause.strip() for clause in text.split(","))):
        raise ValueError(fault)
    return specifiers


def _version(release: Numbers) -> str:
    return ".".join(map(str, release))
