# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU on its own VM's memory slots while the guest's CPU runs code that QEMU has given it.

The guest keeps its memory private and not its registers: with those QEMU could not have it run such code. What it does
here an honest guest does of itself: it stores its secrets where its memory is, or was.
"""

from __future__ import annotations

from host_setup.channels.puppets import Done, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Answer, Attack, Target
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.kvm import (
    ALIAS_SLOT,
    KVM_EXIT_MMIO,
    KVM_MEM_READONLY,
    LOAD_16,
    LOAD_16_STORE_16,
    PAST,
    OwnVm,
    by_own_vm,
    load,
    own_vm,
)

STORED = 16  # bytes that LOAD_16_STORE_16 loads, and stores
READ_WRITE, OURS, MOVE = 3, 0x32, 3  # linux/mman.h: private, anonymous, fixed; may move, fixed
ANSWER = b"KVM!"  # what QEMU answers to each load of 4 bytes
# No other claim has a slot there: what was the guest's memory once, KVM gives no other content.
NOBODYS = PAST + (1 << 20)


def test_memory_mapped_over_private_page_gets_nothing_of_the_guest(attack: Attack, steered_host: Host) -> None:
    """QEMU cannot map memory of its own in the place of a private page, for its guest to write its secrets there.

    The guest's CPU has loaded its secret before, and stores it where the private page was.
    """

    def probe(own: OwnVm, page: Target) -> Answer:
        qemu = own.qemu
        with own.code(LOAD_16_STORE_16) as code:
            own.cpu.aim(code, page.gpa, page.gpa)
            own.cpu.run().require("the guest's load")
            place = qemu.memory(PAGE_SIZE)
            qemu.syscall("mremap", page.hva, PAGE_SIZE, PAGE_SIZE, MOVE, place).require("mremap")
            qemu.syscall("mmap", page.hva, PAGE_SIZE, READ_WRITE, OURS, -1, 0).require("mmap")
            done = own.cpu.run()
            answer = load(qemu, page)
            qemu.syscall("mremap", place, PAGE_SIZE, PAGE_SIZE, MOVE, page.hva).require("mremap back")
        return Answer(done, answer.data, cuts=(STORED,))

    by_own_vm(attack, "mmap over the page, KVM_RUN", probe, steered_host)


def test_read_only_alias_does_not_show_private_page(attack: Attack, steered_host: Host) -> None:
    """A read-only second slot over a private page does not show it to code that QEMU has its own guest's CPU run."""

    def probe(own: OwnVm, page: Target) -> Answer:
        with own.code(LOAD_16) as code:
            own.vm.region(ALIAS_SLOT, NOBODYS, PAGE_SIZE, page.hva, KVM_MEM_READONLY).require("the alias")
            own.cpu.aim(code, NOBODYS, 0)
            done = own.cpu.run()
            own.vm.region(ALIAS_SLOT, 0, 0, 0).require("delete the alias")
            return Answer(done, own.cpu.load_result())

    by_own_vm(attack, "KVM_RUN on a read-only alias", probe, steered_host)


def test_guests_store_behind_a_read_only_slot_does_not_reach_qemu(attack: Attack, steered_host: Host) -> None:
    """QEMU does not get what its guest stores in a private page whose slot it has replaced by a read-only one."""
    _store_away(attack, steered_host, "KVM_RUN, slot read-only", KVM_MEM_READONLY)


def test_guests_store_behind_a_deleted_slot_does_not_reach_qemu(attack: Attack, steered_host: Host) -> None:
    """QEMU does not get what its guest stores in a private page whose slot it has deleted."""
    _store_away(attack, steered_host, "KVM_RUN, slot deleted", None)


def _store_away(attack: Attack, steered_host: Host, call: str, flags: int | None) -> None:
    """Have the guest load 16 bytes of the page, and store them there while the slot is another one.

    :param flags: of the slot that takes its place; None: there is none.
    """

    def probe(own: OwnVm, page: Target) -> Answer:
        with own.code(LOAD_16_STORE_16) as code:
            own.cpu.aim(code, page.gpa, page.gpa)
            own.cpu.run().require("the guest's load")
            ram = own.ram(page.gpa, page.hva)
            ram.delete()
            if flags is not None:
                ram.put(flags)
            first, stored = _exits(own, b"")
            if flags is not None:
                ram.delete()
            ram.put()
        return Answer(first, stored)

    by_own_vm(attack, call, probe, steered_host)


def test_guest_loads_nothing_of_qemus_where_its_memory_was(trial: Trial, attack: Attack, steered_host: Host) -> None:
    """QEMU cannot answer what its guest loads from a private page whose slot it has deleted."""
    with attack.puppeteer(steered_host) as puppeteer:
        results = on_each(steered_host.guests, lambda guest: _check_answers(steered_host, puppeteer, guest))
        protected = opted_in(steered_host.guest, results)
    trial.legitimate(*results, protected=protected)


def _check_answers(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    (aimed,) = (aim for aim in Attack.aim(guest, [UNDER_TEST]) if aim.planted.kind == "user")
    page, private = aimed.target, aimed.planted.state == State.PRIVATE
    with own_vm(host, puppeteer, guest) as own, own.code(LOAD_16) as code:
        own.cpu.aim(code, page.gpa, 0)
        ram = own.ram(page.gpa, page.hva)
        ram.delete()
        first, _ = _exits(own, ANSWER)
        ram.put()
        loaded = own.cpu.load_result().count(ANSWER) * len(ANSWER)
    end = first.errno or ("KVM_EXIT_MMIO" if first.returned == KVM_EXIT_MMIO else str(first.returned))
    return [
        Check("how KVM_RUN ends", "EFAULT" if private else "KVM_EXIT_MMIO", end),
        Check("bytes of QEMU's that the guest loads", "0" if private else str(STORED), str(loaded)),
    ]


def _exits(own: OwnVm, answer: bytes) -> tuple[Done, bytes]:
    """Run the code to its end; how the first KVM_RUN ended, and all that the guest has stored in a device.

    :param answer: to each of its loads; empty: it stores.
    """
    stored = b""
    first = done = own.cpu.run()
    while done.returned == KVM_EXIT_MMIO and len(stored) < PAGE_SIZE:
        stored += own.cpu.mmio_data()
        if answer:
            own.cpu.hand_in(answer)
        done = own.cpu.run()
    return first, b"" if answer else stored
