# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers and writers of user memory in the kernel that never wait for a page: BPF, perf and the tracer."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.bpf import COPY_FROM_USER, PROBE_READ_USER, read_by_bpf, write_by_bpf
from tests_e2e.support.faults import that_met
from tests_e2e.support.perf import SAMPLE_CALLCHAIN, SAMPLE_STACK_USER, take_sample
from tests_e2e.support.steps import closing, open_file, read_pending

INSTANCE = "/sys/kernel/debug/tracing/instances/sealproof"  # a trace of our own, gone with all that it has
MARK = 1024  # bytes
STACK = 1024  # bytes
WORD = 8
TIMES = (30, 31)  # records of a time alone
ENTRY = 8  # bytes: include/linux/trace_events.h struct trace_entry, before the mark


def test_bpf_cannot_read_private_page_by_probe_read_user(attack: Attack) -> None:
    """A BPF program in QEMU's context cannot read a private page of its guest by bpf_probe_read_user()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return Answer(*read_by_bpf(qemu, page.hva, PAGE_SIZE, PROBE_READ_USER))

    attack.by_qemu("bpf_probe_read_user", probe)


def test_bpf_cannot_read_private_page_by_copy_from_user(attack: Attack) -> None:
    """A BPF program in QEMU's context that may sleep cannot read a private page by bpf_copy_from_user()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return Answer(*read_by_bpf(qemu, page.hva, PAGE_SIZE, COPY_FROM_USER))

    attack.by_qemu("bpf_copy_from_user", probe)


def test_bpf_cannot_overwrite_private_page(attack: Attack) -> None:
    """A BPF program in QEMU's context cannot overwrite a private page of its guest by bpf_probe_write_user()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        content = PATTERN[:STACK]
        return Answer(write_by_bpf(qemu, page.hva, content), wrote=content)

    attack.by_qemu("bpf_probe_write_user", probe)


def test_perf_cannot_sample_private_page_as_a_stack(attack: Attack) -> None:
    """A perf sample of QEMU's stack holds nothing of a private page of its guest that the stack pointer points at."""

    def sample(qemu: Puppet, page: Target) -> Answer:
        # The size asked for, so many bytes, and the size that could be had.
        content = take_sample(qemu, SAMPLE_STACK_USER, stack=STACK, rsp=page.hva)[8:]
        (count,) = struct.unpack_from("<Q", content, STACK)
        return Answer(Done(returned=count), content[:STACK])

    def probe(qemu: Puppet, page: Target) -> Answer:
        return that_met(attack.host.ssh, page.hva, lambda: sample(qemu, page))

    attack.by_qemu("perf(PERF_SAMPLE_STACK_USER)", probe)


def test_perf_cannot_sample_private_page_as_a_call_chain(attack: Attack) -> None:
    """A perf sample of QEMU's callers holds nothing of a private page of its guest that the frame pointer points at."""

    def sample(qemu: Puppet, page: Target) -> Answer:
        # Their number, a mark of the context, where the instruction is, and the return address of the frame.
        content = take_sample(qemu, SAMPLE_CALLCHAIN, rbp=page.hva)
        (count,) = struct.unpack_from("<Q", content)
        return Answer(Done(returned=count), content[3 * WORD :])

    def probe(qemu: Puppet, page: Target) -> Answer:
        return that_met(attack.host.ssh, page.hva, lambda: sample(qemu, page))

    attack.by_qemu("perf(PERF_SAMPLE_CALLCHAIN)", probe)


def test_tracer_cannot_take_private_page_for_a_mark(attack: Attack) -> None:
    """The tracer cannot read a private page of a guest that QEMU gives it as a mark for the trace."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        name = qemu.memory(INSTANCE.encode() + b"\0")
        qemu.syscall("mkdir", name, 0o700).require("mkdir")
        with open_file(qemu, f"{INSTANCE}/trace_marker_raw", os.O_WRONLY) as marker:
            done = qemu.syscall("write", marker, page.hva, MARK)
        data = b"".join(_trace(qemu))
        qemu.syscall("rmdir", name).require("rmdir")
        return Answer(done, data)

    attack.by_qemu("write(trace_marker_raw)", probe)


def _trace(qemu: Puppet) -> list[bytes]:
    """The last record of each processor's buffer, if it is a mark: as many bytes as it has."""
    answers = []
    for number in itertools.count():
        name = qemu.memory(f"{INSTANCE}/per_cpu/cpu{number}/trace_pipe_raw\0".encode())
        done = qemu.syscall("open", name, os.O_NONBLOCK, 0)
        if done.errno == "ENOENT":
            break
        with closing(qemu, done.require("open the trace")) as trace:
            page = read_pending(qemu, trace, PAGE_SIZE)
        if page:
            # A page: a time, how many bytes were committed (below flags), and these.
            (committed,) = struct.unpack_from("<Q", page, WORD)
            *_, record = _records(page[2 * WORD : 2 * WORD + committed % PAGE_SIZE])
            answers.append(record[ENTRY : ENTRY + MARK])
    return answers


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a page of a trace: include/linux/ring_buffer.h enum ring_buffer_type tells their heads.

    They may be longer than what was written: on 6.12 a mark's is by 4 bytes.
    """
    place = 0
    while place < len(content):
        kind = content[place] % 32
        place += 4
        if kind in TIMES:
            size = 4
        elif kind:
            size = 4 * kind
            yield content[place : place + size]
        else:
            (size,) = struct.unpack_from("<I", content, place)
            yield content[place + 4 : place + size]
        place += size
