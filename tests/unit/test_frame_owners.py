# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose a frame is: a kernel's memory made by hand, with slabs, a stack and the areas of CPUs."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from signoff.observation import PAGE_SIZE
from tests_e2e.support.frame_owners import owners_of
from tests_e2e.support.kernel_memory import PAGE_STRUCT, VMEMMAP, KernelMemory
from tests_e2e.support.translations import LARGE, PRESENT

ROOT, UPPER, MIDDLE, LOWEST = 1, 2, 3, 4
STRUCTS, CACHE, NAME, PERCPU, STACK, IMAGE = 40, 41, 42, 43, 44, 45  # frames
SLAB_HEAD, SLAB_TAIL, LOST = 20, 21, 22
DIRECT, VMALLOC = 0xFFFF888000000000, 0xFFFFC90000000000
CPU_AREA = DIRECT + PERCPU * PAGE_SIZE
OFFSETS, UNIT = 0xFFFFFFFF81000000, 0xFFFFFFFF81000800
FRAMES = 1024


def write_words(memory: bytearray, at: int, *words: int) -> None:
    struct.pack_into(f"<{len(words)}Q", memory, at, *words)


def kernel() -> bytearray:
    """All frames are in the direct map, by a large page; three others are mapped one by one."""
    memory = bytearray(FRAMES * PAGE_SIZE)

    def entry(table: int, index: int, frame: int, flags: int = PRESENT) -> None:
        write_words(memory, table * PAGE_SIZE + 8 * index, frame * PAGE_SIZE | flags)

    def add_stretch(address: int, tables: int, frame: int) -> None:
        entry(ROOT, address >> 39 & 511, tables)
        for level, table in ((30, tables), (21, tables + 1)):
            entry(table, address >> level & 511, table + 1)
        entry(tables + 2, address >> 12 & 511, frame)

    entry(ROOT, DIRECT >> 39 & 511, 2)
    entry(2, 0, 3)
    entry(3, 0, 0, PRESENT | LARGE)
    add_stretch(VMEMMAP, 5, STRUCTS)
    add_stretch(VMALLOC + 0x3000, 8, STACK)
    add_stretch(OFFSETS, 11, IMAGE)
    structs = STRUCTS * PAGE_SIZE
    write_words(memory, structs + SLAB_HEAD * PAGE_STRUCT + 8, DIRECT + CACHE * PAGE_SIZE)
    write_words(memory, structs + SLAB_TAIL * PAGE_STRUCT + 8, VMEMMAP + SLAB_HEAD * PAGE_STRUCT + 1)
    write_words(memory, structs + LOST * PAGE_STRUCT + 8, 0xDEAD)
    code = DIRECT + NAME * PAGE_SIZE + 100  # no text
    write_words(memory, CACHE * PAGE_SIZE, 0, 7, code, DIRECT + NAME * PAGE_SIZE, 0)
    memory[NAME * PAGE_SIZE : NAME * PAGE_SIZE + 9] = b"kvm_vcpu\0"
    memory[NAME * PAGE_SIZE + 100 : NAME * PAGE_SIZE + 104] = b"\x55\x89\xe5\x90"
    write_words(memory, IMAGE * PAGE_SIZE, CPU_AREA, 0)
    write_words(memory, IMAGE * PAGE_SIZE + 0x800, PAGE_SIZE)
    return memory


def test_addresses_are_translated_and_read_across_pages() -> None:
    memory = kernel()
    result = KernelMemory(memory, ROOT)
    assert result.physical(DIRECT + 0x12345) == 0x12345
    assert result.physical(VMALLOC + 0x3010) == STACK * PAGE_SIZE + 0x10
    assert result.physical(VMALLOC) is None
    memory[PAGE_SIZE * 51 - 2 : PAGE_SIZE * 51 + 2] = b"abcd"
    assert result.read(DIRECT + 51 * PAGE_SIZE - 2, 4) == b"abcd"
    assert result.read(VMALLOC + 0x3FFE, 4) == bytes(2)
    assert result.word(VMALLOC) == 0


def test_slab_is_named_whichever_of_its_pages_it_is() -> None:
    result = KernelMemory(kernel(), ROOT)
    assert [result.slab(frame) for frame in (SLAB_HEAD, SLAB_TAIL, LOST)] == ["kvm_vcpu", "kvm_vcpu", ""]


def test_struct_page_is_found_by_sections_too() -> None:
    roots, root, sections = DIRECT + 60 * PAGE_SIZE, DIRECT + 61 * PAGE_SIZE, DIRECT + 62 * PAGE_SIZE
    for size in (16, 32):
        memory = kernel()
        write_words(memory, 60 * PAGE_SIZE, root)
        write_words(memory, 61 * PAGE_SIZE, sections)
        for number in range(2):
            write_words(memory, 62 * PAGE_SIZE + number * size, VMEMMAP | 7)
        assert KernelMemory(memory, ROOT, roots).slab(SLAB_TAIL) == "kvm_vcpu"
        assert KernelMemory(memory, ROOT, roots + 8).slab(SLAB_TAIL) == ""


def test_frame_is_allocated_if_it_is_counted_and_nothing_else() -> None:
    memory = kernel()
    counts = STRUCTS * PAGE_SIZE + 48
    for frame, word in ((30, 1 << 32 | 0xFFFFFFFF), (31, 0xFFFFFFFF), (32, 1 << 32 | 0xF5000000), (33, 1 << 32)):
        write_words(memory, counts + frame * PAGE_STRUCT, word)
    result = KernelMemory(memory, ROOT)
    assert [result.is_allocated(frame) for frame in range(30, 34)] == [True, False, False, False]


class Told:
    """The host's kernel: flags of frames, areas of vmalloc(), symbols."""

    flags = {SLAB_HEAD: 1 << 7, LOST: 1 << 7, STACK: 0, PERCPU: 0, IMAGE: 0, 60: 1 << 10}  # noqa: RUF012

    def run(self, argv: list[str], *, seconds: float) -> Any:
        assert seconds
        answer = SimpleNamespace(text="", stdout=b"")
        answer.require = lambda: answer
        if argv[0] == "sh":
            frames = [int(part.rpartition("skip=")[2]) for part in argv[2].split("; ")]
            answer.stdout = b"".join(self.flags[frame].to_bytes(8, "little") for frame in frames)
        elif argv[-1] == "/proc/vmallocinfo":
            answer.text = (
                "0x0000000000000000-0x0000000000001000    4096 nothing\n"
                f"{VMALLOC + 0x3000:#x}-{VMALLOC + 0x8000:#x}   20480 dup_task_struct+0x1f/0x3d0 pages=4 vmalloc N0=4\n"
            )
        elif "mem_section" in argv[1]:
            answer.status = 1
        elif "pcpu_unit_size" in argv[2]:
            answer.text = f"{OFFSETS:x} D __per_cpu_offset\n{UNIT:x} d pcpu_unit_size\n"
        return answer


def test_each_owner_is_named_as_closely_as_can_be(monkeypatch: Any) -> None:
    monkeypatch.setattr("tests_e2e.support.frame_owners.root_of", lambda _: ROOT)
    host: Any = Told()
    assert owners_of(host, kernel(), Told.flags) == {
        SLAB_HEAD: "a slab, kvm_vcpu",
        LOST: "a slab",
        STACK: "memory of the kernel's, allocated by dup_task_struct() (a stack)",
        PERCPU: "the area of CPU 0",
        IMAGE: "other memory of the kernel's",
        60: "free memory",
    }
