# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks made by the guest's own QEMU: what a compromised device model could do."""

from __future__ import annotations

import struct

import pytest

from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer, Attack, Target
from tests_e2e.support.loads import load


@pytest.mark.quick
def test_qemu_cannot_load_from_private_page(attack: Attack) -> None:
    """QEMU itself cannot load from a private page of its guest: the load ends in SIGBUS."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return load(qemu, page.hva)

    attack.by_qemu("rep movsb", probe)


@pytest.mark.quick
def test_qemu_cannot_write_private_page_to_a_pipe(attack: Attack) -> None:
    """QEMU cannot have the kernel copy a private page of its guest into a pipe by write()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        ends = qemu.memory(8)
        qemu.syscall("pipe", ends).require("pipe")
        out, into = struct.unpack("<ii", qemu.read(ends, 8))
        done = qemu.syscall("write", into, page.hva, PAGE_SIZE)
        # A pipe holds what was written, and reading an empty one would wait: close the other end first.
        qemu.syscall("close", into).require("close")
        buffer = qemu.memory(PAGE_SIZE)
        count = qemu.syscall("read", out, buffer, PAGE_SIZE).require("read from the pipe")
        qemu.syscall("close", out).require("close")
        return Answer(done, qemu.read(buffer, count) if count else b"")

    attack.by_qemu("write(pipe)", probe)
