# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU with direct I/O: the block layer takes the page itself, and the disk's driver reads or writes it."""

from __future__ import annotations

import os
import struct

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.steps import open_file
from tests_e2e.support.zram import zram_disk

IOCB = struct.Struct("<QIIHhIQQqQII")  # struct iocb of linux/aio_abi.h
EVENT = struct.Struct("<QQqq")  # struct io_event: data, obj, res, res2
IOCB_CMD_PREAD, IOCB_CMD_PWRITE = 0, 1


def test_qemu_cannot_write_private_page_to_a_disk(attack: Attack) -> None:
    """QEMU cannot have a disk's driver read a private page of its guest, by write() with O_DIRECT."""
    with zram_disk(attack.host.ssh) as disk:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with open_file(qemu, disk, os.O_RDWR | os.O_DIRECT) as file:
                _clear(qemu, file)
                done = qemu.syscall("pwrite64", file, page.hva, PAGE_SIZE, 0)
                return Answer(done, _first_page(qemu, file))

        attack.by_qemu("pwrite(O_DIRECT)", probe)


def test_qemu_cannot_write_up_to_private_page_to_a_disk(attack: Attack) -> None:
    """QEMU cannot take a private page of its guest along in a write() with O_DIRECT that starts in the page before."""
    with zram_disk(attack.host.ssh) as disk:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with open_file(qemu, disk, os.O_RDWR | os.O_DIRECT) as file:
                _clear(qemu, file)
                done = qemu.syscall("pwrite64", file, page.hva - PAGE_SIZE, 2 * PAGE_SIZE, 0)
                return Answer(done, _first_page(qemu, file, pages=2))

        attack.by_qemu("pwrite(O_DIRECT) of two pages", probe)


def test_qemu_cannot_read_a_disk_into_private_page(attack: Attack) -> None:
    """QEMU cannot have a disk's driver write to a private page of its guest, by read() with O_DIRECT."""
    with zram_disk(attack.host.ssh) as disk:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with open_file(qemu, disk, os.O_RDWR | os.O_DIRECT) as file:
                _fill(qemu, file)
                return Answer(qemu.syscall("pread64", file, page.hva, PAGE_SIZE, 0), wrote=PATTERN)

        attack.by_qemu("pread(O_DIRECT)", probe)


def test_qemu_cannot_write_private_page_to_a_disk_by_libaio(attack: Attack) -> None:
    """QEMU cannot have a disk's driver read a private page of its guest by asynchronous I/O (io_submit)."""
    with zram_disk(attack.host.ssh) as disk:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with open_file(qemu, disk, os.O_RDWR | os.O_DIRECT) as file:
                _clear(qemu, file)
                done = _by_libaio(qemu, IOCB_CMD_PWRITE, file, page.hva)
                return Answer(done, _first_page(qemu, file))

        attack.by_qemu("io_submit(IOCB_CMD_PWRITE)", probe)


def test_qemu_cannot_read_a_disk_into_private_page_by_libaio(attack: Attack) -> None:
    """QEMU cannot have a disk's driver write to a private page of its guest by asynchronous I/O (io_submit)."""
    with zram_disk(attack.host.ssh) as disk:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with open_file(qemu, disk, os.O_RDWR | os.O_DIRECT) as file:
                _fill(qemu, file)
                return Answer(_by_libaio(qemu, IOCB_CMD_PREAD, file, page.hva), wrote=PATTERN)

        attack.by_qemu("io_submit(IOCB_CMD_PREAD)", probe)


def _by_libaio(qemu: Puppet, command: int, file: int, address: int) -> Done:
    """One page of asynchronous I/O at the start of a file; how its event says that it ended."""
    place = qemu.memory(8)
    qemu.syscall("io_setup", 1, place).require("io_setup")
    (context,) = struct.unpack("<Q", qemu.read(place, 8))
    iocb = qemu.memory(IOCB.pack(0, 0, 0, command, 0, file, address, PAGE_SIZE, 0, 0, 0, 0))
    event = qemu.memory(EVENT.size)
    qemu.syscall("io_submit", context, 1, qemu.memory(struct.pack("<Q", iocb))).require("io_submit")
    qemu.syscall("io_getevents", context, 1, 1, event, 0).require("io_getevents")
    qemu.syscall("io_destroy", context).require("io_destroy")
    *_, result, _ = EVENT.unpack(qemu.read(event, EVENT.size))
    return Done.of_result(result)


def _clear(qemu: Puppet, file: int) -> None:
    """Two pages of zeros: what the disk holds afterwards came by this probe."""
    qemu.syscall("pwrite64", file, qemu.memory(2 * PAGE_SIZE), 2 * PAGE_SIZE, 0).require("clear the disk")


def _fill(qemu: Puppet, file: int) -> None:
    qemu.syscall("pwrite64", file, qemu.memory(PATTERN), PAGE_SIZE, 0).require("fill the disk")


def _first_page(qemu: Puppet, file: int, pages: int = 1) -> bytes:
    buffer = qemu.memory(pages * PAGE_SIZE)
    qemu.syscall("pread64", file, buffer, pages * PAGE_SIZE, 0).require("read the disk")
    return qemu.read(buffer, pages * PAGE_SIZE)
