# SPDX-License-Identifier: GPL-2.0-or-later
"""The time of what all tests share: kernel, images and host. It is no claim's, although the first test waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class SharedTime:
    """What was spent on fixtures of the session while a test was run.

    :ivar is_last: no test comes after this one, so that its end is also the end of what is shared.
    """

    def __init__(self) -> None:
        self.is_last = False
        self._spent = 0.0
        self._inside = False

    @contextmanager
    def making(self, scope: str) -> Iterator[None]:
        """Around the making of a fixture.

        :param scope: its own.
        """
        if scope != "session" or self._inside:  # one may ask for another
            yield
            return
        self._inside, begun = True, time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            self._spent += time.perf_counter() - begun

    def without(self, call: pytest.CallInfo[None]) -> float:
        """Seconds of a part of a test, without what is shared."""
        spent, self._spent = self._spent, 0.0
        if call.when == "teardown" and self.is_last:
            return 0.0
        return max(0.0, call.duration - spent)
