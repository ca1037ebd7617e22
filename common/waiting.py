# SPDX-License-Identifier: GPL-2.0-or-later
"""Every wait of the project: poll until, deadline, what for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from common.errors import DeadlineError

T = TypeVar("T")


class Deadline:
    """A point on the monotonic clock; one deadline can bound several calls.

    :param seconds: from now.
    :param uncounted: a growing count of seconds to exclude (e.g. time the host was not scheduled);
        they extend the deadline.
    """

    __slots__ = ("_end", "_uncounted", "seconds")

    def __init__(self, seconds: float, *, uncounted: Callable[[], float] = lambda: 0.0) -> None:
        self.seconds = seconds
        self._uncounted = uncounted
        self._end = time.monotonic() + seconds - uncounted()

    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end + self._uncounted() - time.monotonic())

    def passed(self) -> bool:
        """Whether it is over."""
        return self.left() == 0.0


def poll_until(
    probe: Callable[[], T | None],
    deadline: Deadline,
    what: str,
    *,
    check: Callable[[], None] = lambda: None,
    explain: Callable[[], str] = lambda: "",
    interval: float = 0.02,
) -> T:
    """Call ``probe`` until it returns something true, and return that.

    :param check: raises when the wait has become pointless (a machine died); called before each probe.
    :param explain: what the machine was doing, asked for once, when the wait runs out.
    :param interval: seconds between two probes.
    :raises DeadlineError: when the deadline passes; names ``what``.
    """
    while True:
        check()
        found = probe()
        if found:
            return found
        if deadline.passed():
            detail = explain()
            raise DeadlineError(
                f"waited {deadline.seconds:g} s for {what}" + (f"\n{detail}" if detail else ""),
                hint="look at the console log in the evidence folder; repeat with --keep-on-failure to log in",
            )
        time.sleep(min(interval, deadline.left() or interval))
