# SPDX-License-Identifier: GPL-2.0-or-later
"""perf: samples of a puppet's user registers at a fault, samples of other threads by a clock, watchpoints, kprobes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from common.errors import ChannelError
from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.steps import descriptor_of, load_bytes, map_file

# linux/perf_event.h; struct perf_event_attr as far as sample_stack_user and clockid, 96 bytes
ATTR = struct.Struct("<IIQQQQQ32xQIi")
WATCHPOINT = struct.Struct("<IIQQQQQ4xIQQ8x24x")  # the same, with bp_type, bp_addr and bp_len
SOFTWARE, BREAKPOINT, CPU_CLOCK, PAGE_FAULTS = 1, 5, 0, 2
READ_OR_WRITE, WATCHED = 3, 8  # linux/hw_breakpoint.h; bytes
SAMPLE_IP = 1 << 0
PERIOD = 2_000_000  # nanoseconds of a thread's time from sample to sample
MODE, GUEST_KERNEL, GUEST_USER = 7, 4, 5  # of a record's misc
SAMPLE_ADDR, SAMPLE_CALLCHAIN, SAMPLE_STACK_USER = 1 << 3, 1 << 5, 1 << 13
DISABLED, EXCLUDE_KERNEL, EXCLUDE_CALLCHAIN_KERNEL = 1 << 0, 1 << 5, 1 << 21
ENABLE, DISABLE, SET_BPF = 0x2400, 0x2401, 0x40042408
RECORD_SAMPLE, HEADER = 9, struct.Struct("<IHH")  # type, misc, size
DATA_HEAD = 1024  # where struct perf_event_mmap_page has it
DATA_PAGES = 4
STORE = bytes.fromhex("8807")  # mov [rdi], al


def take_sample(puppet: Puppet, contents: int, *, stack: int = 0, **registers: int) -> bytes:
    """Have perf take a sample at a page fault of the puppet's main thread.

    :param contents: SAMPLE_CALLCHAIN or SAMPLE_STACK_USER, then of ``stack`` bytes. :param registers: at the fault.
    :returns: that part of the sample.
    :raises ChannelError: there is no such event, or no sample of the fault.
    """
    flags = DISABLED | EXCLUDE_KERNEL | EXCLUDE_CALLCHAIN_KERNEL
    attr = ATTR.pack(SOFTWARE, ATTR.size, PAGE_FAULTS, 1, SAMPLE_ADDR | contents, 0, flags, 0, stack, 0)
    size, fresh = (1 + DATA_PAGES) * PAGE_SIZE, puppet.memory(PAGE_SIZE)
    with (
        descriptor_of(puppet, "perf_event_open", puppet.memory(attr), 0, -1, -1, 0) as event,
        map_file(puppet, size, event) as ring,
    ):
        puppet.syscall("ioctl", event, ENABLE, 0).require("enable")
        puppet.run(STORE, rdi=fresh, **registers)
        records = _records(puppet, event, ring)
    return _sample(records, fresh)


@contextmanager
def sample_by_clock(puppet: Puppet, threads: Sequence[int]) -> Iterator[Callable[[], list[int]]]:
    """Meanwhile perf takes samples of threads, by a clock.

    :returns: what ends that, and tells the address of each sample that perf took of a guest.
    """
    attr = ATTR.pack(SOFTWARE, ATTR.size, CPU_CLOCK, PERIOD, SAMPLE_IP, 0, DISABLED, 0, 0, 0)
    size = (1 + DATA_PAGES) * PAGE_SIZE
    rings: list[tuple[int, int]] = []
    with ExitStack() as ends:
        for thread in threads:
            event = ends.enter_context(descriptor_of(puppet, "perf_event_open", puppet.memory(attr), thread, -1, -1, 0))
            ring = ends.enter_context(map_file(puppet, size, event))
            puppet.syscall("ioctl", event, ENABLE, 0).require("enable")
            rings.append((event, ring))
        yield lambda: [guest for event, ring in rings for guest in _of_guests(_records(puppet, event, ring))]


@contextmanager
def watchpoint(puppet: Puppet, thread: int, address: int) -> Iterator[Callable[[], int]]:
    """Meanwhile a watchpoint of a thread counts its accesses to an address, the kernel's too; gives what tells them."""
    size = WATCHPOINT.size
    attr = WATCHPOINT.pack(BREAKPOINT, size, 0, 0, 0, 0, 0, READ_OR_WRITE, address, WATCHED)
    with descriptor_of(puppet, "perf_event_open", puppet.memory(attr), thread, -1, -1, 0) as event:
        count = puppet.memory(8)

        def hits() -> int:
            puppet.syscall("read", event, count, 8).require("read the watchpoint's count")
            return int(struct.unpack("<Q", puppet.read(count, 8))[0])

        yield hits


@contextmanager
def kernel_probe(puppet: Puppet, kind: int, function: str, program: int, *, offset: int = 0) -> Iterator[None]:
    """Meanwhile a BPF program runs at an instruction of a function of the kernel's, whoever calls it.

    :param kind: of perf's events by kprobes, as /sys/bus/event_source/devices/kprobe/type tells it.
    :param offset: of the instruction in the function, in bytes.
    """
    name = puppet.memory(function.encode() + b"\0")
    attr = WATCHPOINT.pack(kind, WATCHPOINT.size, 0, 0, 0, 0, 0, 0, name, offset)  # kprobe_func is bp_addr
    with descriptor_of(puppet, "perf_event_open", puppet.memory(attr), 0, -1, -1, 0) as event:
        puppet.syscall("ioctl", event, SET_BPF, program).require(f"a program at {function}")
        yield


def _records(puppet: Puppet, event: int, ring: int) -> bytes:
    """What perf has put down, which it does no more.

    After 6.12 (kernel/events/core.c: map_range()) the ring is a mapping of bare frames, where peek ends in EIO.
    """
    puppet.syscall("ioctl", event, DISABLE, 0).require("disable")
    (head,) = struct.unpack("<Q", load_bytes(puppet, ring + DATA_HEAD, 8))
    return load_bytes(puppet, ring + PAGE_SIZE, head) if head else b""


def _of_guests(records: bytes) -> Iterator[int]:
    """The addresses of the samples that were taken of a guest."""
    at = 0
    while at < len(records):
        kind, misc, size = HEADER.unpack_from(records, at)
        if kind == RECORD_SAMPLE and misc & MODE in (GUEST_KERNEL, GUEST_USER):
            yield int(struct.unpack_from("<Q", records, at + HEADER.size)[0])
        at += size


def _sample(records: bytes, address: int) -> bytes:
    """What the sample of a fault at that address has after the address."""
    at = 0
    while at < len(records):
        kind, _, size = HEADER.unpack_from(records, at)
        if kind == RECORD_SAMPLE and struct.unpack_from("<Q", records, at + HEADER.size)[0] == address:
            return records[at + HEADER.size + 8 : at + size]
        at += size
    raise ChannelError(f"perf took no sample of the fault at {address:#x}, in {len(records)} bytes of records")
