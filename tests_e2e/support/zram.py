# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk of the host that does direct I/O: a zram device, whose driver reads and writes the very pages of the caller.

The host's own file systems lie in memory, and tmpfs takes O_DIRECT and copies all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from host_setup.channels.ssh import Ssh

CONTROL = "/sys/class/zram-control"  # Documentation/admin-guide/blockdev/zram.rst
SIZE = "1M"


@contextmanager
def zram_disk(ssh: Ssh) -> Iterator[str]:
    """A fresh disk of zeros, nobody else's: the path of its device."""
    script = 'number=$(cat "$0/hot_add") && echo "$1" > "/sys/block/zram$number/disksize" && echo "$number"'
    number = ssh.run(["sh", "-c", script, CONTROL, SIZE], seconds=10).require().text
    try:
        yield f"/dev/zram{number}"
    finally:
        remove = 'echo 1 > "/sys/block/zram$1/reset"; echo "$1" > "$0/hot_remove"'
        ssh.run(["sh", "-c", remove, CONTROL, number], seconds=10).require()
