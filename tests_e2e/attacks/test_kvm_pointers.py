# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses that QEMU gives KVM, where KVM then writes on its own account: a table of them all.

The guests keep their memory private and not their registers: with those QEMU could set few of them. The Hyper-V and
Xen interfaces are not the guest's, but whoever has the VM's file can switch them on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest, Planted
from host_setup.hosts.pool import HostPool
from signoff.observation import Check, State
from signoff.trial import Trial
from tests_e2e.support import nested
from tests_e2e.support.attack import CONTROL, UNDER_TEST, Attack
from tests_e2e.support.extra import open_registers, standing
from tests_e2e.support.kvm import (
    EVENTS_BYTES,
    KVM_GET_LAPIC,
    KVM_GET_VCPU_EVENTS,
    KVM_SET_GUEST_DEBUG,
    KVM_SET_LAPIC,
    KVM_SET_VCPU_EVENTS,
    KVM_SIGNAL_MSI,
    KVM_SMI,
    LAPIC_BYTES,
    PAUSE,
    OwnVm,
    own_vm,
)

ENABLED = 1
CLEARED = 64  # bytes of a page that the guest clears: a slot for async page faults must be free
CLEAR = bytes.fromhex("66f3ab") + PAUSE  # 16-bit: stores cx times 4 bytes of eax at es:di
MSI, VECTOR = struct.Struct("<QII16x"), 0x50
END_OF_INTERRUPT = 0x4B564D04  # its MSR
IN_SERVICE_AND_REQUESTED, TIMER_MASK = slice(0x100, 0x280), 0x322  # in the local APIC's registers; a byte's lowest bit
FIRST_CPU, INTERRUPTS_ON = 0xFEE00000, 0x202
DEBUG_ONE_STEP, DEBUG_OFF = struct.pack("<II64x", 3, 0), bytes(72)
SMBASE, SAVE_AREA, IN_PAGE = 0x9E, 0xFE00, 0xE00  # its MSR; offset of what KVM saves from it, and in the page
XEN_CONFIG, XEN_SET_ATTR, XEN_VCPU_SET_ATTR = 0x4038AE7A, 0x4048AEC9, 0x4048AECB
XEN_MSR, XEN_INTERCEPT, XEN_NOWHERE = 0x40000200, 2, (1 << 64) - 1
XEN_LONG_MODE, XEN_SHARED_INFO, XEN_VCPU_INFO = 0, 1, 0  # KVM_XEN_ATTR_TYPE_..., KVM_XEN_VCPU_ATTR_TYPE_...
ATTR = struct.Struct("<HHHHQ56x")  # struct kvm_xen_hvm_attr and kvm_xen_vcpu_attr
HV_OS, HV_HYPERCALL, HV_TSC, HV_ASSIST = 0x40000000, 0x40000001, 0x40000021, 0x40000073
HV_SCONTROL, HV_MESSAGES, HV_SINT0, HV_TIMER, HV_TIMER_COUNT = (
    0x40000080,
    0x40000083,
    0x40000090,
    0x400000B0,
    0x400000B1,
)

Step = Callable[[OwnVm, int], None]


@dataclass(frozen=True, slots=True)
class Row:
    """An address of QEMU's choice.

    :ivar give: gives it to KVM, and has that write there; to take it back is its own business. :ivar shared: whether a
        page that the guest has shared is written, too. :ivar cleared: the guest clears the start of the page before.
    """

    name: str
    give: Step
    shared: bool = True
    cleared: bool = False


def _msr(number: int, flags: int = 0, *before: tuple[int, int]) -> Step:
    """Set other MSRs, then one to the address, run, and put all of them back."""

    def give(own: OwnVm, gpa: int) -> None:
        put = (*before, (number, gpa | flags))
        were = [(each, own.cpu.msr(each)) for each, _ in put]
        for each, value in put:
            own.cpu.set_msr(each, value)
        _run(own)
        for each, value in reversed(were):
            own.cpu.set_msr(each, value)

    return give


def _run(own: OwnVm) -> None:
    with own.code(PAUSE) as code:
        own.cpu.aim(code, 0, 0)
        own.cpu.run()


def _end_of_interrupt(own: OwnVm, gpa: int) -> None:
    """An interrupt that the CPU takes, no other behind it: KVM says in the area that nobody need hear of its end."""
    before, apic = own.cpu.msr(END_OF_INTERRUPT), bytearray(own.cpu.get(KVM_GET_LAPIC, LAPIC_BYTES))
    apic[IN_SERVICE_AND_REQUESTED] = bytes(len(apic[IN_SERVICE_AND_REQUESTED]))
    apic[TIMER_MASK] |= 1
    own.cpu.set(KVM_SET_LAPIC, bytes(apic))
    own.cpu.set_msr(END_OF_INTERRUPT, gpa | ENABLED)
    own.vm.put(KVM_SIGNAL_MSI, MSI.pack(FIRST_CPU, VECTOR, 0))
    with own.code(PAUSE) as code:
        own.cpu.aim(code, 0, 0, rflags=INTERRUPTS_ON)
        own.cpu.run()
    own.cpu.set_msr(END_OF_INTERRUPT, before)


def _system_management(own: OwnVm, gpa: int) -> None:
    """The state that KVM saves when the CPU enters system management mode; it makes one step there."""
    before = own.cpu.msr(SMBASE)
    with own.code(PAUSE) as code:
        own.cpu.aim(code, 0, 0)
        own.cpu.set_msr(SMBASE, gpa + IN_PAGE - SAVE_AREA)
        own.cpu.put(KVM_SET_GUEST_DEBUG, DEBUG_ONE_STEP)
        own.cpu.process.syscall("ioctl", own.cpu.fd, KVM_SMI, 0)
        if own.cpu.msr(SMBASE) == gpa + IN_PAGE - SAVE_AREA:
            own.cpu.run()
        own.cpu.get(KVM_GET_VCPU_EVENTS, EVENTS_BYTES)  # if it is still asked for, it becomes an event
    own.cpu.put(KVM_SET_GUEST_DEBUG, DEBUG_OFF)
    own.cpu.set_msr(SMBASE, before)


def _nested_exit(own: OwnVm, gpa: int) -> None:
    """What a nested guest leaves in its control block when it ends."""
    with own.code(nested.code_page(nested.VMMCALL)) as code:
        own.cpu.aim(code, 0, 0, efer=nested.EFER_SVME)
        if nested.put_state(own, gpa, nested.hypervisor_block()):
            own.cpu.run()
        nested.leave(own)


def _hypercall_page(own: OwnVm, gpa: int) -> None:
    _msr(HV_HYPERCALL, ENABLED, (HV_OS, 1))(own, gpa)


def _xen_hypercall_page(own: OwnVm, gpa: int) -> None:
    own.vm.put(XEN_CONFIG, struct.pack("<II48x", XEN_INTERCEPT, XEN_MSR))
    own.cpu.set_msr(XEN_MSR, gpa)
    own.vm.put(XEN_CONFIG, bytes(56))


def _xen_area(request: int, kind: int, *, of_cpu: bool) -> Step:
    def give(own: OwnVm, gpa: int) -> None:
        own.vm.put(XEN_CONFIG, struct.pack("<II48x", XEN_INTERCEPT, XEN_MSR))
        file = own.cpu if of_cpu else own.vm
        file.put(request, ATTR.pack(kind, 0, 0, 0, gpa if of_cpu else gpa >> 12))
        _run(own)
        file.put(request, ATTR.pack(kind, 0, 0, 0, XEN_NOWHERE))
        own.vm.put(XEN_CONFIG, bytes(56))

    return give


ROWS = (
    Row("wall clock", _msr(0x4B564D00)),
    Row("wall clock, the old MSR", _msr(0x11)),
    Row("clock", _msr(0x4B564D01, ENABLED)),
    Row("clock, the old MSR", _msr(0x12, ENABLED)),
    Row("steal time", _msr(0x4B564D03, ENABLED)),
    Row("async page faults", _msr(0x4B564D02, ENABLED | 8, (0x4B564D06, VECTOR)), cleared=True),
    Row("end of interrupt", _end_of_interrupt),
    Row("system management: the state saved", _system_management, shared=False),
    Row("nested guest: its control block", _nested_exit, shared=False),
    Row("Hyper-V: hypercall page", _hypercall_page),
    Row("Hyper-V: assist page", _msr(HV_ASSIST, ENABLED)),
    Row("Hyper-V: reference clock", _msr(HV_TSC, ENABLED, (HV_OS, 1))),
    Row("Xen: hypercall page", _xen_hypercall_page),
    Row("Xen: shared info", _xen_area(XEN_SET_ATTR, XEN_SHARED_INFO, of_cpu=False)),
    Row("Xen: info of the CPU", _xen_area(XEN_VCPU_SET_ATTR, XEN_VCPU_INFO, of_cpu=True)),
)


@pytest.fixture(scope="module")
def steered(pool: HostPool) -> Iterator[Host]:
    """Guests whose registers QEMU may set."""
    with standing(pool, open_registers) as guests:
        yield guests


def test_kvm_writes_to_no_private_page_at_an_address_of_qemus(claim: Trial, steered: Host) -> None:
    """QEMU cannot have KVM write to a private page by any address that it gives KVM: the table of them."""
    with Attack.puppeteer(steered) as puppeteer:
        found = [_table(steered, puppeteer, guest) for guest in steered.guests]
    claim.legitimate(*found, protected=steered.guest.protected if len(found) > 1 else None)


def _table(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    sets = (UNDER_TEST, CONTROL)
    return [check for row in ROWS for check in _tried(host, puppeteer, guest, row, sets)]


def _tried(host: Host, puppeteer: Puppeteer, guest: Guest, row: Row, sets: tuple[str, ...]) -> list[Check]:
    """One row on fresh canaries, one private and one not."""
    pages = [one for one in Attack.aim(guest, sets) if one.planted.kind == "user"]
    with own_vm(host, puppeteer, guest) as own:
        apic, events = own.cpu.get(KVM_GET_LAPIC, LAPIC_BYTES), own.cpu.get(KVM_GET_VCPU_EVENTS, EVENTS_BYTES)
        for page in pages:
            if row.cleared:
                _clear(own, page.target.gpa)
            row.give(own, page.target.gpa)
            # Some rows leave an interrupt in one of the two, one of them system management mode.
            own.cpu.set(KVM_SET_LAPIC, apic)
            own.cpu.set(KVM_SET_VCPU_EVENTS, events)
    after = guest.read([page.planted for page in pages])
    return [_judged(row, page.planted, found) for page, found in zip(pages, after, strict=True)]


def _clear(own: OwnVm, gpa: int) -> None:
    with own.code(CLEAR) as code:
        own.cpu.aim(code, 0, gpa, rcx=CLEARED // 4)
        own.cpu.run().require("the guest's clearing")


def _judged(row: Row, planted: Planted, found: bytes) -> Check:
    start = bytes(CLEARED) if row.cleared else planted.content[:CLEARED]
    written = planted.state == State.PLAIN or (planted.state == State.SHARED and row.shared)
    got = "intact" if found == start + planted.content[CLEARED:] else "written"
    return Check(f"{row.name}, the {planted.state} page", "written" if written else "intact", got)
