# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by a second VM in the guest's QEMU: its memory is the guest's, and its code copies the page.

The second VM has two pages of its own at 0, code and then a buffer, and the guest's page at ``THEIRS``.
"""

from __future__ import annotations

from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.children import CLONE_VM, child_of
from tests_e2e.support.kvm import COPY, EMULATED_COPY, KVM_MEM_READONLY, WORDS, second_vm

CODE, OURS, THEIRS = 0x0000, 0x1000, 0x10000  # guest-physical addresses in the second VM


def read_by_a_vm(process: Puppet, page: Target, code: bytes = COPY, flags: int = 0, before: int = 0) -> Answer:
    """Have a second VM copy the page, and so many bytes before it, into memory of its own."""
    size = before + PAGE_SIZE
    ours = process.memory(code.ljust(PAGE_SIZE, b"\0") + bytes(size))
    with second_vm(process) as (vm, cpu):
        vm.region(0, CODE, PAGE_SIZE + size, ours).require("the region of code and buffer")
        vm.region(1, THEIRS, size, page.hva - before, flags).require("the region of the page")
        cpu.aim(CODE, THEIRS, OURS, rcx=size // 4)
        done = cpu.run()
    return Answer(done, process.read(ours + PAGE_SIZE, size))


def test_second_vm_cannot_read_private_page(attack: Attack) -> None:
    """A second VM that QEMU makes over its guest's memory cannot read a private page."""
    attack.by_qemu("KVM_RUN of a second VM", read_by_a_vm)


def test_second_vm_of_another_process_cannot_read_private_page(attack: Attack) -> None:
    """A second VM over QEMU's memory cannot read a private page either when another process makes it (CLONE_VM)."""
    with attack.puppeteer(attack.host) as children:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with child_of(qemu, children, CLONE_VM) as child:
                return read_by_a_vm(child, page)

        attack.by_qemu("clone(CLONE_VM), KVM_RUN of a second VM", probe)


def test_second_vm_cannot_write_private_page(attack: Attack) -> None:
    """A second VM that QEMU makes over its guest's memory cannot overwrite a private page."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        ours = qemu.memory(COPY.ljust(PAGE_SIZE, b"\0") + PATTERN)
        with second_vm(qemu) as (vm, cpu):
            vm.region(0, CODE, 2 * PAGE_SIZE, ours).require("the region of code and buffer")
            vm.region(1, THEIRS, PAGE_SIZE, page.hva).require("the region of the page")
            cpu.aim(CODE, OURS, THEIRS, rcx=WORDS)
            return Answer(cpu.run(), wrote=PATTERN)

    attack.by_qemu("KVM_RUN of a second VM, writing", probe)


def test_second_vm_cannot_read_private_page_in_a_read_only_region(attack: Attack) -> None:
    """A second VM cannot read a private page in a region that is read-only, which is the VMM's by definition."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return read_by_a_vm(qemu, page, flags=KVM_MEM_READONLY)

    attack.by_qemu("KVM_RUN of a second VM, read-only region", probe)


def test_second_vm_cannot_read_private_page_by_emulation(attack: Attack) -> None:
    """A second VM cannot have KVM's emulator read a private page for it."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return read_by_a_vm(qemu, page, code=EMULATED_COPY)

    attack.by_qemu("KVM_RUN of a second VM, emulated", probe)


def test_second_vm_cannot_run_on_from_shared_into_private_page(attack: Attack) -> None:
    """A second VM that copies from a shared page on into the private one behind it gets the shared page alone."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return read_by_a_vm(qemu, page, before=PAGE_SIZE)

    attack.by_qemu("KVM_RUN of a second VM, two pages", probe)
