# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU with userfaultfd, by which a process fills, takes and moves the pages of its own mappings."""

from __future__ import annotations

import mmap
import struct

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.steps import IOC_READ, IOC_WRITE, descriptor_of, ioc, ioctl_on

# linux/userfaultfd.h
UFFD_API = 0xAA
UFFDIO_API = ioc(IOC_READ | IOC_WRITE, UFFD_API, 0x3F, 24)
UFFDIO_REGISTER = ioc(IOC_READ | IOC_WRITE, UFFD_API, 0x00, 32)
UFFDIO_UNREGISTER = ioc(IOC_READ, UFFD_API, 0x01, 16)
UFFDIO_COPY = ioc(IOC_READ | IOC_WRITE, UFFD_API, 0x03, 40)
UFFDIO_MOVE = ioc(IOC_READ | IOC_WRITE, UFFD_API, 0x05, 40)
UFFD_FEATURE_MOVE = 1 << 16
REGISTER_MODE_MISSING = 1
REP_MOVSB = bytes.fromhex("f3a4")  # copies rcx bytes from [rsi] to [rdi]


def test_qemu_cannot_fill_private_page_by_userfaultfd(attack: Attack) -> None:
    """QEMU cannot register a private page of its guest with userfaultfd, drop it, and put another one in its place."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with descriptor_of(qemu, "userfaultfd", 0) as file:
            _agree(qemu, file)
            done = _register(qemu, file, page.hva)
            if done.errno is None:
                # A virtual CPU that touches the page in between waits for the copy.
                qemu.syscall("madvise", page.hva, PAGE_SIZE, mmap.MADV_DONTNEED).require("MADV_DONTNEED")
                copy = struct.pack("<QQQQq", page.hva, qemu.memory(PATTERN), PAGE_SIZE, 0, 0)
                ioctl_on(qemu, file, UFFDIO_COPY, copy)[0].require("UFFDIO_COPY")
                _unregister(qemu, file, page.hva)
            return Answer(done, wrote=PATTERN)

    attack.by_qemu("UFFDIO_REGISTER, UFFDIO_COPY", probe)


def test_qemu_cannot_move_private_page_by_userfaultfd(attack: Attack) -> None:
    """QEMU cannot move a private page of its guest to a mapping of its own by UFFDIO_MOVE."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        mine = qemu.memory(PAGE_SIZE)
        with descriptor_of(qemu, "userfaultfd", 0) as file:
            _agree(qemu, file)
            _register(qemu, file, mine).require("UFFDIO_REGISTER")
            done, _ = ioctl_on(qemu, file, UFFDIO_MOVE, struct.pack("<QQQQq", mine, page.hva, PAGE_SIZE, 0, 0))
            _unregister(qemu, file, mine)
        if done.errno is None:
            # The guest goes on with its page, in another place of the host's memory.
            qemu.run(REP_MOVSB, rsi=mine, rdi=page.hva, rcx=PAGE_SIZE)
        return Answer(done, qemu.read(mine, PAGE_SIZE))

    attack.by_qemu("UFFDIO_MOVE", probe)


def test_qemu_cannot_copy_private_page_by_userfaultfd(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest copied to a mapping of its own by UFFDIO_COPY."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        mine = qemu.memory(PAGE_SIZE)
        with descriptor_of(qemu, "userfaultfd", 0) as file:
            _agree(qemu, file, 0)
            _register(qemu, file, mine).require("UFFDIO_REGISTER")
            done, _ = ioctl_on(qemu, file, UFFDIO_COPY, struct.pack("<QQQQq", mine, page.hva, PAGE_SIZE, 0, 0))
            _unregister(qemu, file, mine)
        return Answer(done, qemu.read(mine, PAGE_SIZE))

    attack.by_qemu("UFFDIO_COPY from the page", probe)


def _agree(qemu: Puppet, file: int, features: int = UFFD_FEATURE_MOVE) -> None:
    ioctl_on(qemu, file, UFFDIO_API, struct.pack("<QQQ", UFFD_API, features, 0))[0].require("UFFDIO_API")


def _register(qemu: Puppet, file: int, address: int) -> Done:
    return ioctl_on(qemu, file, UFFDIO_REGISTER, struct.pack("<QQQQ", address, PAGE_SIZE, REGISTER_MODE_MISSING, 0))[0]


def _unregister(qemu: Puppet, file: int, address: int) -> None:
    ioctl_on(qemu, file, UFFDIO_UNREGISTER, struct.pack("<QQ", address, PAGE_SIZE))[0].require("UFFDIO_UNREGISTER")
