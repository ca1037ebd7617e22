# SPDX-License-Identifier: GPL-2.0-or-later
"""A watch over a row: what host and guest must not have done while a path that must work was tried in the guest.

Whatever the guest's own result, the row fails, by its name, when memory went to the VMM as if it were a device's, when
KVM gave up on the guest, or when one of the kernels complained; and when the guest was lost or stalled.
"""

from __future__ import annotations

from collections.abc import Callable

from common.errors import DeadlineError, MachineError
from common.waiting import Deadline, poll_until
from host_setup.hosts import kernel_log
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.inquest import BEAT
from signoff.observation import Check


class Watch:
    """Everything that went wrong since the watch began.

    :param from_start: it began with the guest's QEMU; else it begins now.
    """

    def __init__(self, host: Host, guest: Guest, *, from_start: bool = False) -> None:
        self._host = host
        self._guest = guest
        self._host_log = len(host.kernel_log())
        self._noted = 0 if from_start else guest.memory.exits().noted
        self._console = 0 if from_start else guest.console_since(0)[0]

    def checks(self) -> list[Check]:
        """Whether all went well so far."""
        splats = kernel_log.splats(self._guest.console_since(self._console)[1])
        if splats:  # what was said may have begun before the watch
            splats.append(f"its console ends with:\n{self._guest.console_tail()}")
        return [*self.host_checks(), Check.none("complaints of the guest's kernel", splats)]

    def host_checks(self) -> list[Check]:
        """The same, without a look at the guest's console, for a guest that is to panic."""
        exits = self._guest.memory.exits()
        counted = "counted" if exits.total and exits.device and not exits.missed else f"not all counted: {exits}"
        return [
            Check("exits of the guest, some of them to devices", "counted", counted),
            Check.none("exits that no working guest makes", exits.lines_since(self._noted)),
            self._host_kernel(),
        ]

    def blame(self, error: Exception) -> list[Check]:
        """What the watch saw that is wrong, now that the row could not be tried to its end; empty if nothing is.

        :param error: what ended it.
        """
        if self._host.vitals.reason is not None:
            results = [self._host_kernel()]
        elif self._guest.vitals.reason is not None:  # nobody tells the exits of a guest that has ended
            results = [self._host_kernel(), self._lives(error)]
        else:
            results = [*self.host_checks(), self._lives(error)]
        return [check for check in results if not check.right]

    def _lives(self, error: Exception) -> Check:
        guest, name = self._guest, "the guest lives"
        if guest.vitals.reason is not None:
            return Check(name, "true", f"{guest.vitals.reason}; its console ends with:\n{guest.console_tail()}")
        before = guest.count_beats()
        try:
            poll_until(lambda: guest.count_beats() > before, Deadline(BEAT), "a heartbeat", interval=0.5)
        except DeadlineError:
            return Check(name, "true", f"stalled: no heartbeat for {BEAT:g} s, after: {error}")
        return Check(name, "true", "true")

    def _host_kernel(self) -> Check:
        return host_kernel(self._host, self._host_log)


def look_and_watch(
    host: Host, guest: Guest, look: Callable[[Guest], list[Check]], *, from_start: bool = False
) -> list[Check]:
    """Have a guest looked at, and watch; returns the checks of both.

    :raises SealproofError: the row could not be tried to its end, and neither host nor guest is to blame.
    """
    watch = Watch(host, guest, from_start=from_start)
    try:
        return [*look(guest), *watch.checks()]
    except (MachineError, DeadlineError) as error:
        blamed = watch.blame(error)
        if not blamed:
            raise
        return blamed


def host_kernel(host: Host, since: int) -> Check:
    """Whether the host's kernel has not complained since its log had so many characters."""
    return Check.none("complaints of the host's kernel", kernel_log.splats(host.kernel_log()[since:]))
