# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of page tables, over tables made by hand."""

from __future__ import annotations

import struct

from signoff.observation import PAGE_SIZE
from tests_e2e.support.translations import LARGE, PRESENT, walk

ROOT, OTHER_ROOT, UPPER, MIDDLE, LOWEST, GUESTS_ROOT = 1, 2, 3, 4, 5, 6
FRAMES = 2048
KERNEL, PROCESS = 256, 1  # indices in the topmost table
BASE = 0xFFFF << 48 | KERNEL << 39


class Memory:
    """Memory with page tables; entries are put where they are to be."""

    def __init__(self) -> None:
        self.bytes = bytearray(FRAMES * PAGE_SIZE)
        for root in (ROOT, OTHER_ROOT, GUESTS_ROOT):
            self.entry(root, 511, 9 * PAGE_SIZE | PRESENT)
            self.entry(root, KERNEL, UPPER * PAGE_SIZE | PRESENT)
        self.entry(UPPER, 0, MIDDLE * PAGE_SIZE | PRESENT)
        self.entry(MIDDLE, 0, LOWEST * PAGE_SIZE | PRESENT)

    def entry(self, table: int, index: int, value: int) -> None:
        struct.pack_into("<Q", self.bytes, table * PAGE_SIZE + 8 * index, value)


def test_finds_a_page_that_the_kernel_maps() -> None:
    memory = Memory()
    memory.entry(LOWEST, 7, 100 * PAGE_SIZE | PRESENT | 1 << 63)
    walked = walk(memory.bytes, ROOT, {100, 101})
    assert walked.kernel.at == {100: BASE + 7 * PAGE_SIZE}
    assert walked.kernel.leaves == 1
    assert walked.processes.at == {}


def test_an_entry_that_is_not_present_maps_nothing() -> None:
    memory = Memory()
    memory.entry(LOWEST, 7, 100 * PAGE_SIZE | 1 << 8)  # PROT_NONE of Linux
    assert walk(memory.bytes, ROOT, {100}).kernel.at == {}


def test_finds_a_page_in_the_middle_of_a_large_one() -> None:
    memory = Memory()
    memory.entry(MIDDLE, 1, 512 * PAGE_SIZE | 1 << 12 | PRESENT | LARGE)  # bit 12 is no address there
    assert walk(memory.bytes, ROOT, {511, 513}).kernel.at == {513: BASE + 513 * PAGE_SIZE}


def test_finds_a_page_that_a_process_maps() -> None:
    memory = Memory()
    memory.entry(OTHER_ROOT, PROCESS, 20 * PAGE_SIZE | PRESENT)
    memory.entry(20, 0, 21 * PAGE_SIZE | PRESENT)
    memory.entry(21, 0, 22 * PAGE_SIZE | PRESENT)
    memory.entry(22, 1, 100 * PAGE_SIZE | PRESENT)
    walked = walk(memory.bytes, ROOT, {100})
    assert walked.windows.at == {100: (PROCESS << 39) + PAGE_SIZE}
    assert walked.processes.at == walked.kernel.at == {}
    memory.entry(22, 2, 101 * PAGE_SIZE | PRESENT)
    walked = walk(memory.bytes, ROOT, {100})
    assert walked.processes.at == {100: (PROCESS << 39) + PAGE_SIZE}
    assert walked.windows.at == walked.kernel.at == {}


def test_a_page_that_is_mapped_twice_is_told_twice() -> None:
    memory = Memory()
    memory.entry(LOWEST, 7, 100 * PAGE_SIZE | PRESENT)
    memory.entry(LOWEST, 9, 100 * PAGE_SIZE | PRESENT)
    for index, frame in enumerate((20, 21, 22)):
        memory.entry((OTHER_ROOT, 20, 21)[index], PROCESS if index == 0 else 0, frame * PAGE_SIZE | PRESENT)
    for index in (1, 3):
        memory.entry(22, index, 101 * PAGE_SIZE | PRESENT)
    walked = walk(memory.bytes, ROOT, {100, 101})
    assert walked.kernel.at == {100: BASE + 7 * PAGE_SIZE}
    assert walked.kernel.more == [(100, BASE + 9 * PAGE_SIZE)]
    assert walked.processes.more == [(101, (PROCESS << 39) + 3 * PAGE_SIZE)]


def test_topmost_tables_are_those_with_the_kernels_half() -> None:
    memory = Memory()
    memory.entry(GUESTS_ROOT, KERNEL, 30 * PAGE_SIZE | PRESENT)
    assert walk(memory.bytes, ROOT, ()).roots == (ROOT, OTHER_ROOT)


def test_what_a_guest_has_is_no_topmost_table() -> None:
    assert walk(Memory().bytes, ROOT, (), not_roots={GUESTS_ROOT}).roots == (ROOT, OTHER_ROOT)


def test_an_entry_of_a_process_may_differ_in_flags() -> None:
    memory = Memory()
    memory.entry(OTHER_ROOT, KERNEL, UPPER * PAGE_SIZE | PRESENT | 0x20)
    assert OTHER_ROOT in walk(memory.bytes, ROOT, ()).roots


def test_memory_that_is_not_there_is_passed_over() -> None:
    memory = Memory()
    memory.entry(UPPER, 1, 5000 * PAGE_SIZE | PRESENT)
    memory.entry(LOWEST, 0, 5000 * PAGE_SIZE | PRESENT)
    assert walk(memory.bytes, ROOT, {100}).kernel.at == {}
