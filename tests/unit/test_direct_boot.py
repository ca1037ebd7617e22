# SPDX-License-Identifier: GPL-2.0-or-later
"""What a PC boots whose memory holds kernel and initramfs, read as its boot sector and Linux read it."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from common.errors import ImageError
from common.store import Store
from host_setup.emulated.bochs import compile_here
from host_setup.emulated.direct_boot import (
    INITRAMFS,
    KERNEL,
    PARAMETERS,
    SECTOR_FLAGS,
    SECTOR_SOURCE,
    parameters,
    protected_mode_kernel,
)
from tests.unit.machine_samples import bzimage


def test_kernel_is_what_lies_behind_its_real_mode_code() -> None:
    assert protected_mode_kernel(bzimage()) == b"code"
    with pytest.raises(ImageError, match="no bzImage"):
        protected_mode_kernel(b"x" * 2048)


def test_linux_is_told_as_a_boot_loader_tells_it() -> None:
    page = parameters(bzimage(), 1234, "ro quiet")
    assert page[0x1F1] == 1
    assert page[0x202:0x206] == b"HdrS"
    assert page[0x210] == 0xFF
    assert page[0x211] == 0x81
    assert struct.unpack_from("<II", page, 0x218) == (INITRAMFS, 1234)
    words = struct.unpack_from("<I", page, 0x228)[0] - PARAMETERS
    assert page[words:] == b"ro quiet\0"
    assert not any(page[0x26C:words])  # the boot sector puts the memory map there


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_boot_sector_is_one_and_knows_the_same_addresses(tmp_path: Path) -> None:
    sector = compile_here(SECTOR_SOURCE, Store(tmp_path), *SECTOR_FLAGS).read_bytes()
    assert len(sector) == 512
    assert sector[-2:] == b"\x55\xaa"
    text = SECTOR_SOURCE.read_text(encoding="ascii")
    assert f"#define PARAMETERS {PARAMETERS:#x}\t" in text
    assert f"#define KERNEL {KERNEL:#x}\n" in text
