# SPDX-License-Identifier: GPL-2.0-or-later
"""What the nested page tables of a host's VMs map, found and walked by us in its memory as it is seen from outside.

Where a nested page table begins, a virtual machine control block tells the processor (VMCB; AMD64 Architecture
Programmer's Manual, volume 2, appendix B). Nobody is asked where these are: one is any page that has what VMRUN insists
on. So what KVM itself knows of its VMs makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from signoff.observation import PAGE_SIZE
from tests_e2e.support.live_memory import frame_ranges
from tests_e2e.support.translations import ADDRESS, ENTRIES, LARGE, PRESENT, TOP, Memory, Pages, entries_of

# Offsets in a VMCB, in words of 8 bytes.
INTERCEPTS, ASID, NESTED, ROOT, EFER = 0x10 // 8, 0x58 // 8, 0x90 // 8, 0xB0 // 8, 0x4D0 // 8
VMRUN, PAGING, SVME = 1, 1, 1 << 12  # bits of the first, the third and the last of them
ASID_BITS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Nested:
    """One nested page table.

    :ivar root: frame of its topmost table. :ivar blocks: frames of the control blocks that name it.
    :ivar at: the frame of each page that it maps, by the page's guest-physical address in bytes.
    :ivar tables: how many tables it has. :ivar again: guest-physical addresses at which a table is met that has been
        met before: what it maps is not in ``at`` twice.
    """

    root: int
    blocks: tuple[int, ...]
    at: Mapping[int, int]
    tables: int
    again: tuple[int, ...]


def find_nested_tables(
    memory: Memory, not_blocks: Collection[int] = (), allocated: Callable[[int], bool] = lambda _: True
) -> list[Nested]:
    """All nested page tables of a host, the lowest root first.

    :param not_blocks: frames that are no control blocks whatever they look like: the guests' own, as a guest may have
        VMs itself. :param allocated: whether a frame is in use: KVM clears no control block when a VM ends, and what
        was its root may be anything then.
    """
    blocks: dict[int, list[int]] = {}
    for frame, root in _control_blocks(memory):
        if frame not in not_blocks and allocated(frame) and allocated(root):
            blocks.setdefault(root, []).append(frame)
    return [find_nested_table(memory, root, tuple(named)) for root, named in sorted(blocks.items())]


def _control_blocks(memory: Memory) -> Iterator[tuple[int, int]]:
    """The frame of each control block with nested paging, and that of the nested page table which it names."""
    frames = len(memory) // PAGE_SIZE
    with memoryview(memory) as raw, raw.cast("Q") as words:
        # A column of all pages at once: a loop over pages takes ten times as long.
        for frame_range in frame_ranges(memory):
            first, end = frame_range.start * ENTRIES, frame_range.stop * ENTRIES
            columns = (words[first + at : end : ENTRIES].tolist() for at in (INTERCEPTS, ASID, NESTED, ROOT, EFER))
            for frame, intercepts, asid, nested, root, efer in zip(frame_range, *columns, strict=True):
                runs = intercepts & VMRUN and asid & ASID_BITS and efer & SVME
                if runs and nested & PAGING and not root % PAGE_SIZE and 0 < root // PAGE_SIZE < frames:
                    yield frame, root // PAGE_SIZE


def find_nested_table(memory: Pages, root: int, blocks: tuple[int, ...]) -> Nested:
    """The nested page table that begins with a table.

    :param blocks: frames of the control blocks that name it.
    """
    frames = len(memory) // PAGE_SIZE
    at: dict[int, int] = {}
    again: list[int] = []
    tables: set[tuple[int, int]] = set()  # tables with their levels: what is no table at all may lead round and round
    todo = [(root, TOP, 0)]
    while todo:
        table, level, base = todo.pop()
        if (table, level) in tables:
            again.append(base)
            continue
        tables.add((table, level))
        shift = 12 + 9 * (level - 1)
        below: list[tuple[int, int, int]] = []
        for index, entry in enumerate(entries_of(memory, table)):
            if not entry & PRESENT:
                continue
            gpa, frame = base + (index << shift), (entry & ADDRESS) // PAGE_SIZE
            if level == 1 or (level < TOP and entry & LARGE):
                pages = 1 << (shift - 12)
                first = frame // pages * pages  # bits that are zero in the address may mean something else
                # KVM marks what is a device's by an address that no processor has: frames that are not there.
                run = range(first, min(first + pages, frames))
                at.update((gpa + number * PAGE_SIZE, entry) for number, entry in enumerate(run))
            elif frame < frames:
                below.append((frame, level - 1, gpa))
        todo += reversed(below)
    return Nested(root, blocks, at, len(tables), tuple(again))
