# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU on its own VM's CPU: state whose setting makes KVM read or write the guest's memory.

The guest is stopped meanwhile, and its CPU goes on where it was.
"""

from __future__ import annotations

from host_setup.channels.puppets import Done, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Attack, Got, Target
from tests_e2e.support.kvm import (
    LOAD_16,
    MSR_KVM_STEAL_TIME,
    MSR_KVM_SYSTEM_TIME_NEW,
    MSR_KVM_WALL_CLOCK_NEW,
    PAUSE,
    OwnVm,
    by_own_vm,
    load,
    own_vm,
)

ENABLED = 1  # lowest bit of the paravirtual MSRs that hold an address
WALL_CLOCK, CLOCK, STEAL_TIME = 12, 32, 64  # bytes that KVM writes: asm/pvclock-abi.h, asm/kvm_para.h
TABLE = 32  # bytes: four page directory pointers


def found(own: OwnVm, page: Target, size: int) -> bytes:
    """What KVM has put into the page, as far as QEMU can tell: it cannot foresee it, and looks."""
    return load(own.qemu, page).data[:size]


def test_kvm_cannot_be_made_to_write_the_wall_clock_into_private_page(attack: Attack) -> None:
    """QEMU cannot have KVM write the wall clock over a private page, by setting the CPU's MSR for it."""

    def probe(own: OwnVm, page: Target) -> Got:
        before = own.cpu.msr(MSR_KVM_WALL_CLOCK_NEW)
        done = own.cpu.set_msr(MSR_KVM_WALL_CLOCK_NEW, page.gpa)
        wrote = found(own, page, WALL_CLOCK)
        own.cpu.set_msr(MSR_KVM_WALL_CLOCK_NEW, before).require("set the wall clock's MSR back")
        return Got(done, wrote=wrote)

    by_own_vm(attack, "KVM_SET_MSRS(wall clock)", probe)


def test_kvm_cannot_be_made_to_write_the_clock_into_private_page(attack: Attack) -> None:
    """QEMU cannot have KVM write the guest's clock over a private page, by setting the CPU's MSR for it."""
    by_own_vm(attack, "KVM_RUN, clock", lambda own, page: written(own, page, MSR_KVM_SYSTEM_TIME_NEW, CLOCK))


def test_kvm_cannot_be_made_to_write_steal_time_into_private_page(attack: Attack) -> None:
    """QEMU cannot have KVM write the steal time over a private page, by setting the CPU's MSR for it."""
    by_own_vm(attack, "KVM_RUN, steal time", lambda own, page: written(own, page, MSR_KVM_STEAL_TIME, STEAL_TIME))


def written(own: OwnVm, page: Target, msr: int, size: int) -> Got:
    """Have KVM write what belongs to an MSR, which it does before the CPU runs."""
    before = own.cpu.msr(msr)
    with own.code(PAUSE) as code:
        own.cpu.set_msr(msr, page.gpa | ENABLED).require("set the MSR")
        own.cpu.aim(code, 0, 0)
        done = own.cpu.run()
        own.cpu.set_msr(msr, before).require("set the MSR back")
        return Got(done, wrote=found(own, page, size))


def test_kvm_does_not_tell_page_directory_pointers_of_a_protected_guest(claim: Trial, host: Host) -> None:
    """KVM does not tell the page directory pointers of a protected guest: they are memory that QEMU can choose.

    KVM takes four entries of 8 bytes if none of them has a bit that it must not have, which an entry without its
    lowest bit may: so of random bytes one table in 16 is taken as it is. The first that is taken ends the probe.
    """
    with Attack.puppeteer(host) as puppeteer:
        found = [_pointers_told(host, puppeteer, guest) for guest in host.guests]
    if len(found) == 1:
        claim.legitimate(found[0])
    else:
        claim.legitimate(*found, protected=host.guest.protected)


def _pointers_told(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """What KVM_GET_SREGS2 does while CR3 leads to the guest's canary, and how much of that it tells."""
    (aimed,) = (one for one in Attack.aim(guest, [UNDER_TEST]) if one.planted.kind == "user")
    page, private = aimed.target, aimed.planted.state == State.PRIVATE
    with own_vm(host, puppeteer, guest) as own, own.code(bytes(TABLE)) as empty:
        own.cpu.aim(empty, 0, 0)
        tables = (empty, *range(page.gpa, page.gpa + PAGE_SIZE, TABLE))
        told: list[tuple[Done, bytes]] = []
        for done, pointers in own.cpu.page_directory_pointers(tables):
            told.append((done, pointers))
            if any(pointers):
                break
    ends = {done.errno or "done" for done, _ in told}
    most = max(Canary(aimed.planted.content).leaked(data) for _, data in told)
    return [
        Check("how it ends", "EOPNOTSUPP" if private else "done", ", ".join(sorted(ends))),
        Check("bytes of the page that it tells", "0" if private else str(TABLE), str(most)),
    ]


def test_qemu_can_have_its_guest_load_a_private_page(attack: Attack) -> None:
    """QEMU can give its guest's CPU registers and code of its own, which loads a private page into registers."""

    def probe(own: OwnVm, page: Target) -> Got:
        with own.code(LOAD_16) as code:
            own.cpu.aim(code, page.gpa, 0)
            return Got(own.cpu.run(), own.cpu.loaded())

    by_own_vm(attack, "KVM_SET_REGS, KVM_RUN, KVM_GET_REGS", probe)
