# SPDX-License-Identifier: GPL-2.0-or-later
"""A BPF program at a function of the kernel's that takes down a page of user memory, as one string after the other."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE
from tests_e2e.support.bpf import (
    CALL,
    EXIT,
    MOV_IMM,
    PSEUDO_MAP_VALUE,
    STORE_REG64,
    instruction,
    load,
    map_of,
    program_of,
    value_of,
)
from tests_e2e.support.perf import kernel_probe

KIND = "/sys/bus/event_source/devices/kprobe/type"
PROG_TYPE_KPROBE = 2  # linux/bpf.h
PROBE_READ_USER_STR = 114  # enum bpf_func_id
LOAD_REG64, MOV_REG, ADD_IMM, ADD_REG, MUL_IMM = 0x79, 0xBF, 0x07, 0x0F, 0x27
IF_UNEQUAL_IMM, IF_NOT_LESS_IMM = 0x55, 0x35
TIMES = 8  # as often it takes down the page
RDI = 112  # in struct pt_regs
COUNT = struct.Struct("<Q")
PIECE = 64  # bytes of a string, in front of the NUL that ends it
COPIED_BYTES = PAGE_SIZE // PIECE * (PIECE + 1)


@dataclass(frozen=True, slots=True)
class Place:
    """When it takes down which page.

    :ivar function: the kernel's. :ivar address: of the page. :ivar only: if that is in rdi then, where a function has
        its first argument. :ivar offset: of the instruction in the function, in bytes.
    """

    function: str
    address: int
    only: bool = False
    offset: int = 0


@contextmanager
def record_string(ssh: Ssh, process: Puppet, place: Place) -> Iterator[Callable[[], tuple[int, bytes]]]:
    """Meanwhile the program runs there; gives what tells how often it did, and what it took down.

    :param process: has the program loaded, and its map.
    :raises ChannelError: the kernel does not take the program, or the probe.
    """
    kind = int(ssh.run(["cat", KIND], seconds=20).require().text)
    size = COUNT.size + TIMES * COPIED_BYTES
    with (
        map_of(process, size) as into,
        program_of(process, PROG_TYPE_KPROBE, _program(into, place)) as program,
        kernel_probe(process, kind, place.function, program, offset=place.offset),
    ):

        def result() -> tuple[int, bytes]:
            value = value_of(process, into, size)
            return int(COUNT.unpack_from(value)[0]), value[COUNT.size :]

        yield result


def _program(into: int, place: Place) -> bytes:
    """r8: the processor's registers; r7: how often it ran; r6: where what it finds goes."""
    take = [instruction(MUL_IMM, 7, immediate=COPIED_BYTES), instruction(ADD_REG, 6, source=7)]
    for number in range(PAGE_SIZE // PIECE):
        at = place.address + number * PIECE
        take += [
            instruction(MOV_REG, 1, source=6),
            instruction(ADD_IMM, 1, immediate=COUNT.size + number * (PIECE + 1)),
            instruction(MOV_IMM, 2, immediate=PIECE + 1),
            load(3, at & 0xFFFFFFFF, at >> 32),
            instruction(CALL, immediate=PROBE_READ_USER_STR),
        ]
    count = [
        load(6, into, 0, source=PSEUDO_MAP_VALUE),
        instruction(LOAD_REG64, 7, source=6),
        instruction(MOV_REG, 1, source=7),
        instruction(ADD_IMM, 1, immediate=1),
        instruction(STORE_REG64, 6, source=1),
        *_unless(IF_NOT_LESS_IMM, 7, TIMES, take),
    ]
    if place.only:
        count = [
            instruction(LOAD_REG64, 2, source=8, offset=RDI),
            *_unless(IF_UNEQUAL_IMM, 2, place.address, count),
        ]
    whole = [
        instruction(MOV_REG, 8, source=1),
        *count,
        instruction(MOV_IMM, 0),
        instruction(EXIT),
    ]
    return b"".join(whole)


def _unless(jump: int, register: int, value: int, then: list[bytes]) -> list[bytes]:
    """Instructions that are jumped across if the register compares so with the value."""
    return [instruction(jump, register, offset=len(b"".join(then)) // 8, immediate=value), *then]
