# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from common.elf import EHDR, PHDR, PT_LOAD, Segment, segments

NOTE = PHDR.pack(4, 0, 0x1000, 0, 0, 0, 0, 0)
LOAD = PHDR.pack(PT_LOAD, 7, 0x2000, 0x10000, 0x3000, 0x400, 0x800, 4096)


def file(*headers: bytes, magic: bytes = b"\x7fELF", size: int = PHDR.size) -> bytes:
    return EHDR.pack(magic, 4, 62, 1, 0, EHDR.size, 0, 0, EHDR.size, size, len(headers), 0, 0, 0) + b"".join(headers)


def read(content: bytes) -> list[Segment]:
    return segments(lambda at, size: content[at : at + size])


def test_only_what_lies_in_memory_is_a_segment() -> None:
    assert read(file(NOTE, LOAD)) == [Segment(0x2000, 0x10000, 0x3000, 0x400, 0x800)]


def test_headers_may_be_larger_than_they_are_known_to_be() -> None:
    assert (
        read(file(LOAD + bytes(8), LOAD + bytes(8), size=PHDR.size + 8))
        == [Segment(0x2000, 0x10000, 0x3000, 0x400, 0x800)] * 2
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not an ELF file"),
        (file(LOAD, magic=b"#!/b"), "not an ELF file"),
        (file(LOAD)[:-1], "cut short"),
        (file(LOAD, size=8), "cut short"),
    ],
)
def test_other_files_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(content)
