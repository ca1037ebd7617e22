# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's memory made by hand: two VMs with their nested page tables, the kernel's page tables, those of a process."""

from __future__ import annotations

import struct

from common.elf import Segment
from signoff.observation import PAGE_SIZE
from tests_e2e.support.direct_map import FIRST, IMAGE, DirectMap
from tests_e2e.support.guest_frames import GuestFrames
from tests_e2e.support.holders import Holders, checks
from tests_e2e.support.nested_tables import find_nested_tables
from tests_e2e.support.translations import PRESENT, walk

FRAMES = 4096
ROOT, PROCESS_ROOT, KERNEL_UPPER, KERNEL_MIDDLE, KERNEL_LOWEST = 1, 2, 3, 4, 5
USER_UPPER, USER_MIDDLE, USER_LOWEST = 6, 7, 8
BLOCK, NESTED = 10, 11  # of the protected guest: control block, topmost nested table; three more tables follow
PLAIN_BLOCK, PLAIN_NESTED = 20, 21
PRIVATE, SHARED, PLAIN = range(512, 522), range(600, 605), range(700, 705)  # frames
VMM = 0x40000000  # where the process has the guests' pages, the protected one's first
GUESTS_BLOCK, STALE_ROOT = 510, 40
DIRECT = FIRST
LAYOUT = DirectMap(
    (Segment(0, DIRECT, 0, FRAMES * PAGE_SIZE, FRAMES * PAGE_SIZE),),
    Segment(0, IMAGE, 0x200000, 64 * PAGE_SIZE, 64 * PAGE_SIZE),
)
ELSEWHERE = 256  # index of a table of the kernel's for what is not in the direct map


class Machine:
    """A host's memory; all is as it should be until somebody changes it."""

    def __init__(self) -> None:
        self.bytes = bytearray(FRAMES * PAGE_SIZE)
        for root in (ROOT, PROCESS_ROOT):
            self.entry(root, 511, 9)
            self.entry(root, (DIRECT >> 39) & 511, KERNEL_UPPER)
        self.entry(KERNEL_UPPER, 0, KERNEL_MIDDLE)
        self.entry(KERNEL_MIDDLE, 1, KERNEL_LOWEST)  # frames 512 to 1023
        for frame in (*SHARED, *PLAIN):
            self.entry(KERNEL_LOWEST, frame - 512, frame)
        self.entry(PROCESS_ROOT, 0, USER_UPPER)
        self.entry(USER_UPPER, VMM >> 30, USER_MIDDLE)
        self.entry(USER_MIDDLE, 0, USER_LOWEST)
        for number in range(len(SHARED)):
            self.entry(USER_LOWEST, len(PRIVATE) + number, SHARED[number])
        self.vm(BLOCK, NESTED, [*PRIVATE, *SHARED])
        self.vm(PLAIN_BLOCK, PLAIN_NESTED, PLAIN)
        self.guests = {
            "protected": GuestFrames(
                private={frame: number * PAGE_SIZE for number, frame in enumerate(PRIVATE)},
                open={frame: (len(PRIVATE) + number) * PAGE_SIZE for number, frame in enumerate(SHARED)},
                unshared=frozenset(number * PAGE_SIZE for number in range(len(PRIVATE))),
                address={number * PAGE_SIZE: VMM + number * PAGE_SIZE for number in range(15)},
            ),
            "plain": GuestFrames(private={}, open={frame: at * PAGE_SIZE for at, frame in enumerate(PLAIN)}),
        }

    def entry(self, table: int, index: int, frame: int, flags: int = PRESENT) -> None:
        self.word(table, index, frame * PAGE_SIZE | flags)

    def word(self, frame: int, index: int, value: int) -> None:
        struct.pack_into("<Q", self.bytes, frame * PAGE_SIZE + 8 * index, value)

    def block(self, frame: int, root: int) -> None:
        for at, value in ((0x10, 1), (0x58, 1), (0x90, 1), (0xB0, root * PAGE_SIZE), (0x4D0, 1 << 12)):
            self.word(frame, at // 8, value)

    def vm(self, block: int, root: int, frames: list[int] | range) -> None:
        self.block(block, root)
        for table in range(root, root + 3):
            self.entry(table, 0, table + 1)
        for number, frame in enumerate(frames):
            self.entry(root + 3, number, frame)

    def holders(self, in_use: int = PROCESS_ROOT) -> Holders:
        everybodys = frozenset().union(*(frames.all for frames in self.guests.values()))
        nested = tuple(find_nested_tables(self.bytes, not_blocks=everybodys))
        expected = everybodys.union(*(table.at.values() for table in nested))
        walked = walk(self.bytes, ROOT, expected, not_roots=everybodys)
        return Holders(walked, nested, in_use)

    def wrong(self, guest: str = "protected", in_use: int = PROCESS_ROOT) -> list[str]:
        """The names of the checks that are not right, and what they say."""
        results = checks(guest, self.guests, 1, LAYOUT, self.holders(in_use))
        return [f"{check.name}: {check.got}" for check in results if not check.right]
