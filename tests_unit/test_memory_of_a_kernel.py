# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's memory by its own addresses: made by hand, with slabs, a stack and the areas of CPUs."""

from __future__ import annotations

import struct

from signoff.observation import PAGE_SIZE
from tests_e2e.support.kernel_memory import PAGE_STRUCT, VMEMMAP, KernelMemory
from tests_e2e.support.translations import LARGE, PRESENT

ROOT, UPPER, MIDDLE, LOWEST = 1, 2, 3, 4
STRUCTS, CACHE, NAME, PERCPU, STACK, IMAGE = 40, 41, 42, 43, 44, 45  # frames
SLAB_HEAD, SLAB_TAIL, LOST = 20, 21, 22
DIRECT, VMALLOC = 0xFFFF888000000000, 0xFFFFC90000000000
CPU_AREA = DIRECT + PERCPU * PAGE_SIZE
OFFSETS, UNIT = 0xFFFFFFFF81000000, 0xFFFFFFFF81000800
FRAMES = 1024


def put(memory: bytearray, at: int, *words: int) -> None:
    struct.pack_into(f"<{len(words)}Q", memory, at, *words)


def kernel() -> bytearray:
    """All frames are in the direct map, by a large page; three others are mapped one by one."""
    memory = bytearray(FRAMES * PAGE_SIZE)

    def entry(table: int, index: int, frame: int, flags: int = PRESENT) -> None:
        put(memory, table * PAGE_SIZE + 8 * index, frame * PAGE_SIZE | flags)

    def one(address: int, tables: int, frame: int) -> None:
        entry(ROOT, address >> 39 & 511, tables)
        for level, table in ((30, tables), (21, tables + 1)):
            entry(table, address >> level & 511, table + 1)
        entry(tables + 2, address >> 12 & 511, frame)

    entry(ROOT, DIRECT >> 39 & 511, 2)
    entry(2, 0, 3)
    entry(3, 0, 0, PRESENT | LARGE)
    one(VMEMMAP, 5, STRUCTS)
    one(VMALLOC + 0x3000, 8, STACK)
    one(OFFSETS, 11, IMAGE)
    structs = STRUCTS * PAGE_SIZE
    put(memory, structs + SLAB_HEAD * PAGE_STRUCT + 8, DIRECT + CACHE * PAGE_SIZE)
    put(memory, structs + SLAB_TAIL * PAGE_STRUCT + 8, VMEMMAP + SLAB_HEAD * PAGE_STRUCT + 1)
    put(memory, structs + LOST * PAGE_STRUCT + 8, 0xDEAD)
    code = DIRECT + NAME * PAGE_SIZE + 100  # no text
    put(memory, CACHE * PAGE_SIZE, 0, 7, code, DIRECT + NAME * PAGE_SIZE, 0)
    memory[NAME * PAGE_SIZE : NAME * PAGE_SIZE + 9] = b"kvm_vcpu\0"
    memory[NAME * PAGE_SIZE + 100 : NAME * PAGE_SIZE + 104] = b"\x55\x89\xe5\x90"
    put(memory, IMAGE * PAGE_SIZE, CPU_AREA, 0)
    put(memory, IMAGE * PAGE_SIZE + 0x800, PAGE_SIZE)
    return memory


def test_addresses_are_translated_and_read_across_pages() -> None:
    memory = kernel()
    found = KernelMemory(memory, ROOT)
    assert found.physical(DIRECT + 0x12345) == 0x12345
    assert found.physical(VMALLOC + 0x3010) == STACK * PAGE_SIZE + 0x10
    assert found.physical(VMALLOC) is None
    memory[PAGE_SIZE * 51 - 2 : PAGE_SIZE * 51 + 2] = b"abcd"
    assert found.read(DIRECT + 51 * PAGE_SIZE - 2, 4) == b"abcd"
    assert found.read(VMALLOC + 0x3FFE, 4) == bytes(2)
    assert found.word(VMALLOC) == 0


def test_slab_is_named_whichever_of_its_pages_it_is() -> None:
    found = KernelMemory(kernel(), ROOT)
    assert [found.slab(frame) for frame in (SLAB_HEAD, SLAB_TAIL, LOST)] == ["kvm_vcpu", "kvm_vcpu", ""]


def test_struct_page_is_found_by_sections_too() -> None:
    roots, root, sections = DIRECT + 60 * PAGE_SIZE, DIRECT + 61 * PAGE_SIZE, DIRECT + 62 * PAGE_SIZE
    for size in (16, 32):
        memory = kernel()
        put(memory, 60 * PAGE_SIZE, root)
        put(memory, 61 * PAGE_SIZE, sections)
        for number in range(2):
            put(memory, 62 * PAGE_SIZE + number * size, VMEMMAP | 7)
        assert KernelMemory(memory, ROOT, roots).slab(SLAB_TAIL) == "kvm_vcpu"
        assert KernelMemory(memory, ROOT, roots + 8).slab(SLAB_TAIL) == ""


def test_frame_is_allocated_if_it_is_counted_and_nothing_else() -> None:
    memory = kernel()
    counts = STRUCTS * PAGE_SIZE + 48
    for frame, word in ((30, 1 << 32 | 0xFFFFFFFF), (31, 0xFFFFFFFF), (32, 1 << 32 | 0xF5000000), (33, 1 << 32)):
        put(memory, counts + frame * PAGE_STRUCT, word)
    found = KernelMemory(memory, ROOT)
    assert [found.allocated(frame) for frame in range(30, 34)] == [True, False, False, False]
