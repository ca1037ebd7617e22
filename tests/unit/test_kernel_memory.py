# SPDX-License-Identifier: GPL-2.0-or-later
"""What the attacks by kernel address make of what a host's kernel tells."""

from __future__ import annotations

from typing import Any

import pytest

from common.elf import EHDR, PHDR, PT_LOAD
from common.errors import ChannelError
from host_setup.channels.ssh import Completed
from tests_e2e.support.direct_map import code, parse
from tests_e2e.support.kprobe_event import parse as words_of
from tests_e2e.support.page_tables import PageTables

DIRECT, TEXT = 0xFFFF888000000000, 0xFFFFFFFF81000000


def _kcore(*segments: tuple[int, int, int, int]) -> bytes:
    """The head of a /proc/kcore. Segments: virtual, physical, offset in the file, size."""
    head = EHDR.pack(b"\x7fELF", 4, 62, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, len(segments) + 1, 0, 0, 0)
    notes = PHDR.pack(4, 0, 0x1000, 0, 0, 0, 0, 0)
    return (
        head
        + notes
        + b"".join(
            PHDR.pack(PT_LOAD, 7, offset, virtual, physical, size, size, 4096)
            for virtual, physical, offset, size in segments
        )
    )


KCORE = _kcore(
    (TEXT, 0x1000000, 0x7FFF81002000, 0x2000000),
    (0xFFFFC90000000000, 2**64 - 1, 0x490000002000, 1 << 40),
    (DIRECT + 0x1000, 0x1000, 0x3000, 0x9E000),
    (DIRECT + 0x100000, 0x100000, 0x102000, 0x3FF00000),
)


def test_physical_address_is_found_in_the_direct_map_and_in_kcore() -> None:
    layout = parse(KCORE)
    assert layout.address(0x12345678) == DIRECT + 0x12345678
    assert layout.kcore_offset(0x12345678) == 0x12347678
    assert len(layout.segments) == 2


def test_physical_address_that_is_no_memory_is_not_made_up() -> None:
    with pytest.raises(ChannelError, match="0xa0000"):
        parse(KCORE).address(0xA0000)


def test_variable_of_the_kernel_has_a_physical_address() -> None:
    assert parse(KCORE).physical(TEXT + 0x1234567) == 0x2234567
    with pytest.raises(ChannelError, match="no address of the kernel's image"):
        parse(KCORE).physical(DIRECT)


class Kcore:
    """A session with a host whose kernel has two functions, one of them twice."""

    def run(self, argv: list[str], *, seconds: float) -> Completed:
        assert seconds
        return Completed(tuple(argv), 0, self._said(argv), b"")

    @staticmethod
    def _said(argv: list[str]) -> bytes:
        symbols = [(TEXT + 0x1234, "clears"), (TEXT + 0x20, "again"), (TEXT + 0x30, "again")]
        match argv:
            case ["grep", pattern, "/proc/kallsyms"]:
                named = [(at, name) for at, name in symbols if f" {name}$" == pattern]
                return "".join(f"{at:x} t {name}\n" for at, name in named).encode()
            case ["head", "-c", _, "/proc/kcore"]:
                return KCORE
            case ["dd", "if=/proc/kcore", *words] if {"iflag=skip_bytes", f"skip={0x7FFF81002000 + 0x1234}"} <= {
                *words
            }:
                return bytes.fromhex("0f1ff3aa")
        raise AssertionError(argv)


def test_code_of_a_function_is_read_from_kcore() -> None:
    ssh: Any = Kcore()
    assert code(ssh, "clears", 4) == bytes.fromhex("0f1ff3aa")
    for name, many in (("nothing", 0), ("again", 2)):
        with pytest.raises(ChannelError, match=rf"has {many} functions {name}\(\)"):
            code(ssh, name, 4)


def _trace(*words: str) -> str:
    lines = [f" puppet-77 [001] ..... 12.3: fetch: (__x64_sys_sched_yield+0x0/0x10) words={{{','.join(words)}}}"]
    return "\n".join(["# tracer: nop", "#", *lines, ""])


def test_words_of_a_trace_are_bytes_in_their_order() -> None:
    assert words_of(_trace("0x807060504030201", "0x0")) == bytes(range(1, 9)) + bytes(8)
    assert words_of(_trace("0x807060504030201", "(fault)")) == bytes(range(1, 9))


def test_trace_without_the_event_is_no_refusal() -> None:
    with pytest.raises(ChannelError, match="0 events"):
        words_of("# tracer: nop\n")


DUMP = """---[ Kernel Space ]---
0xffff800000000000-0xffff880000000000           8T                               pgd
---[ Low Kernel Mapping ]---
0xffff888000000000-0xffff88800009b000         620K     RW                 GLB NX pte
0xffff88800009b000-0xffff88800009c000           4K                               pte
0xffff88800009c000-0xffff888000200000        1424K     ro                 GLB NX pte
"""


def test_page_tables_tell_a_hole_from_a_mapping() -> None:
    tables = PageTables(DUMP)
    assert tables.maps(DIRECT) and tables.maps(DIRECT + 0x9AFFF) and tables.maps(DIRECT + 0x9C000)
    assert not tables.maps(DIRECT + 0x9B000) and not tables.maps(DIRECT + 0x9BFFF)


@pytest.mark.parametrize("address", [0x1000, DIRECT + 0x200000])
def test_page_tables_that_say_nothing_of_an_address_are_no_hole(address: int) -> None:
    with pytest.raises(ChannelError, match="does not tell"):
        PageTables(DUMP).maps(address)
