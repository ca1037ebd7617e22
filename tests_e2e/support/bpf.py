# SPDX-License-Identifier: GPL-2.0-or-later
"""BPF programs that read or write memory: loaded by bpf(2), run once in the caller's context; and their maps."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet
from tests_e2e.support.steps import closing

# linux/bpf.h
MAP_CREATE, MAP_LOOKUP_ELEM, BPF_MAP_UPDATE, PROG_LOAD, PROG_TEST_RUN = 0, 1, 2, 5, 10
MAP_TYPE_ARRAY, PROG_TYPE_RAW_TRACEPOINT, PROG_TYPE_SYSCALL = 2, 17, 31
F_SLEEPABLE = 1 << 4
PSEUDO_MAP_VALUE = 2
LD_IMM64, CALL, EXIT, STORE_REG64, MOV_IMM = 0x18, 0x85, 0x95, 0x7B, 0xB7
ATTR = 128  # bytes of union bpf_attr that we pass; what is not said is 0
RESULT = struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class Helper:
    """A helper of BPF's, and the kind of program that may call it.

    :ivar number: of enum bpf_func_id. :ivar writes: whether it copies to the address, not from it.
    """

    number: int
    program: int = PROG_TYPE_RAW_TRACEPOINT
    flags: int = 0
    writes: bool = False


PROBE_READ_KERNEL = Helper(113)
PROBE_READ_USER = Helper(112)
PROBE_WRITE_USER = Helper(36, writes=True)
COPY_FROM_USER = Helper(148, PROG_TYPE_SYSCALL, F_SLEEPABLE)


def read_by_bpf(process: Puppet, address: int, size: int, helper: Helper = PROBE_READ_KERNEL) -> tuple[Done, bytes]:
    """Have a program call a helper that reads memory.

    :returns: what the helper returned, as a system call reports it, and what it left in the map.
    :raises ChannelError: the kernel does not take the program, or does not run it.
    """
    return _run(process, helper, address, b"\xff" * size)


def write_by_bpf(process: Puppet, address: int, content: bytes) -> Done:
    """Have a program call bpf_probe_write_user(); likewise."""
    return _run(process, PROBE_WRITE_USER, address, content)[0]


@contextmanager
def map_of(process: Puppet, size: int) -> Iterator[int]:
    """A map of one value of that size, all zeros."""
    with closing(
        process, bpf(process, MAP_CREATE, struct.pack("<IIII", MAP_TYPE_ARRAY, 4, size, 1)).require("map")
    ) as descriptor:
        yield descriptor


def on_map(process: Puppet, command: int, into: int, value: int) -> Done:
    """Look up or update a map's one value: copy it to or from an address of the process."""
    return bpf(process, command, struct.pack("<I4xQQ", into, process.memory(4), value))


def value_of(process: Puppet, into: int, size: int) -> bytes:
    """A map's value."""
    value = process.memory(size)
    on_map(process, MAP_LOOKUP_ELEM, into, value).require("look up the map")
    return process.read(value, size)


@contextmanager
def program_of(process: Puppet, kind: int, code: bytes, flags: int = 0) -> Iterator[int]:
    """A loaded program of that kind.

    :raises ChannelError: the kernel does not take it.
    """
    code_at, license_at = process.memory(code), process.memory(b"GPL\0")
    # prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags
    load = struct.pack("<IIQQ20xI", kind, len(code) // 8, code_at, license_at, flags)
    with closing(process, bpf(process, PROG_LOAD, load).require("load the program")) as descriptor:
        yield descriptor


def _run(process: Puppet, helper: Helper, address: int, content: bytes) -> tuple[Done, bytes]:
    """Run the helper on ``content`` and the address; what it returned, and what the content is then."""
    value = RESULT.pack(0) + content
    with map_of(process, len(value)) as into:
        on_map(process, BPF_MAP_UPDATE, into, process.memory(value)).require("update the map")
        code = _program(helper, into, address, len(content))
        with program_of(process, helper.program, code, helper.flags) as program:
            bpf(process, PROG_TEST_RUN, struct.pack("<I", program)).require("run the program")
        after = value_of(process, into, len(value))
    return Done.of_result(RESULT.unpack_from(after)[0]), after[RESULT.size :]


def _program(helper: Helper, into: int, address: int, size: int) -> bytes:
    """r0 = helper(value + 8, size, address), or helper(address, value + 8, size), and r0 to the value's start."""
    here, there, count = (2, 1, 3) if helper.writes else (1, 3, 2)  # the registers of its arguments
    return b"".join(
        (
            load(6, into, 0, source=PSEUDO_MAP_VALUE),
            load(here, into, RESULT.size, source=PSEUDO_MAP_VALUE),
            load(there, address & 0xFFFFFFFF, address >> 32),
            instruction(MOV_IMM, count, immediate=size),
            instruction(CALL, immediate=helper.number),
            instruction(STORE_REG64, 6, source=0),
            instruction(MOV_IMM, 0),
            instruction(EXIT),
        )
    )


def instruction(code: int, target: int = 0, *, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """An instruction of a program (Documentation/bpf/standardization/instruction-set.rst)."""
    return struct.pack("<BBhI", code, source << 4 | target, offset, immediate)


def load(target: int, low: int, high: int, *, source: int = 0) -> bytes:
    """The two halves of a load of 64 bits: a number, or a map's descriptor and an offset in its value."""
    return instruction(LD_IMM64, target, source=source, immediate=low) + instruction(0, immediate=high)


def bpf(process: Puppet, command: int, attributes: bytes) -> Done:
    """bpf(2) with a union bpf_attr that begins so.

    :raises ChannelError: EPERM.
    """
    attr = process.memory(attributes.ljust(ATTR, b"\0"))
    done = process.syscall("bpf", command, attr, ATTR)
    if done.errno == "EPERM":
        raise ChannelError("bpf: EPERM", hint="is the kernel locked down?")
    return done
