# SPDX-License-Identifier: GPL-2.0-or-later
"""What a running kernel says of itself in its ELF notes (``/sys/kernel/notes``)."""

from __future__ import annotations

import struct

_NOTE = struct.Struct("<III")  # sizes of name and description, type: an ELF note
_GNU_BUILD_ID = 3


def build_id(notes: bytes) -> str:
    """The GNU build ID among a kernel's notes, in hexadecimal; empty if there is none."""
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, at)
        name = notes[at + _NOTE.size : at + _NOTE.size + name_size]
        begin = at + _NOTE.size + (name_size + 3 & ~3)
        if kind == _GNU_BUILD_ID and name == b"GNU\0":
            return notes[begin : begin + size].hex()
        at = begin + (size + 3 & ~3)
    return ""
