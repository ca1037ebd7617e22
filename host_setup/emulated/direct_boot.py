# SPDX-License-Identifier: GPL-2.0-or-later
"""How a PC boots whose memory holds kernel and initramfs before it is switched on: as QEMU's ``-kernel`` has it.

Its boot sector, ``boot_sector.S``, goes to the kernel by the 32-bit protocol (Linux: Documentation/arch/x86/boot.rst).
"""

from __future__ import annotations

import struct
from pathlib import Path

from common.errors import ImageError

SECTOR_SOURCE = Path(__file__).with_name("boot_sector.S")
SECTOR_FLAGS = ("-m32", "-nostdlib", "-static", "-Wl,-Ttext=0x7c00,--oformat=binary,--build-id=none")
"""For gcc."""
PARAMETERS, KERNEL = 0x9000, 0x100000
"""Addresses that ``boot_sector.S`` has as well."""
INITRAMFS = 512 << 20
"""Where neither the BIOS nor the kernel has anything when it begins."""
_PAGE = 4096
# struct boot_params, and struct setup_header in it, from _HEADER on
_HEADER, _MAGIC, _JUMP, _VIDEO, _LOADER, _FLAGS, _RAMDISK, _WORDS = (
    0x1F1,
    0x202,
    0x201,
    0x1FA,
    0x210,
    0x211,
    0x218,
    0x228,
)
_SECTOR = 512


def protected_mode_kernel(image: bytes) -> bytes:
    """The part of a bzImage that belongs to ``KERNEL``.

    :raises ImageError: it is no bzImage.
    """
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise ImageError("the kernel's image is no bzImage")
    return image[(image[_HEADER] + 1) * _SECTOR :]


def parameters(image: bytes, initramfs: int, command_line: str) -> bytes:
    """What belongs to ``PARAMETERS``: what a boot loader says, and the command line behind it.

    :param image: a bzImage. :param initramfs: its size, in bytes.
    """
    end = _MAGIC + image[_JUMP]
    page = bytearray(_PAGE)
    page[_HEADER:end] = image[_HEADER:end]
    struct.pack_into("<H", page, _VIDEO, 0xFFFF)  # as it is
    page[_LOADER] = 0xFF  # none that has a number
    page[_FLAGS] |= 1  # the kernel is at KERNEL
    struct.pack_into("<II", page, _RAMDISK, INITRAMFS, initramfs)
    struct.pack_into("<I", page, _WORDS, PARAMETERS + _PAGE)
    return bytes(page) + command_line.encode("ascii") + b"\0"
