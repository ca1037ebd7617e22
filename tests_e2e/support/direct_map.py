# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the host's kernel maps all of its memory, and itself, as /proc/kcore's ELF header tells (fs/proc/kcore.c)."""

from __future__ import annotations

from dataclasses import dataclass

from common import elf
from common.elf import Segment
from common.errors import ChannelError
from host_setup.channels.ssh import Ssh

HEADERS = 4096  # bytes: far more than a host of some memory nodes has
# Documentation/arch/x86/x86_64/mm.rst, four levels: the direct map lies below the vmalloc area also when it is shifted.
FIRST, LAST = 0xFFFF888000000000, 0xFFFFC87FFFFFFFFF
GUEST_PAGE_OFFSET = FIRST  # of our guests, which are booted with nokaslr
IMAGE = 0xFFFFFFFF80000000  # __START_KERNEL_map: code and data of the kernel itself


@dataclass(frozen=True, slots=True)
class DirectMap:
    """The direct map of a host.

    :ivar image: the kernel's own code and data.
    """

    segments: tuple[Segment, ...]
    image: Segment

    def address(self, physical: int) -> int:
        """The kernel's address for a physical one."""
        segment = self._holding(physical)
        return segment.virtual + physical - segment.physical

    def kcore_offset(self, physical: int) -> int:
        """Where /proc/kcore has a physical address."""
        segment = self._holding(physical)
        return segment.offset + physical - segment.physical

    def physical(self, symbol: int) -> int:
        """The physical address of a variable of the kernel."""
        if not self.image.virtual <= symbol < self.image.virtual + self.image.in_file:
            raise ChannelError(f"{symbol:#x} is no address of the kernel's image")
        return self.image.physical + symbol - self.image.virtual

    def _holding(self, physical: int) -> Segment:
        for segment in self.segments:
            if segment.physical <= physical < segment.physical + segment.in_file:
                return segment
        raise ChannelError(f"/proc/kcore has no memory at physical {physical:#x}")


def parse(head: bytes) -> DirectMap:
    """The direct map by the first bytes of /proc/kcore."""
    segments = elf.segments(lambda at, size: head[at : at + size])
    image = next(segment for segment in segments if segment.virtual >= IMAGE)
    return DirectMap(tuple(segment for segment in segments if FIRST <= segment.virtual <= LAST), image)


def code(ssh: Ssh, function: str, size: int) -> bytes:
    """The first bytes of a function of a host's kernel, and of what follows it.

    :raises ChannelError: the kernel has no such function, or more than one.
    """
    symbol_lines = ssh.run(["grep", f" {function}$", "/proc/kallsyms"], seconds=20).text.splitlines()
    if len(symbol_lines) != 1:
        raise ChannelError(f"the host's kernel has {len(symbol_lines)} functions {function}(), not 1")
    image = direct_map(ssh).image
    at = image.offset + int(symbol_lines[0].split()[0], 16) - image.virtual
    read = ["dd", "if=/proc/kcore", f"bs={size}", "count=1", f"skip={at}", "iflag=skip_bytes", "status=none"]
    return ssh.run(read, seconds=20).require().stdout


def direct_map(ssh: Ssh) -> DirectMap:
    """The direct map of a host."""
    return parse(ssh.run(["head", "-c", str(HEADERS), "/proc/kcore"], seconds=10).require().stdout)
