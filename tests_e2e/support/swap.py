# SPDX-License-Identifier: GPL-2.0-or-later
"""A swap area whose content can be read: a zram device, which gives back by direct I/O what was written to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE

CONTROL = "/sys/class/zram-control"  # Documentation/admin-guide/blockdev/zram.rst
START = 'n=$(cat "$0/hot_add") && d=zram$n; echo "$1" > /sys/block/$d/disksize && mkswap /dev/$d >&2 && swapon /dev/$d'
STOP = 'swapoff /dev/zram$1; echo 1 > /sys/block/zram$1/reset; echo $1 > "$0/hot_remove"'


@dataclass(frozen=True, slots=True)
class SwapArea:
    """A swap area in use, the only one.

    :ivar device: its path.
    """

    ssh: Ssh
    device: str

    def pages(self) -> bytes:
        """All pages of it that hold anything but zeros, one after the other."""
        # Swapping goes past the device's page cache, so reading must, too.
        command = ["/usr/bin/dd", f"if={self.device}", f"bs={PAGE_SIZE}", "iflag=direct", "status=none"]
        content = self.ssh.run(command, seconds=60).require().stdout
        pages = (content[at : at + PAGE_SIZE] for at in range(0, len(content), PAGE_SIZE))
        return b"".join(page for page in pages if any(page))


@contextmanager
def swap_area(ssh: Ssh, size: str) -> Iterator[SwapArea]:
    """A fresh swap area, for as long as the context lasts; what is in it then comes back to memory.

    :param size: as the kernel takes it: ``1M``.
    """
    number = ssh.run(["sh", "-c", f"{START} && echo $n", CONTROL, size], seconds=20).require().text
    try:
        yield SwapArea(ssh, f"/dev/zram{number}")
    finally:
        ssh.run(["sh", "-c", STOP, CONTROL, number], seconds=60).require()
