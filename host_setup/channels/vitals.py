# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a machine is alive: the one place that records its death, and then ends every wait on it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from common.errors import MachineLostError
from common.waiting import Deadline

SETTLE = 1.0  # seconds that a watcher gets to tell of a death which a broken channel already shows


class Vitals:
    """The life of one machine.

    Watchers (its console, its QEMU, its heartbeat) call ``lost``; whoever holds a channel to it registers how to end
    a call that is under way. Safe for any thread.

    :param name: the machine, as errors name it.
    :ivar uncounted: a growing count of seconds that extend each wait on it, as of ``Deadline``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.uncounted: Callable[[], float] | None = None
        self._mutex = threading.Lock()
        self._reason: str | None = None
        self._harm = False
        self._gone = threading.Event()
        self._wake: Callable[[], None] | None = None
        self._enders: list[Callable[[], None]] = []

    @property
    def reason(self) -> str | None:
        """Why it was lost; None while it lives."""
        return self._reason

    @property
    def harm(self) -> bool:
        """Whether it was lost because its own kernel died or hangs; otherwise somebody ended it."""
        return self._harm

    def note_loss(self, reason: str, *, harm: bool = False) -> None:
        """Note the death of the machine; the first reason counts. Ends every registered call.

        :param harm: its own kernel died, or hangs.
        """
        with self._mutex:
            if self._reason is not None:
                return
            self._reason = reason
            self._harm = harm
            self._gone.set()
            enders = list(self._enders)
        for end in enders:
            end()

    def on_loss(self, end: Callable[[], None]) -> Callable[[], None]:
        """Call ``end``, from a watcher's thread, when the machine is lost; at once if it already is.

        :returns: a function that takes the registration back.
        """
        with self._mutex:
            is_lost = self._reason is not None
            if not is_lost:
                self._enders.append(end)
        if is_lost:
            end()

        def forget() -> None:
            with self._mutex:
                if end in self._enders:
                    self._enders.remove(end)

        return forget

    def deadline(self, seconds: float) -> Deadline:
        """A deadline for the machine."""
        return Deadline(seconds, uncounted=self.uncounted)

    def asleep(self, wake: Callable[[], None] | None) -> None:
        """Let the next ``check`` call ``wake``: each use of the machine begins with a check. None: it is awake."""
        self._wake = wake

    def check(self) -> None:
        """Raise if the machine is lost; wake it if it is asleep.

        :raises MachineLostError: with the reason.
        """
        wake = self._wake  # another thread may wake it meanwhile
        if wake is not None:
            wake()
        if self._reason is not None:
            raise MachineLostError(
                f"{self.name} is lost: {self._reason}",
                hint="see the end of the console log in the evidence folder",
            )

    def check_broken(self) -> None:
        """Like ``check``, for a channel that broke: often it is the first to know, so its watchers get a moment.

        :raises MachineLostError: with the reason.
        """
        self._gone.wait(SETTLE)
        self.check()
