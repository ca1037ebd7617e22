# SPDX-License-Identifier: GPL-2.0-or-later
"""perf samples of a puppet's user registers, taken while it runs an instruction that faults."""

from __future__ import annotations

import struct

from common.errors import ChannelError
from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.steps import loaded, made, mapped

# linux/perf_event.h; struct perf_event_attr as far as sample_stack_user and clockid, 96 bytes
ATTR = struct.Struct("<IIQQQQQ32xQIi")
SOFTWARE, PAGE_FAULTS = 1, 2
SAMPLE_ADDR, SAMPLE_CALLCHAIN, SAMPLE_STACK_USER = 1 << 3, 1 << 5, 1 << 13
DISABLED, EXCLUDE_KERNEL, EXCLUDE_CALLCHAIN_KERNEL = 1 << 0, 1 << 5, 1 << 21
ENABLE, DISABLE = 0x2400, 0x2401
RECORD_SAMPLE, HEADER = 9, struct.Struct("<IHH")  # type, misc, size
DATA_HEAD = 1024  # where struct perf_event_mmap_page has it
DATA_PAGES = 4
STORE = bytes.fromhex("8807")  # mov [rdi], al


def sampled(puppet: Puppet, what: int, *, stack: int = 0, **registers: int) -> bytes:
    """Have perf take a sample at a page fault of the puppet's main thread.

    :param what: SAMPLE_CALLCHAIN or SAMPLE_STACK_USER, then of ``stack`` bytes. :param registers: at the fault.
    :returns: that part of the sample.
    :raises ChannelError: there is no such event, or no sample of the fault.
    """
    flags = DISABLED | EXCLUDE_KERNEL | EXCLUDE_CALLCHAIN_KERNEL
    attr = ATTR.pack(SOFTWARE, ATTR.size, PAGE_FAULTS, 1, SAMPLE_ADDR | what, 0, flags, 0, stack, 0)
    size, fresh = (1 + DATA_PAGES) * PAGE_SIZE, puppet.memory(PAGE_SIZE)
    with (
        made(puppet, "perf_event_open", puppet.memory(attr), 0, -1, -1, 0) as event,
        mapped(puppet, size, event) as ring,
    ):
        puppet.syscall("ioctl", event, ENABLE, 0).require("enable")
        puppet.run(STORE, rdi=fresh, **registers)
        puppet.syscall("ioctl", event, DISABLE, 0).require("disable")
        # After 6.12 (kernel/events/core.c: map_range()) the ring is a mapping of bare frames, where peek ends in EIO.
        (head,) = struct.unpack("<Q", loaded(puppet, ring + DATA_HEAD, 8))
        records = loaded(puppet, ring + PAGE_SIZE, head) if head else b""
    return _sample(records, fresh)


def _sample(records: bytes, address: int) -> bytes:
    """What the sample of a fault at that address has after the address."""
    at = 0
    while at < len(records):
        kind, _, size = HEADER.unpack_from(records, at)
        if kind == RECORD_SAMPLE and struct.unpack_from("<Q", records, at + HEADER.size)[0] == address:
            return records[at + HEADER.size + 8 : at + size]
        at += size
    raise ChannelError(f"perf took no sample of the fault at {address:#x}, in {len(records)} bytes of records")
