# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers from options: each is one that its command can work with, or a wrong option."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

MOST = 10**9
MOST_MINUTES = 60.0 * 24 * 366  # a year


def whole_number(least: int, most: int = MOST) -> Callable[[str], int]:
    """Reads a whole number from ``least`` to ``most``.

    What it returns raises argparse.ArgumentTypeError where a text is none.
    """

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a whole number from {least} to {most}")
        return number

    return read


def minutes(text: str) -> float:
    """Minutes, more than 0, at most a year.

    :raises argparse.ArgumentTypeError: the text is none.
    """
    number = _number(text)
    if not 0 < number <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a number of minutes above 0, and at most a year's")
    return number


def minutes_from_0(text: str) -> float:
    """Minutes, at most a year; 0 where a command has something to do that takes none.

    :raises argparse.ArgumentTypeError: the text is none.
    """
    number = _number(text)
    if not 0 <= number <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a number of minutes from 0 on, and at most a year's")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
