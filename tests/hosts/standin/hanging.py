# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that hangs: one of ours whose first instructions are replaced, so that it stops before it says a word."""

from __future__ import annotations

import struct

# Documentation/arch/x86/boot.rst
_SETUP_SECTORS = 0x1F1
_MAGIC, _MAGIC_AT = b"HdrS", 0x202
_SECTOR = 512
_ENTRY_64 = 0x200  # from the start of the protected-mode kernel; the 32-bit entry is that start
_STOP = bytes.fromhex("faf4ebfd")  # cli; hlt; jmp to the hlt


def hanging(image: bytes) -> bytes:
    """A bzImage that loads as the given one does, and then does nothing.

    :raises ValueError: it is no bzImage.
    """
    if image[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
        raise ValueError("not a bzImage")
    (sectors,) = struct.unpack_from("<B", image, _SETUP_SECTORS)
    start = ((sectors or 4) + 1) * _SECTOR
    out = bytearray(image)
    for entry in (start, start + _ENTRY_64):
        out[entry : entry + len(_STOP)] = _STOP
    return bytes(out)
