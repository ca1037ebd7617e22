# SPDX-License-Identifier: GPL-2.0-or-later
"""A BPF program that reads kernel memory: loaded by bpf(2), run once, its find left in a map."""

from __future__ import annotations

import errno
import struct

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet

# linux/bpf.h
MAP_CREATE, MAP_LOOKUP_ELEM, PROG_LOAD, PROG_TEST_RUN = 0, 1, 5, 10
MAP_TYPE_ARRAY, PROG_TYPE_RAW_TRACEPOINT = 2, 17
PROBE_READ_KERNEL = 113
PSEUDO_MAP_VALUE = 2
LD_IMM64, CALL, EXIT, STORE_REG64, MOV_IMM = 0x18, 0x85, 0x95, 0x7B, 0xB7
ATTR = 128  # bytes of union bpf_attr that we pass; what is not said is 0
RESULT = struct.Struct("<q")


def read_by_bpf(process: Puppet, address: int, size: int) -> tuple[Done, bytes]:
    """Have a program call bpf_probe_read_kernel().

    :returns: what the helper returned, as a system call reports it, and what it left in the map.
    :raises ChannelError: the kernel does not take the program, or does not run it.
    """
    value = RESULT.size + size
    into = _bpf(process, MAP_CREATE, struct.pack("<IIII", MAP_TYPE_ARRAY, 4, value, 1))
    code = _program(into, address, size)
    code_at, license_at = process.memory(code), process.memory(b"GPL\0")
    load = struct.pack("<IIQQ", PROG_TYPE_RAW_TRACEPOINT, len(code) // 8, code_at, license_at)
    program = _bpf(process, PROG_LOAD, load)
    _bpf(process, PROG_TEST_RUN, struct.pack("<I", program))
    key, found = process.memory(4), process.memory(value)
    _bpf(process, MAP_LOOKUP_ELEM, struct.pack("<IIQQ", into, 0, key, found))
    for descriptor in (program, into):
        process.syscall("close", descriptor).require("close")
    content = process.read(found, value)
    (result,) = RESULT.unpack_from(content)
    if result < 0:
        return Done(returned=-1, errno=errno.errorcode.get(-result, str(-result))), content[RESULT.size :]
    return Done(returned=result), content[RESULT.size :]


def _program(into: int, address: int, size: int) -> bytes:
    """r0 = bpf_probe_read_kernel(value + 8, size, address), and r0 to the value's start."""
    return b"".join(
        (
            _load(6, into, 0, source=PSEUDO_MAP_VALUE),
            _load(1, into, RESULT.size, source=PSEUDO_MAP_VALUE),
            _instruction(MOV_IMM, 2, immediate=size),
            _load(3, address & 0xFFFFFFFF, address >> 32),
            _instruction(CALL, immediate=PROBE_READ_KERNEL),
            _instruction(STORE_REG64, 6, source=0),
            _instruction(MOV_IMM, 0),
            _instruction(EXIT),
        )
    )


def _instruction(code: int, target: int = 0, *, source: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhI", code, source << 4 | target, 0, immediate)


def _load(target: int, low: int, high: int, *, source: int = 0) -> bytes:
    """The two halves of a load of 64 bits: a number, or a map's descriptor and an offset in its value."""
    return _instruction(LD_IMM64, target, source=source, immediate=low) + _instruction(0, immediate=high)


def _bpf(process: Puppet, command: int, attributes: bytes) -> int:
    attr = process.memory(attributes.ljust(ATTR, b"\0"))
    done = process.syscall("bpf", command, attr, ATTR)
    if done.errno == "EPERM":
        raise ChannelError("bpf: EPERM", hint="is the kernel locked down?")
    return done.require(f"bpf command {command}")
