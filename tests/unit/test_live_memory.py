# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that is read in another process while that runs."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from common.errors import MachineError
from signoff.observation import PAGE_SIZE
from tests_e2e.support.live_memory import LiveMemory


def test_live_memory_is_copied_whole() -> None:
    content = bytes(range(256)) * 64
    with mmap.mmap(-1, len(content)) as here:
        here.write(content)
        address = ctypes.addressof(ctypes.c_char.from_buffer(here))
        file = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            live = LiveMemory(file, address, len(content))
            assert (len(live), live.all(), live.page(1)) == (len(content), content, content[PAGE_SIZE : 2 * PAGE_SIZE])
            with mmap.mmap(-1, len(content)) as copy:
                live.copy_to(copy)
                assert copy[:] == content
        finally:
            os.close(file)


def test_live_memory_that_ends_too_early_is_told(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(bytes(PAGE_SIZE))
    file = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(MachineError, match="4096 of 8192 bytes"):
            LiveMemory(file, 0, 2 * PAGE_SIZE).all()
    finally:
        os.close(file)
