# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes of memory management are made of, without a machine."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import secrets
from typing import Any

import pytest

from common.errors import ChannelError
from host_setup.channels.puppets import Done
from signoff.observation import PAGE_SIZE
from tests_e2e.support import blocks
from tests_e2e.support.blocks import Blocks
from tests_e2e.support.chain import call
from tests_e2e.support.host_memory import PIECE, pages_with
from tests_e2e.support.loads import loads_of_each
from tests_e2e.support.pagemap import Place, place_of

RETURN = bytes.fromhex("c3")


def execute(code: bytes) -> None:
    """Run machine code of this processor, in this process."""
    with mmap.mmap(-1, len(code) + 1, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        memory.write(code + RETURN)
        view = ctypes.c_char.from_buffer(memory)
        ctypes.CFUNCTYPE(None)(ctypes.addressof(view))()
        del view


def test_a_chain_makes_its_calls_and_stores_what_they_returned() -> None:
    read, write = os.pipe()
    text = ctypes.create_string_buffer(b"one after the other")
    results = (ctypes.c_int64 * 4)()
    places = [ctypes.addressof(results) + 8 * number for number in range(4)]
    calls = [
        call("getpid"),
        call("write", write, ctypes.addressof(text), len(text)),
        call("close", -1),
        call("pread64", read, ctypes.addressof(text), 1, 0),
    ]
    execute(b"".join(call.code(place) for call, place in zip(calls, places, strict=True)))
    assert os.read(read, 100) == text.raw
    assert list(results) == [os.getpid(), len(text), -errno.EBADF, -errno.ESPIPE]
    os.close(read)
    os.close(write)


def test_all_six_arguments_arrive() -> None:
    result = ctypes.c_int64()
    fixed = 0x7E0000000000
    execute(call("mmap", fixed, PAGE_SIZE, 3, 0x100022, -1, 0).code(ctypes.addressof(result)))  # MAP_FIXED_NOREPLACE
    assert result.value == fixed
    execute(call("munmap", fixed, PAGE_SIZE).code(ctypes.addressof(result)))
    assert result.value == 0


class OurselvesAsPuppet:
    """This process: it runs the code, whose registers that outlive calls are put back."""

    def __init__(self) -> None:
        self.held: list[ctypes.Array[ctypes.c_char]] = []

    def memory(self, content: bytes | int) -> int:
        size = content if isinstance(content, int) else len(content)
        self.held.append(ctypes.create_string_buffer(b"" if isinstance(content, int) else content, size))
        return ctypes.addressof(self.held[-1])

    def write(self, address: int, content: bytes) -> None:
        ctypes.memmove(address, content, len(content))

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def run(self, code: bytes, **registers: int) -> Done:
        moves = {"rdi": "48bf", "rsi": "48be", "rdx": "48ba", "r8": "49b8", "r9": "49b9"}
        sets = b"".join(bytes.fromhex(moves[name]) + value.to_bytes(8, "little") for name, value in registers.items())
        save, restore = bytes.fromhex("4154415541564157"), bytes.fromhex("415f415e415d415c")  # push, pop r12 to r15
        execute(save + sets + code + restore)
        return Done(returned=0)


def test_each_of_many_pages_is_loaded_from_and_a_fault_is_told_by_its_signal() -> None:
    pages = 8
    with mmap.mmap(-1, pages * PAGE_SIZE) as memory:
        first = ctypes.addressof(view := ctypes.c_char.from_buffer(memory))
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, 3, 7):  # PROT_NONE
            assert libc.mprotect(ctypes.c_void_p(first + page * PAGE_SIZE), PAGE_SIZE, 0) == 0
        puppet: Any = OurselvesAsPuppet()
        assert loads_of_each(puppet, first, pages) == [
            "SIGSEGV" if page in (0, 3, 7) else None for page in range(pages)
        ]
        del view


def test_pages_that_were_not_tried_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    puppet: Any = OurselvesAsPuppet()
    monkeypatch.setattr(puppet, "run", lambda *_, **__: Done(returned=-1))
    with pytest.raises(ChannelError, match="2 not tried"):
        loads_of_each(puppet, 0x1000, 2)


@pytest.mark.parametrize(
    ("raw", "done"),
    [
        (0, Done(returned=0)),
        (4096, Done(returned=4096)),
        (-14, Done(returned=-1, errno="EFAULT")),
        (-133, Done(returned=-1, errno="EHWPOISON")),
        (-4096, Done(returned=-4096)),
    ],
)
def test_a_raw_result_is_a_value_or_an_errno(raw: int, done: Done) -> None:
    assert Done.of_result(raw) == done


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        (0, Place()),
        (1 << 63 | 0x1234, Place(frame=0x1234)),
        (1 << 63 | 1 << 61 | 1 << 56 | 0x1234, Place(frame=0x1234)),
        (1 << 62 | 0x77 << 5 | 3, Place(slot=0x77)),
    ],
)
def test_a_page_is_in_a_frame_or_in_a_slot_or_nowhere(entry: int, place: Place) -> None:
    assert place_of(entry) == place


def memory(pages: int) -> bytearray:
    return bytearray(pages * PAGE_SIZE)


def test_a_canary_is_found_at_its_place_in_a_page_and_elsewhere() -> None:
    canaries = [secrets.token_bytes(PAGE_SIZE) for _ in range(3)]
    whole, part = memory(8), PAGE_SIZE // 2
    whole[PAGE_SIZE : 2 * PAGE_SIZE] = canaries[0]
    whole[3 * PAGE_SIZE + part : 3 * PAGE_SIZE + part + PIECE] = canaries[1][part : part + PIECE]
    across = 6 * PAGE_SIZE - 5
    whole[across : across + PIECE] = canaries[0][:PIECE]
    result = pages_with(bytes(whole), canaries)
    assert result == [
        canaries[0] + bytes(whole[5 * PAGE_SIZE : 7 * PAGE_SIZE]),
        bytes(whole[3 * PAGE_SIZE : 4 * PAGE_SIZE]),
        b"",
    ]


def test_no_canary_is_found_where_there_is_none() -> None:
    assert pages_with(bytes(memory(4)), [secrets.token_bytes(PAGE_SIZE)]) == [b""]


# --- blocks of the kernel's memory


class RingPuppet:
    """A process with a packet socket."""

    pid = 77

    def __init__(self) -> None:
        self.called: list[str] = []

    def memory(self, _: bytes) -> int:
        return 0x1000

    def syscall(self, name: str, *_: int) -> Done:
        self.called.append(name)
        return Done(returned=3)


def blocks_at(monkeypatch: pytest.MonkeyPatch, puppet: RingPuppet, *firsts: int | None) -> Blocks:
    """Blocks whose first frames these are; None: of pages from here and there."""
    frames = [
        Place(frame=page * 7 + 1 if first is None else first + page) for first in firsts for page in range(blocks.PAGES)
    ]
    monkeypatch.setattr(blocks, "places", lambda *_: frames)
    ssh: Any = None
    process: Any = puppet
    return Blocks(ssh, process, len(firsts))


def test_blocks_that_are_in_one_piece_are_known_by_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    puppet = RingPuppet()
    result = blocks_at(monkeypatch, puppet, 512, None, 5120, 513)  # the last one is not where a block begins
    assert result.frames == [512 * PAGE_SIZE, 5120 * PAGE_SIZE]
    result.give_back()
    assert puppet.called[-2:] == ["munmap", "close"]


def test_too_few_blocks_in_one_piece_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChannelError, match="of 4 blocks of the ring 1 are in one piece"):
        blocks_at(monkeypatch, RingPuppet(), 512, None, None, None)
