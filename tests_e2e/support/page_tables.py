# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's page tables as it tells them (arch/x86/mm/dump_pagetables.c, PTDUMP_DEBUGFS)."""

from __future__ import annotations

import re
from bisect import bisect_right

from common.errors import ChannelError
from host_setup.channels.ssh import Ssh

DUMP = "/sys/kernel/debug/page_tables/kernel"
RANGE = re.compile(r"0x([0-9a-f]+)-0x([0-9a-f]+)\s+\d+[KMGTPE]\s+(.*)$")
READABLE = {"RW", "ro"}  # one of them stands in each line of what is present


class PageTables:
    """What is mapped.

    :ivar ranges: first address, address after the last, and what is said of the entries, in order.
    :param dump: ranges one after the other, present or not; lines that tell no range are titles.
    """

    def __init__(self, dump: str) -> None:
        matches = [match for line in dump.splitlines() if (match := RANGE.match(line))]
        self.ranges = sorted((int(table[1], 16), int(table[2], 16), table[3].split()) for table in matches)
        self._starts = [start for start, _, _ in self.ranges]

    def maps(self, address: int) -> bool:
        """Whether a load at an address of the kernel succeeds.

        :raises ChannelError: the dump says nothing of it.
        """
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self.ranges[at][1]:
            raise ChannelError(f"the dump of the kernel's page tables does not tell of {address:#x}")
        return not READABLE.isdisjoint(self.ranges[at][2])


def page_tables(ssh: Ssh) -> PageTables:
    """The kernel's page tables now."""
    return PageTables(ssh.run(["cat", DUMP], seconds=60).require().text)
