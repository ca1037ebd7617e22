# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that reboots in a row by itself: its init counts down on its disk (guest_images/guest/init)."""

from __future__ import annotations

import re

from common.waiting import Deadline
from host_setup.hosts.guest import Guest

DISK = "/dev/vda"
LINE = re.compile(r"sealproof: reboots again, (\d+) left, protected: (yes|no)")


def reboot_in_a_row(guest: Guest, times: int, deadline: Deadline) -> list[tuple[int, bool]]:
    """Reboot a guest so many times, at least once, and wait until its last boot is done.

    :param guest: with a QEMU that a reset does not end.
    :returns: for each start but the last how many reboots were left then, and whether the guest was opted in.
    :raises DeadlineError: it does not come up. :raises MachineLostError: its QEMU ended.
    """
    before, length = guest.boots(), len(guest.console())
    countdown = f"echo reboots {times - 1} | dd of={DISK} conv=notrunc,fsync && echo b > /proc/sysrq-trigger"
    guest.ssh.run(["sh", "-c", f"{{ sleep 0.1; {countdown}; }} > /dev/null 2>&1 &"], seconds=20)
    guest.close()  # nothing answers on the old connections
    guest.wait_for_boot(before + 1, deadline)
    return [(int(reboots), protected == "yes") for reboots, protected in LINE.findall(guest.console()[length:])]
