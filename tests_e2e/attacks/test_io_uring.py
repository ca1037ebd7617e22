# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU with io_uring, which pins pages for I/O, for buffers that it uses again and again, and for itself."""

from __future__ import annotations

import os

from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.io_uring import (
    READ,
    READ_FIXED,
    REGISTER_BUFFERS,
    UNREGISTER_BUFFERS,
    WRITE,
    WRITE_FIXED,
    ring_at,
    ring_of,
)
from tests_e2e.support.pins import pins_let_go
from tests_e2e.support.steps import closing, open_file, open_pipe, read_pending, without_descriptor
from tests_e2e.support.zram import zram_disk


def test_qemu_cannot_write_private_page_to_a_disk_by_io_uring(attack: Attack) -> None:
    """QEMU cannot have a disk's driver read a private page of its guest by io_uring (IORING_OP_WRITE)."""
    with zram_disk(attack.host.ssh) as disk:

        def probe(qemu: Puppet, page: Target) -> Answer:
            buffer = qemu.memory(PAGE_SIZE)
            with open_file(qemu, disk, os.O_RDWR | os.O_DIRECT) as file, ring_of(qemu) as ring:
                qemu.syscall("pwrite64", file, buffer, PAGE_SIZE, 0).require("clear the disk")
                done = ring.io(WRITE, file, page.hva, PAGE_SIZE).done
                qemu.syscall("pread64", file, buffer, PAGE_SIZE, 0).require("read the disk")
            return Answer(done, qemu.read(buffer, PAGE_SIZE))

        attack.by_qemu("IORING_OP_WRITE(O_DIRECT)", probe)


def test_qemu_cannot_read_a_disk_into_private_page_by_io_uring(attack: Attack) -> None:
    """QEMU cannot have a disk's driver write to a private page of its guest by io_uring (IORING_OP_READ)."""
    with zram_disk(attack.host.ssh) as disk:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with open_file(qemu, disk, os.O_RDWR | os.O_DIRECT) as file, ring_of(qemu) as ring:
                qemu.syscall("pwrite64", file, qemu.memory(PATTERN), PAGE_SIZE, 0).require("fill the disk")
                return Answer(ring.io(READ, file, page.hva, PAGE_SIZE).done, wrote=PATTERN)

        attack.by_qemu("IORING_OP_READ(O_DIRECT)", probe)


def test_qemu_cannot_register_private_page_as_buffer_of_io_uring_to_read(attack: Attack) -> None:
    """QEMU cannot register a private page of its guest as a buffer of io_uring, and have the kernel read it there."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_pipe(qemu) as (out, into), ring_of(qemu) as ring:
            done = ring.register(REGISTER_BUFFERS, qemu.iovec(page.hva, PAGE_SIZE), 1)
            if done.errno is None:
                ring.io(WRITE_FIXED, into, page.hva, PAGE_SIZE).done.require("IORING_OP_WRITE_FIXED")
                ring.register(UNREGISTER_BUFFERS, 0, 0).require("IORING_UNREGISTER_BUFFERS")
            return Answer(done, read_pending(qemu, out, PAGE_SIZE))

    attack.by_qemu("IORING_REGISTER_BUFFERS, IORING_OP_WRITE_FIXED", probe)


def test_qemu_cannot_register_private_page_as_buffer_of_io_uring_to_write(attack: Attack) -> None:
    """QEMU cannot register a private page of its guest as a buffer of io_uring, and have the kernel write to it."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_pipe(qemu) as (out, into), ring_of(qemu) as ring:
            done = ring.register(REGISTER_BUFFERS, qemu.iovec(page.hva, PAGE_SIZE), 1)
            if done.errno is None:
                qemu.syscall("write", into, qemu.memory(PATTERN), PAGE_SIZE).require("fill the pipe")
                ring.io(READ_FIXED, out, page.hva, PAGE_SIZE).done.require("IORING_OP_READ_FIXED")
                ring.register(UNREGISTER_BUFFERS, 0, 0).require("IORING_UNREGISTER_BUFFERS")
            return Answer(done, wrote=PATTERN)

    attack.by_qemu("IORING_REGISTER_BUFFERS, IORING_OP_READ_FIXED", probe)


def test_qemu_cannot_use_private_page_as_submission_queue_of_io_uring(attack: Attack) -> None:
    """QEMU cannot give io_uring a private page of its guest as a queue, whose entries the kernel reads and answers."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        done, ring = ring_at(qemu, page.hva)
        if done.errno is not None:
            return Answer(done)
        with closing(qemu, ring.file):
            # The canary is no valid request. The answer names it by the eight bytes that are the request's user_data.
            return Answer(without_descriptor(done), ring.submit().user_data)

    with pins_let_go(attack.host.ssh):
        attack.by_qemu("io_uring_setup(IORING_SETUP_NO_MMAP)", probe)
