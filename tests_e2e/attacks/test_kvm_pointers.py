# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses that QEMU gives KVM, where KVM then writes on its own account: a table of them.

The guests keep their memory private and not their registers: with those QEMU could set few of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.canaries import Planted
from host_setup.hosts.facts import facts
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Check, State
from signoff.trial import Trial
from tests_e2e.support import nested
from tests_e2e.support.attack import CONTROL, UNDER_TEST, Attack
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.kvm import (
    EVENTS_BYTES,
    KVM_GET_LAPIC,
    KVM_GET_VCPU_EVENTS,
    KVM_SET_GUEST_DEBUG,
    KVM_SET_LAPIC,
    KVM_SET_VCPU_EVENTS,
    KVM_SMI,
    KVM_XEN_HVM_CONFIG,
    LAPIC_BYTES,
    PAUSE,
    OwnVm,
    own_vm,
)

ENABLED = 1
CLEARED = 64  # bytes of a page that the guest clears: a slot for async page faults must be free
CLEAR = bytes.fromhex("66f3ab") + PAUSE  # 16-bit: stores cx times 4 bytes of eax at es:di
VECTOR = 0x50
DEBUG_ONE_STEP, DEBUG_OFF = struct.pack("<II64x", 3, 0), bytes(72)
SMBASE, SAVE_AREA, IN_PAGE = 0x9E, 0xFE00, 0xE00  # its MSR; offset of what KVM saves from it, and in the page
# Hyper-V's: the guest's name, without which there is no hypercall page; that; the reference TSC.
HV_GUEST_OS_ID, HV_HYPERCALL, HV_REFERENCE_TSC = 0x40000000, 0x40000001, 0x40000021
XEN_MSR = 0x40000200  # QEMU's choice, among those that are left to hypervisors
WRMSR = bytes.fromhex("0f30") + PAUSE
# struct kvm_xen_hvm_config: flags, MSR; no pages of QEMU's own; KVM carries out the hypercalls
XEN_CONFIG, XEN_INTERCEPTS = struct.Struct("<II48x"), 2
XEN_CONFIG_OF_PAGES = struct.Struct("<IIQQBB30x")  # the same with pages of QEMU's: where, for 32 and 64 bits; how many

Step = Callable[[OwnVm, int], None]


@dataclass(frozen=True, slots=True)
class Row:
    """An address of QEMU's choice.

    :ivar give: gives it to KVM, and has that write there; to take it back is its own business. :ivar shared: whether a
        page that the guest has shared is written, too. :ivar cleared: the guest clears the start of the page before.
    :ivar kernels: the releases that write at all, if not each; others write no page, the plain guest's neither.
    :ivar feature: of the host's processor, without which there is no such address.
    """

    name: str
    give: Step
    shared: bool = True
    cleared: bool = False
    kernels: str = ""
    feature: str = ""


def _msr(number: int, flags: int = 0, *before: tuple[int, int]) -> Step:
    """Set other MSRs, then one to the address, run, and put all of them back."""

    def give(own: OwnVm, gpa: int) -> None:
        values = (*before, (number, gpa | flags))
        were = [(each, own.cpu.msr(each)) for each, _ in values]
        for each, value in values:
            own.cpu.set_msr(each, value)
        _run(own)
        for each, value in reversed(were):
            own.cpu.set_msr(each, value)

    return give


def _run(own: OwnVm) -> None:
    with own.code(PAUSE) as code:
        own.cpu.aim(code, 0, 0)
        own.cpu.run()


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


def _xen(ask: Step) -> Step:
    """Have a page filled with Xen's hypercalls, which an MSR asks for while QEMU has KVM be Xen."""

    def give(own: OwnVm, gpa: int) -> None:
        own.vm.put(KVM_XEN_HVM_CONFIG, XEN_CONFIG.pack(XEN_INTERCEPTS, XEN_MSR))
        ask(own, gpa)
        own.vm.set(KVM_XEN_HVM_CONFIG, XEN_CONFIG.pack(0, 0))

    return give


def _xens_page_of_qemus(own: OwnVm, gpa: int) -> None:
    """The same with a page of QEMU's own, zeros, which KVM copies there."""
    page = own.qemu.memory(PAGE_SIZE)
    own.vm.put(KVM_XEN_HVM_CONFIG, XEN_CONFIG_OF_PAGES.pack(0, XEN_MSR, page, page, 1, 1))
    _write_xens_msr(own, gpa)
    own.vm.set(KVM_XEN_HVM_CONFIG, XEN_CONFIG.pack(0, 0))


def _set_xens_msr(own: OwnVm, gpa: int) -> None:
    own.cpu.set_msr(XEN_MSR, gpa)


def _write_xens_msr(own: OwnVm, gpa: int) -> None:
    """By an instruction of the guest, which KVM may answer with #GP."""
    with own.code(WRMSR) as code:
        own.cpu.aim(code, 0, 0, rcx=XEN_MSR, rax=gpa & 0xFFFFFFFF, rdx=gpa >> 32)
        own.cpu.take_handlers_away()
        own.cpu.run()


def _exit_nested(own: OwnVm, gpa: int) -> None:
    """What a nested guest leaves in its control block when it ends."""
    with own.code(nested.code_page(nested.VMMCALL)) as code:
        own.cpu.aim(code, 0, 0, efer=nested.EFER_SVME)
        if nested.put_state(own, gpa, nested.hypervisor_block()):
            own.cpu.run()
        nested.leave(own)


ROWS = (
    Row("wall clock", _msr(0x4B564D00)),
    Row("wall clock, the old MSR", _msr(0x11)),
    Row("clock", _msr(0x4B564D01, ENABLED)),
    Row("clock, the old MSR", _msr(0x12, ENABLED)),
    Row("steal time", _msr(0x4B564D03, ENABLED)),
    Row("async page faults", _msr(0x4B564D02, ENABLED | 8, (0x4B564D06, VECTOR)), cleared=True),
    Row("Hyper-V's hypercall page", _msr(HV_HYPERCALL, ENABLED, (HV_GUEST_OS_ID, 1)), shared=False),
    Row("Hyper-V's reference TSC", _msr(HV_REFERENCE_TSC, ENABLED), shared=False),
    # Linux 6.15 leaves it to the guest's own instruction (arch/x86/kvm/x86.c kvm_set_msr_common(), later in msrs.c).
    Row("Xen's hypercall page, by QEMU", _xen(_set_xens_msr), shared=False, kernels="<6.15"),
    Row("Xen's hypercall page, by the guest", _xen(_write_xens_msr)),
    Row("Xen's hypercall page of QEMU's, by the guest", _xens_page_of_qemus),
    Row("system management: the state saved", _system_management, shared=False),
    Row("nested guest: its control block", _exit_nested, shared=False, feature="svm"),
)


def test_kvm_writes_to_no_private_page_at_an_address_of_qemus(trial: Trial, steered_host: Host) -> None:
    """QEMU cannot have KVM write to a private page by the addresses that it gives KVM: a table of them."""
    with Attack.puppeteer(steered_host) as puppeteer:
        features = facts(steered_host.ssh)["features"].split(", ")
        if left_out := [row for row in ROWS if row.feature and row.feature not in features]:
            lines = (f"{row.name}: the host's processor has no {row.feature}\n" for row in left_out)
            trial.attach("left-out.txt", "".join(lines))
        rows = [(row, not row.kernels or trial.kernel_fits(row.kernels)) for row in ROWS if row not in left_out]
        results = on_each(steered_host.guests, lambda guest: _table(steered_host, puppeteer, guest, rows))
    trial.legitimate(*results, protected=opted_in(steered_host.guest, results))


def _table(host: Host, puppeteer: Puppeteer, guest: Guest, rows: Sequence[tuple[Row, bool]]) -> list[Check]:
    return [check for row, writes in rows for check in _try_row(host, puppeteer, guest, row, writes=writes)]


def _try_row(host: Host, puppeteer: Puppeteer, guest: Guest, row: Row, *, writes: bool) -> list[Check]:
    """One row on fresh canaries, one private and one not.

    :param writes: whether the host's kernel writes by it at all.
    """
    pages = [aim for aim in Attack.aim(guest, (UNDER_TEST, CONTROL)) if aim.planted.kind == "user"]
    with own_vm(host, puppeteer, guest) as own:
        apic, events = own.cpu.get(KVM_GET_LAPIC, LAPIC_BYTES), own.cpu.get(KVM_GET_VCPU_EVENTS, EVENTS_BYTES)
        for page in pages:
            if row.cleared:
                _clear(own, page.target.gpa)
            row.give(own, page.target.gpa)
            # Some rows leave an interrupt in one of the two, one of them system management mode.
            own.cpu.set(KVM_SET_LAPIC, apic)
            own.cpu.set(KVM_SET_VCPU_EVENTS, events)
    after = guest.canaries.read([page.planted for page in pages])
    return [_judge_row(row, page.planted, content, writes=writes) for page, content in zip(pages, after, strict=True)]


def _clear(own: OwnVm, gpa: int) -> None:
    with own.code(CLEAR) as code:
        own.cpu.aim(code, 0, gpa, rcx=CLEARED // 4)
        own.cpu.run().require("the guest's clearing")


def _judge_row(row: Row, planted: Planted, content: bytes, *, writes: bool) -> Check:
    start = bytes(CLEARED) if row.cleared else planted.content[:CLEARED]
    written = writes and (planted.state == State.PLAIN or (planted.state == State.SHARED and row.shared))
    actual = "intact" if content == start + planted.content[CLEARED:] else "written"
    return Check(f"{row.name}, the {planted.state} page", "written" if written else "intact", actual)
