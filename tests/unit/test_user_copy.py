# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct

import pytest

from common.errors import ChannelError
from host_setup.channels.puppets import Done
from tests_e2e.attacks.test_user_copy_arguments import (
    CLONE_VFORK,
    CLONE_VM,
    EXEC,
    STRINGS,
    _end_of_child,
    _string_by_string,
)
from tests_e2e.attacks.test_user_copy_in import CLONE
from tests_e2e.attacks.test_user_copy_partial import _to_the_byte
from tests_e2e.support import bpf, overwriting, perf
from tests_e2e.support.attack import Target

PAGE = Target(qemu=1, gpa=0x2000, hva=0x7F0000001000, hpa=0x3000)
REFUSED = Done(returned=-1, errno="EFAULT")
COUNT = bytes(range(9, 0, -1)) + bytes(range(256)) * 2  # has bytes of zero: at 9, and at 265


def record(kind: int, address: int, content: bytes) -> bytes:
    body = struct.pack("<Q", address) + content
    return perf.HEADER.pack(kind, 0, perf.HEADER.size + len(body)) + body


def test_sample_of_the_fault_is_found_among_other_records() -> None:
    records = record(2, 0x1000, b"a" * 16) + record(9, 0x2000, b"b" * 8) + record(9, 0x1000, b"c" * 24)
    assert perf._sample(records, 0x1000) == b"c" * 24
    with pytest.raises(ChannelError, match="no sample of the fault at 0x3000"):
        perf._sample(records, 0x3000)


@pytest.mark.parametrize("longest", [15, 4096])
def test_page_is_read_string_by_string_with_its_zeros(longest: int) -> None:
    def string(at: int) -> tuple[Done, bytes]:
        rest = COUNT[at - PAGE.hva :]
        return Done(returned=0), rest[: min(rest.index(0) + 1, longest)]

    answer = _string_by_string(PAGE, string)
    assert (answer.done, answer.data) == (Done(returned=0), COUNT[:STRINGS])


def test_first_string_that_is_refused_ends_it() -> None:
    calls = []

    def string(at: int) -> tuple[Done, bytes]:
        calls.append(at)
        return REFUSED, b"left over"

    assert _string_by_string(PAGE, string).data == b""
    assert calls == [PAGE.hva]


def test_end_of_a_child_tells_its_errno() -> None:
    assert _end_of_child(14 << 8) == REFUSED
    assert _end_of_child(0) == Done(returned=0)


def test_parent_leaps_over_all_that_the_child_does() -> None:
    assert CLONE_VM | CLONE_VFORK == 0x4100
    for code in (EXEC, CLONE):
        at = code.index(b"\x85\xc0\x75") + 3
        assert at + 1 + code[at] == len(code)


def test_content_that_always_is_the_same_comes_from_own_memory() -> None:
    class Puppet:
        def memory(self, _size: int) -> int:
            return 0x1000

        def read(self, at: int, size: int) -> bytes:
            return bytes([at >> 12 & 0xFF]) * size

    def call(at: int) -> Done:
        return Done(returned=0) if at == 0x1000 else REFUSED

    answer = overwriting.as_into_own_memory(Puppet(), PAGE, 4, call)
    assert (answer.done, answer.wrote) == (REFUSED, b"\1" * 4)
    with pytest.raises(ChannelError, match="own memory"):
        overwriting.as_into_own_memory(Puppet(), PAGE, 4, lambda _: REFUSED)


@pytest.mark.parametrize(("refused", "wrote"), [(False, b"\1" * 4), (True, bytes(4))])
def test_content_that_never_is_the_same_is_looked_for_in_the_page(*, refused: bool, wrote: bytes) -> None:
    class Puppet:
        def read(self, at: int, size: int) -> bytes:
            assert not refused
            assert at == PAGE.hva
            return b"\1" * size

    done = REFUSED if refused else Done(returned=0)
    assert overwriting.as_found(Puppet(), PAGE, 4, lambda _: done).wrote == wrote


def test_program_gives_each_helper_its_arguments_in_its_order() -> None:
    reads = bpf._program(bpf.PROBE_READ_USER, 5, PAGE.hva, 64)
    writes = bpf._program(bpf.PROBE_WRITE_USER, 5, PAGE.hva, 64)
    for code, (here, there, count), number in ((reads, (1, 3, 2), 112), (writes, (2, 1, 3), 36)):
        words = [code[at : at + 8] for at in range(0, len(code), 8)]
        assert [word[1] & 0xF for word in words[2:7:2]] == [here, there, count]
        assert struct.unpack("<I", words[4][4:])[0] | struct.unpack("<I", words[5][4:])[0] << 32 == PAGE.hva
        assert struct.unpack("<I", words[7][4:])[0] == number


@pytest.mark.parametrize(
    ("done", "size", "counts"),
    [
        (Done(returned=1001), 1001, Done(returned=1001)),
        (Done(returned=1001), 1002, Done(returned=1002)),
        (REFUSED, 0, REFUSED),
        (REFUSED, 1, Done(returned=1)),
    ],
)
def test_what_came_out_counts_if_the_call_said_something_else(done: Done, size: int, counts: Done) -> None:
    assert _to_the_byte(done, b"a" * size) == counts
