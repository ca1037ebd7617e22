# SPDX-License-Identifier: GPL-2.0-or-later
"""The segments of an ELF file of 64 bits (elf(5)): a kernel, a core dump, /proc/kcore."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
PHDR = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
PT_LOAD = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that lies in memory. Offsets, addresses and sizes are in bytes.

    :ivar offset: of its content in the file.
    :ivar virtual: its virtual address.
    :ivar physical: its physical address, if the file says one.
    :ivar in_file: so many bytes of it are in the file.
    :ivar in_memory: so many bytes it has in memory.
    """

    offset: int
    virtual: int
    physical: int
    in_file: int
    in_memory: int


def segments(read: Callable[[int, int], bytes]) -> list[Segment]:
    """The segments that lie in memory (PT_LOAD), in the file's order.

    :param read: reads so many bytes at an offset of the file.
    :raises ValueError: it is no such file.
    """
    head = read(0, EHDR.size)
    if len(head) < EHDR.size or head[:4] != b"\x7fELF":
        raise ValueError("it is not an ELF file")
    _, _, _, _, _, start, *_, size, count, _, _, _ = EHDR.unpack(head)
    headers = read(start, size * count)
    if size < PHDR.size or len(headers) < size * count:
        raise ValueError("its program headers are cut short")
    return [
        Segment(offset, virtual, physical, in_file, in_memory)
        for kind, _, offset, virtual, physical, in_file, in_memory, _ in (
            PHDR.unpack_from(headers, size * number) for number in range(count)
        )
        if kind == PT_LOAD
    ]
