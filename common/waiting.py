# SPDX-License-Identifier: GPL-2.0-or-later
"""Every wait of the project: poll until, deadline, what for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from common.errors import DeadlineError, SealproofError

T = TypeVar("T")


BUSY = 4  # times as long as it says a wait takes on a busy computer, at the most
_PRESSURE = Path("/proc/pressure/cpu")


def seconds_starved() -> float:
    """Seconds since boot in which a task of this computer waited for a processor; 0 where the kernel does not count.

    Source: the total of "some" in /proc/pressure/cpu, microseconds (Documentation/accounting/psi.rst).
    """
    try:
        return int(_PRESSURE.read_bytes().split(b"total=", 2)[1].split()[0]) / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


class Deadline:
    """A point on the monotonic clock; one deadline can bound several calls.

    :param seconds: from now.
    :param uncounted: a growing count of seconds to exclude (e.g. time the host was not scheduled); they extend the
        deadline. Default: :func:`seconds_starved`, which extends it to ``BUSY`` times the seconds at the most.
    """

    __slots__ = ("_at_most", "_before", "_end", "_uncounted", "seconds")

    def __init__(self, seconds: float, *, uncounted: Callable[[], float] | None = None) -> None:
        self.seconds = seconds
        self._uncounted = uncounted or seconds_starved
        self._at_most = (BUSY - 1) * seconds if uncounted is None else math.inf
        self._before = self._uncounted()
        self._end = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end + self._on_top() - time.monotonic())

    def is_over(self) -> bool:
        """Whether it is over."""
        return self.seconds_left() == 0.0

    def __str__(self) -> str:
        on_top = self._on_top()
        return f"{self.seconds:g} s" + (f", and {on_top:.0f} s more on a busy computer," if on_top >= 1 else "")

    def due(self) -> bool:
        """Whether the seconds are over, without what comes on top: a library that was given them waits no longer."""
        return time.monotonic() >= self._end

    def _on_top(self) -> float:
        return min(self._uncounted() - self._before, self._at_most)


class Stopwatch:
    """Counts seconds between ``begin`` and ``end``, again and again."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._before = 0.0

    @property
    def runs(self) -> bool:
        """Whether it was begun and not ended."""
        return self._since is not None

    def begin(self) -> None:
        """Count from now on; one that counts goes on."""
        if self._since is None:
            self._since = time.monotonic()

    def end(self) -> None:
        """Count no longer."""
        self._before, self._since = self.seconds(), None

    def seconds(self) -> float:
        """Seconds so far."""
        since = self._since  # another thread may end it meanwhile
        return self._before + (time.monotonic() - since if since is not None else 0.0)


def poll_until(
    probe: Callable[[], T | None],
    deadline: Deadline,
    what: str,
    *,
    check: Callable[[], None] = lambda: None,
    explain: Callable[[], str] = lambda: "",
    not_yet: tuple[type[Exception], ...] = (),
    interval: float = 0.02,
) -> T:
    """Call ``probe`` until it returns something true, and return that.

    :param check: raises when the wait has become pointless (a machine died); called before each probe.
    :param explain: what the machine was doing, asked for once, when the wait runs out.
    :param not_yet: errors of ``probe`` after which it is called again.
    :param interval: seconds between two probes.
    :raises DeadlineError: when the deadline passes; names ``what``, and why the last call of ``probe`` failed, if it
        did: that error is its cause.
    """
    while True:
        check()
        failed: Exception | None = None
        try:
            if value := probe():
                return value
        except not_yet as error:
            failed = error
        if deadline.is_over():
            reason = failed.message if isinstance(failed, SealproofError) else str(failed or "")
            raise DeadlineError(
                "\n".join(part for part in (f"waited {deadline} for {what}", reason, explain()) if part),
                hint="look at the console log in the evidence folder; repeat with --keep-on-failure to log in",
            ) from failed
        time.sleep(min(interval, deadline.seconds_left() or interval))
