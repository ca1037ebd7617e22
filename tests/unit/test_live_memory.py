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
from tests_e2e.support.live_memory import HostMemory, LiveMemory, Stretch, frames_in


def test_live_memory_is_copied_whole() -> None:
    content = bytes(range(256)) * 64
    with mmap.mmap(-1, len(content)) as here:
        here.write(content)
        address = ctypes.addressof(ctypes.c_char.from_buffer(here))
        file = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            live = LiveMemory(file, [Stretch(0, len(content), address)])
            second = content[PAGE_SIZE : 2 * PAGE_SIZE]
            assert (len(live), live.all()[:], live.page(1)) == (len(content), content, second)
            with live.empty_copy() as copy:
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
            LiveMemory(file, [Stretch(0, 2 * PAGE_SIZE, 0)]).all()
    finally:
        os.close(file)


def test_live_memory_with_a_hole_is_found_by_its_addresses(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    below, above = (bytes([number]) * PAGE_SIZE for number in (1, 2))
    path.write_bytes(below + above)
    file = os.open(path, os.O_RDONLY)
    try:
        live = LiveMemory(file, [Stretch(0, PAGE_SIZE, 0), Stretch(3 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE)])
        with live.all() as memory:
            assert list(frames_in(memory)) == [0, 3]
            assert [live.page(frame) for frame in range(4)] == [below, bytes(PAGE_SIZE), bytes(PAGE_SIZE), above]
            assert memory[:] == below + bytes(2 * PAGE_SIZE) + above
            assert memory.find(bytes([2, 2])) == 3 * PAGE_SIZE
            assert memory.find(bytes([1]), PAGE_SIZE) == memory.find(bytes([0])) == -1
    finally:
        os.close(file)


def test_room_for_a_large_hole_is_free() -> None:
    terabyte = 1 << 40
    with HostMemory([Stretch(0, PAGE_SIZE, 0), Stretch(terabyte, PAGE_SIZE, 0)]) as memory:
        assert (len(memory), memory.find(b"x")) == (terabyte + PAGE_SIZE, -1)
