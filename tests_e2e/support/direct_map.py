# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the host's kernel maps all of its memory, and itself, as /proc/kcore's ELF header tells (fs/proc/kcore.c)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from common.errors import ChannelError
from host_setup.channels.ssh import Ssh

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
PHDR = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
PT_LOAD = 1
HEADERS = 4096  # bytes: far more than a host of some memory nodes has
# Documentation/arch/x86/x86_64/mm.rst, four levels: the direct map lies below the vmalloc area also when it is shifted.
FIRST, LAST = 0xFFFF888000000000, 0xFFFFC87FFFFFFFFF
GUEST_PAGE_OFFSET = FIRST  # of our guests, which are booted with nokaslr
IMAGE = 0xFFFFFFFF80000000  # __START_KERNEL_map: code and data of the kernel itself


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the direct map. Addresses and ``offset``, that in /proc/kcore, in bytes."""

    virtual: int
    physical: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class DirectMap:
    """The direct map of a host.

    :ivar image: the kernel's own code and data.
    """

    segments: tuple[Segment, ...]
    image: Segment

    def address(self, physical: int) -> int:
        """The kernel's address for a physical one."""
        found = self._holding(physical)
        return found.virtual + physical - found.physical

    def kcore_offset(self, physical: int) -> int:
        """Where /proc/kcore has a physical address."""
        found = self._holding(physical)
        return found.offset + physical - found.physical

    def physical(self, symbol: int) -> int:
        """The physical address of a variable of the kernel."""
        if not self.image.virtual <= symbol < self.image.virtual + self.image.size:
            raise ChannelError(f"{symbol:#x} is no address of the kernel's image")
        return self.image.physical + symbol - self.image.virtual

    def _holding(self, physical: int) -> Segment:
        for one in self.segments:
            if one.physical <= physical < one.physical + one.size:
                return one
        raise ChannelError(f"/proc/kcore has no memory at physical {physical:#x}")


def parse(head: bytes) -> DirectMap:
    """The direct map by the first bytes of /proc/kcore."""
    _, _, _, _, _, start, *_, size, count, _, _, _ = EHDR.unpack_from(head)
    headers = [PHDR.unpack_from(head, start + number * size) for number in range(count)]
    loads = [
        Segment(virtual, physical, offset, length)
        for kind, _, offset, virtual, physical, length, _, _ in headers
        if kind == PT_LOAD
    ]
    image = next(one for one in loads if one.virtual >= IMAGE)
    return DirectMap(tuple(one for one in loads if FIRST <= one.virtual <= LAST), image)


def direct_map(ssh: Ssh) -> DirectMap:
    """The direct map of a host."""
    return parse(ssh.run(["head", "-c", str(HEADERS), "/proc/kcore"], seconds=10).require().stdout)
