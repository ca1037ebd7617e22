# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of a host's kernel by the kernel's own addresses, seen from outside."""

from __future__ import annotations

import struct

from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE
from tests_e2e.support.translations import ADDRESS, ENTRIES, LARGE, PRESENT, TOP, Memory, entries_of

# Linux 6.12: where struct page of each frame is, with SPARSEMEM_VMEMMAP (Documentation/arch/x86/x86_64/mm.rst, four
# levels, nokaslr) and without (include/linux/mmzone.h: sections of 128 MiB, of which the low bits say something else).
VMEMMAP, PAGE_STRUCT = 0xFFFFEA0000000000, 64
SECTIONS, SECTION_FRAMES, SECTION_BITS, HAS_MAP = "mem_section", 1 << 15, 0x3F, 3
SECTION_STRUCTS = (16, 32)  # bytes, without PAGE_EXTENSION and with it
TYPE_AND_COUNT = 48  # offset in struct page: _mapcount or page_type, and _refcount
NO_TYPE = 0xFFFFFFFF  # neither mapped by a process, nor of a slab, a page table of a process or the like
LONGEST = 64  # bytes of a name
WORDS = 64  # of a structure, among which a pointer to its name is looked for


class KernelMemory:
    """A kernel's memory.

    :param memory: the host's. :param root: frame of the kernel's topmost page table.
    :param sections: address of its variable ``mem_section``, if it has one.
    """

    def __init__(self, memory: Memory, root: int, sections: int | None = None) -> None:
        self._memory = memory
        self._root = root
        self._sections = sections

    @classmethod
    def of(cls, ssh: Ssh, memory: Memory, root: int) -> KernelMemory:
        """The memory of a host's kernel."""
        symbol_lines = ssh.run(["grep", f" {SECTIONS}$", "/proc/kallsyms"], seconds=20)
        return cls(memory, root, int(symbol_lines.text.split()[0], 16) if symbol_lines.status == 0 else None)

    def physical(self, address: int) -> int | None:
        """Where an address leads to; None if nowhere."""
        frame = self._root
        for level in range(TOP, 0, -1):
            shift = 12 + 9 * (level - 1)
            entry = entries_of(self._memory, frame)[address >> shift & (ENTRIES - 1)]
            frame = (entry & ADDRESS) // PAGE_SIZE
            if not entry & PRESENT or frame * PAGE_SIZE >= len(self._memory):
                return None
            if level == 1 or (level < TOP and entry & LARGE):
                return (entry & ADDRESS) >> shift << shift | address & ((1 << shift) - 1)
        return None

    def read(self, address: int, size: int) -> bytes:
        """Some bytes; fewer where a page is not there."""
        content = b""
        while len(content) < size:
            at = self.physical(address + len(content))
            if at is None:
                break
            rest = PAGE_SIZE - at % PAGE_SIZE
            content += bytes(self._memory[at : at + min(rest, size - len(content))])
        return content

    def word(self, address: int) -> int:
        """A word of 8 bytes; 0 where there is none."""
        read = self.read(address, 8)
        return int(struct.unpack("<Q", read)[0]) if len(read) == 8 else 0

    def is_allocated(self, frame: int) -> bool:
        """Whether somebody in the kernel has a page frame for himself, by what its allocator has written down."""
        word = self.word(self._page(frame) + TYPE_AND_COUNT)
        return word & 0xFFFFFFFF == NO_TYPE and word >> 32 > 0

    def slab(self, frame: int) -> str:
        """The name of the slab cache that has a page frame; empty if it cannot be told.

        struct slab, which lies over struct page, has the cache in its second word (Linux 6.12: mm/slab.h). Where that
        structure has its name depends on the configuration: it is the first word that leads to one.
        """
        second = self.word(self._page(frame) + 8)
        cache = self.word(second - 1 + 8) if second & 1 else second  # bit 0: not the first page of several
        structure = self.read(cache, 8 * WORDS) if cache else b""
        for (pointer,) in struct.iter_unpack("<Q", structure[: len(structure) // 8 * 8]):
            if name := self._name(pointer):
                return name
        return ""

    def _page(self, frame: int) -> int:
        """The address of a frame's struct page; one that leads nowhere if that cannot be told."""
        if self._sections is None:
            return VMEMMAP + frame * PAGE_STRUCT
        first = self.word(self.word(self._sections))  # of the first root, which has them all: there are 128 at least
        for size in SECTION_STRUCTS:
            # The second section tells how large each is: a map is what all that have memory have.
            if self.word(first + size) & HAS_MAP == HAS_MAP:
                section = self.word(first + size * (frame // SECTION_FRAMES))
                return (section & ~SECTION_BITS) + frame * PAGE_STRUCT
        return 0

    def _name(self, pointer: int) -> str:
        text, _, rest = self.read(pointer, LONGEST).partition(b"\0") if pointer >> 47 == 0x1FFFF else (b"", b"", b"")
        readable = len(text) > 2 and rest and all(0x21 <= byte < 0x7F for byte in text)
        return text.decode("ascii") if readable else ""
