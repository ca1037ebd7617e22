# SPDX-License-Identifier: GPL-2.0-or-later
"""What the page tables of a host map, walked by us in its memory as it is seen from outside.

Nobody's word is taken but for where the kernel's own topmost table lies. A topmost table of a process is any page that
has the kernel's upper half: all processes have the same (Linux 6.12: arch/x86/mm/pgtable.c pgd_ctor()). What a guest
has of such pages does not count: the kernel that it runs may be the same.

A nested page table is reached from no topmost table of the host's, so no walk here goes through one: see
``nested_tables``.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE
from tests_e2e.support.direct_map import direct_map
from tests_e2e.support.live_memory import LiveMemory, frames_in

ENTRIES = 512
TABLE = struct.Struct(f"<{ENTRIES}Q")
PRESENT, LARGE = 1, 1 << 7  # arch/x86/include/asm/pgtable_types.h
ADDRESS = 0x000FFFFFFFFFF000
NO_TABLE = LARGE | 0xF00 | 0x7FF << 52  # bits that are zero in an entry for a table; the highest forbids to execute
HALF = ENTRIES // 2  # entries of a topmost table from which on the addresses are the kernel's
TOP = 4  # levels
LEAST = 2  # of the kernel's entries must be there: one alone is no proof of a topmost table
ROOT = "init_top_pgt"
Memory = mmap.mmap | bytes | bytearray
Pages = Memory | LiveMemory


@dataclass(slots=True)
class Mapped:
    """What a walk found.

    :ivar at: for each frame that was looked for and is mapped, an address at which it is. :ivar more: frames that are
        mapped once more, and where: frame, address. :ivar leaves: entries seen that map memory.
    :ivar tables: page tables read. :ivar lowest: of those that map 4 KiB pages the frame, and the address that its
        first entry is about.
    """

    at: dict[int, int] = field(default_factory=dict)
    more: list[tuple[int, int]] = field(default_factory=list)
    leaves: int = 0
    tables: int = 0
    lowest: dict[int, int] = field(default_factory=dict)

    def add(self, other: Mapped) -> None:
        """Take in what another walk found."""
        self.more += [pair for pair in other.at.items() if self.at.setdefault(*pair) != pair[1]]
        self.more += other.more
        self.lowest.update(other.lowest)
        self.leaves += other.leaves
        self.tables += other.tables


@dataclass(frozen=True, slots=True)
class Walked:
    """What the kernel's half of all topmost tables maps, and what the other half does.

    :ivar roots: frames of the topmost tables. :ivar windows: what is mapped by an address space that maps this page
        alone: no process can live in such a one. A CPU loads it for as long as it copies to or from that page.
    """

    roots: tuple[int, ...]
    kernel: Mapped
    processes: Mapped
    windows: Mapped


def root_of(ssh: Ssh) -> int:
    """The frame of the kernel's own topmost page table."""
    line = ssh.run(["grep", f" {ROOT}$", "/proc/kallsyms"], seconds=20).require().text
    return direct_map(ssh).physical(int(line.split()[0], 16)) // PAGE_SIZE


def walk(memory: Memory, root: int, frames: Collection[int], not_roots: Collection[int] = ()) -> Walked:
    """Look for page frames in all page tables of a host.

    :param root: frame of the kernel's topmost table. :param frames: frames to look for.
    :param not_roots: frames that are no topmost tables whatever they look like: the guests' own.
    """
    return walk_from(memory, tuple(_roots(memory, root, frozenset(not_roots))), frames)


def walk_from(memory: Pages, roots: tuple[int, ...], frames: Collection[int]) -> Walked:
    """The same, from topmost tables that are known."""
    looked_for = frozenset(frames)
    kernel, walked = _Walk(memory, looked_for), Walked(roots, Mapped(), Mapped(), Mapped())
    for frame in roots:
        kernel.table(frame, TOP, range(HALF, ENTRIES))
        process = _Walk(memory, looked_for)
        process.table(frame, TOP, range(HALF))
        (walked.windows if process.mapped.leaves == 1 else walked.processes).add(process.mapped)
    walked.kernel.add(kernel.mapped)
    return walked


def _roots(memory: Memory, root: int, not_roots: frozenset[int]) -> Iterator[int]:
    kernels = _addresses(entries_of(memory, root))
    last = struct.Struct("<Q")
    for frame in frames_in(memory):
        # Quickly: nearly all pages are none.
        (entry,) = last.unpack_from(memory, frame * PAGE_SIZE + PAGE_SIZE - last.size)
        if entry & PRESENT and entry & ADDRESS == kernels[ENTRIES - 1] and frame not in not_roots:
            entries = entries_of(memory, frame)
            theirs = _addresses(entries)
            if (
                len(theirs) >= LEAST
                and all(kernels.get(index) == address for index, address in theirs.items())
                and all(_leads_to_a_table(entry, len(memory)) for entry in entries[:HALF] if entry)
            ):
                yield frame


def _leads_to_a_table(entry: int, size: int) -> bool:
    """Whether a topmost table may have this entry.

    A page that was a topmost table keeps its upper half for a while when the kernel uses it for something else.
    """
    return bool(entry & PRESENT) and not entry & NO_TABLE and entry & ADDRESS < size


def _addresses(entries: tuple[int, ...]) -> dict[int, int]:
    return {index: entry & ADDRESS for index, entry in enumerate(entries) if index >= HALF and entry & PRESENT}


def page_of(memory: Pages, frame: int) -> bytes | bytearray:
    """A page."""
    if isinstance(memory, LiveMemory):
        return memory.page(frame)
    return memory[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE]


def entries_of(memory: Pages, frame: int) -> tuple[int, ...]:
    """The words of a page, which is a table."""
    if isinstance(memory, LiveMemory):
        return TABLE.unpack(memory.page(frame))
    return TABLE.unpack_from(memory, frame * PAGE_SIZE)


def leaves_of(table: bytes, base: int) -> Iterator[tuple[int, int]]:
    """What a table of 4 KiB pages maps: frame and address of each."""
    for index, entry in enumerate(TABLE.unpack(table)):
        if entry & PRESENT:
            yield (entry & ADDRESS) // PAGE_SIZE, base + index * PAGE_SIZE


class _Walk:
    """A walk that reads each table once, however often it is reached: what it maps is then known."""

    def __init__(self, memory: Pages, frames: frozenset[int]) -> None:
        self.mapped = Mapped()
        self._memory = memory
        self._frames = len(memory) // PAGE_SIZE
        self._looked_for = frames
        self._seen: set[tuple[int, int]] = set()

    def table(self, frame: int, level: int, indices: range = range(ENTRIES), base: int = 0) -> None:
        """Walk a table.

        :param level: 1 for one of 4 KiB pages. :param base: the address that its first entry is about.
        """
        if level < TOP:
            if (frame, level) in self._seen:
                return
            self._seen.add((frame, level))
        self.mapped.tables += 1
        if level == 1:
            self.mapped.lowest[frame] = _canonical(base)
        entries = entries_of(self._memory, frame)
        for index in indices:
            entry = entries[index]
            if not entry & PRESENT:
                continue
            shift = 12 + 9 * (level - 1)
            address = base + (index << shift)
            # Bits that are zero in the address of a large page may mean something else in its entry.
            target = (entry & ADDRESS) >> shift << (shift - 12)
            if level == 1 or (level < TOP and entry & LARGE):
                self._leaf(target, 1 << (shift - 12), address)
            elif (below := (entry & ADDRESS) // PAGE_SIZE) < self._frames:
                self.table(below, level - 1, base=address)

    def _leaf(self, first: int, count: int, address: int) -> None:
        self.mapped.leaves += 1
        frames = (first,) if count == 1 else range(first, min(first + count, self._frames))
        for frame in frames:
            if frame in self._looked_for:
                here = _canonical(address) + (frame - first) * PAGE_SIZE
                if self.mapped.at.setdefault(frame, here) != here:
                    self.mapped.more.append((frame, here))


def _canonical(address: int) -> int:
    return address | 0xFFFF << 48 if address >> 47 & 1 else address
