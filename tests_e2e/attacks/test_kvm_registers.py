# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU on the registers of its own VM's CPU: it gets none of them, and changes none.

A program of the guest works with its canary in registers meanwhile, and looks afterwards whether they are what it had
put there. QEMU's ways of asking are those of the unmodified one, so KVM answers them, with what is no secret.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.direct_map import GUEST_PAGE_OFFSET
from tests_e2e.support.each import attempt, on_each, result_of
from tests_e2e.support.gdb import Gdb
from tests_e2e.support.kprobes import Event, events
from tests_e2e.support.kvm import (
    EVENTS_BYTES,
    KVM_EXIT_DEBUG,
    KVM_GET_LAPIC,
    KVM_GET_MP_STATE,
    KVM_GET_VCPU_EVENTS,
    KVM_NMI,
    KVM_SET_GUEST_DEBUG,
    KVM_SET_LAPIC,
    KVM_SIGNAL_MSI,
    KVM_SMI,
    LAPIC_BYTES,
    LOAD_16,
    MP_STATE_BYTES,
    R8_TO_R15,
    OwnVm,
    own_vm,
    vm_in_hand,
)
from tests_e2e.support.registers import (
    GENERAL,
    HOLDS,
    VECTORS,
    AtWork,
    change_checks,
    judge_each,
    look_checks,
    user_canary,
)
from tests_e2e.support.tiny_vm import run, tiny_vm_works

OURS = bytes(range(1, 65)), bytes(range(256))  # what QEMU puts into r8 to r15, into xmm0 to xmm15
MSR_LSTAR, MSR_GS_BASE, MSR_KERNEL_GS_BASE = 0xC0000082, 0xC0000101, 0xC0000102
PAGING, LONG_MODE = 1 << 31, 1 << 10  # bits of CR0 and EFER
DEBUG = struct.Struct("<II64x")  # struct kvm_guest_debug
DEBUG_ENABLE, DEBUG_SINGLE_STEP = 1, 2
# struct kvm_msi: to the first CPU, edge, asserted.
MSI, INIT_FOR_FIRST = struct.Struct("<QII16x"), (0xFEE00000, 0x4500, 0)
RESET_RIP, NMI_PENDING_AT, SMI_PENDING_AT = 0xFFF0, 13, 25  # the latter two in struct kvm_vcpu_events
LOADED = 16  # bytes that LOAD_16 loads
GDB_PORT, SECONDS = 1234, 10.0
FORGETS, TIMEOUT = "kvm_pmu_forget", 20.0  # arch/x86/kvm/pmu.c of the series

Way = Callable[[OwnVm], bytes]


def test_qemu_cannot_read_its_guests_registers_by_get_regs(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read what its guest has in general registers by KVM_GET_REGS."""
    _judge_look(trial, attack, lambda own: own.cpu.general_registers()[R8_TO_R15], GENERAL)


def test_qemu_cannot_read_its_guests_registers_by_get_fpu(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read what its guest has in vector registers by KVM_GET_FPU."""
    _judge_look(trial, attack, lambda own: own.cpu.xmm(), VECTORS)


def test_qemu_cannot_read_its_guests_registers_by_get_xsave(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read what its guest has in vector registers by KVM_GET_XSAVE."""
    _judge_look(trial, attack, lambda own: own.cpu.xmm_by_xsave(), VECTORS)


def test_qemu_cannot_read_its_guests_registers_by_sync_regs(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read what its guest has in general registers where KVM_RUN leaves them (KVM_SYNC_X86_REGS)."""
    _judge_look(trial, attack, lambda own: own.cpu.registers_by_sync()[R8_TO_R15], GENERAL)


def test_qemu_cannot_read_its_guests_control_registers(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read where its guest's page tables begin, nor how it has set its CPU, by KVM_GET_SREGS."""

    def look(own: OwnVm, _: Guest) -> list[Check]:
        cr0, cr3, efer = own.cpu.control_registers()
        states = ("paging" if cr0 & PAGING else "no paging", "64 bits" if efer & LONG_MODE else "no 64 bits")
        return [
            Check("what KVM_GET_SREGS says of CR0 and EFER", "paging, 64 bits", ", ".join(states)),
            Check("CR3 leads to a table", "True", str(cr3 != 0)),
        ]

    _state_told(trial, attack, look)


def test_qemu_cannot_read_its_guests_model_specific_registers(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read the addresses that its guest has in model-specific registers by KVM_GET_MSRS."""

    def look(own: OwnVm, _: Guest) -> list[Check]:
        bases = own.cpu.msr(MSR_GS_BASE) | own.cpu.msr(MSR_KERNEL_GS_BASE)
        return [
            Check("LSTAR tells where the guest's kernel is", "True", str(own.cpu.msr(MSR_LSTAR) != 0)),
            Check("the base of GS is told", "True", str(bases != 0)),
        ]

    _state_told(trial, attack, look)


def _state_told(trial: Trial, attack: Attack, look: Callable[[OwnVm, Guest], list[Check]]) -> None:
    """Have it judged what each guest's CPU tells.

    :param look: each of its checks expects what a guest without private registers must show.
    """
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def checks_of(guest: Guest) -> list[Check]:
            with own_vm(host, puppeteer, guest) as own:
                checks = look(own, guest)
            return [_without_content(check) if guest.protected else check for check in checks]

        results = on_each(host.guests, checks_of)
    judge_each(trial, host, results)


HIDDEN = {"paging, 64 bits": "no paging, no 64 bits", "True": "False"}


def _without_content(check: Check) -> Check:
    return Check(check.name, HIDDEN[check.expected], check.got)


def test_qemu_cannot_read_its_guests_debug_registers(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read by KVM_GET_DEBUGREGS which address a program of its guest has put into a debug register."""
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def look(guest: Guest) -> list[Check]:
            aimed, addresses = user_canary(guest), set[int]()
            with guest.canaries.holding(aimed.planted, seconds=HOLDS) as holding:
                while not holding.done():
                    with own_vm(host, puppeteer, guest) as own:
                        addresses.update(own.cpu.debug_addresses())
            of_guest = holding.result()
            private = aimed.planted.state == State.PRIVATE
            return [
                Check("the program has a breakpoint", "True", str(of_guest["watched"])),
                Check("its address is told", str(not private), str(of_guest["address"] in addresses)),
            ]

        results = on_each(host.guests, look)
    judge_each(trial, host, results)


def test_qemu_cannot_read_events_of_its_guests_cpu(trial: Trial, attack: Attack) -> None:
    """QEMU cannot read by KVM_GET_VCPU_EVENTS which events wait for its guest's CPU, an NMI of its own among them."""
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:  # the guest may complain of the NMI

        def look(guest: Guest) -> list[Check]:
            with own_vm(host, puppeteer, guest) as own:
                own.cpu.process.syscall("ioctl", own.cpu.fd, KVM_NMI, 0).require("KVM_NMI")
                waits = own.cpu.get(KVM_GET_VCPU_EVENTS, EVENTS_BYTES)[NMI_PENDING_AT] > 0
            return [Check("the NMI that waits is told", str(not guest.protected), str(waits))]

        results = on_each(host.guests, look)
        judge_each(trial, host, results)


def test_monitor_does_not_show_registers_of_the_guest(trial: Trial, attack: Attack) -> None:
    """QEMU's monitor does not show what the guest has in registers (info registers)."""

    def look(guest: Guest) -> bytes:
        guest.qmp.execute("stop")
        try:
            answer = guest.qmp.monitor("info registers")
        finally:
            guest.qmp.execute("cont")
        words = dict(re.findall(r"\b(R8 |R9 |R1[0-5])=([0-9a-f]{16})", answer))
        if not words and "EIP=" in answer:  # it takes the CPU for one in real mode, which has no such registers
            return b""
        return b"".join(int(words[f"R{number}".ljust(3)], 16).to_bytes(8, "little") for number in range(8, 16))

    judge_each(trial, attack.host, on_each(attack.host.guests, lambda guest: look_checks(guest, look, GENERAL)))


def test_debugger_does_not_get_registers_of_the_guest(trial: Trial, attack: Attack) -> None:
    """A debugger at QEMU's gdb stub does not get what the guest has in registers."""
    host = attack.host

    def look(guest: Guest) -> bytes:
        guest.qmp.monitor(f"gdbserver tcp:127.0.0.1:{GDB_PORT}")
        stream = host.ssh.jump("127.0.0.1", GDB_PORT, seconds=SECONDS)
        stream.settimeout(SECONDS)
        try:
            gdb = Gdb(stream)
            registers = bytes.fromhex(gdb.ask("g"))
            gdb.require_ok("D")
        finally:
            stream.close()
        guest.qmp.monitor("gdbserver none")
        return registers[R8_TO_R15]

    judge_each(trial, host, on_each(host.guests, lambda guest: look_checks(guest, look, GENERAL)))


def test_qemu_cannot_set_its_guests_registers(trial: Trial, attack: Attack) -> None:
    """QEMU cannot set what its guest has in general registers by KVM_SET_REGS, which changes nothing."""
    _judge_change(trial, attack, lambda own: own.cpu.put_r8_to_r15(OURS[0]))


def test_qemu_cannot_set_its_guests_vector_registers(trial: Trial, attack: Attack) -> None:
    """QEMU cannot set what its guest has in vector registers by KVM_SET_FPU, which changes nothing."""
    _judge_change(trial, attack, lambda own: own.cpu.put_xmm(OURS[1]))


def test_qemu_cannot_set_its_guests_registers_by_sync_regs(trial: Trial, attack: Attack) -> None:
    """QEMU cannot set what its guest has in general registers by the page that it shares with KVM."""
    _judge_change(trial, attack, lambda own: own.cpu.sync_r8_to_r15(OURS[0]))


def test_qemu_cannot_have_its_guest_load_a_private_page(trial: Trial, attack: Attack) -> None:
    """QEMU cannot give its guest's CPU registers and code of its own, which loads a private page into registers."""
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        judge_each(trial, host, on_each(host.guests, lambda guest: _check_load_for_qemu(host, puppeteer, guest)))


def _check_load_for_qemu(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """The guest may be harmed: an exit of its own that KVM_RUN ends with is lost to QEMU."""
    aimed = user_canary(guest)
    private = aimed.planted.state == State.PRIVATE
    with own_vm(host, puppeteer, guest) as own, own.code(LOAD_16) as code:
        own.cpu.aim(code, aimed.target.gpa, 0)
        own.cpu.run_a_while()
        loaded = Canary(aimed.planted.content).count_leaked(own.cpu.load_result())
    return [Check("bytes of the page that QEMU has in the end", "0" if private else str(LOADED), str(loaded))]


def test_qemu_cannot_step_through_its_guest(trial: Trial, attack: Attack) -> None:
    """QEMU cannot have its guest stop after each instruction, and tell where it is (KVM_SET_GUEST_DEBUG)."""
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def look(guest: Guest) -> list[Check]:
            with own_vm(host, puppeteer, guest) as own:
                done = own.cpu.put(KVM_SET_GUEST_DEBUG, DEBUG.pack(DEBUG_ENABLE | DEBUG_SINGLE_STEP, 0))
                steps = 0
                if done.errno is None:
                    steps = int(own.cpu.run().returned == KVM_EXIT_DEBUG)
                    own.cpu.set(KVM_SET_GUEST_DEBUG, DEBUG.pack(0, 0))
            open_ = not guest.protected
            return [
                Check("how KVM_SET_GUEST_DEBUG ends", "done" if open_ else "EINVAL", done.errno or "done"),
                Check("instructions after which it stops", str(int(open_)), str(steps)),
            ]

        results = on_each(host.guests, look)
    judge_each(trial, host, results)


def test_no_ioctl_of_a_vcpu_tells_or_changes_a_private_register(trial: Trial, host: Host) -> None:
    """No ioctl of a virtual CPU tells the VMM a register of its guest, or changes one; each answers as ever."""
    tiny_vm_works(trial, host, "registers", "port-data", "answers")


def test_vmm_cannot_interrupt_its_guest_past_the_local_apic(trial: Trial, host: Host) -> None:
    """A VMM cannot have a guest take an interrupt that the local APIC does not know of (Xen, PIC, KVM_INTERRUPT)."""
    tiny_vm_works(trial, host, "upcall", "by-pic", "by-ioctl")


def test_vmm_sends_its_guest_no_interrupt_that_looks_like_an_exception(trial: Trial, host: Host) -> None:
    """A VMM cannot interrupt its guest by the vector of an exception, nor by one that it sends before the request."""
    tiny_vm_works(trial, host, "exceptions-vector")


def test_vmm_sends_its_guest_no_page_fault(trial: Trial, host: Host) -> None:
    """A VMM that has asked for asynchronous page faults before its guest asks for private registers sends it none."""
    tiny_vm_works(trial, host, "missing-page")


def test_vmm_ends_no_interrupt_of_its_guest(trial: Trial, host: Host) -> None:
    """A VMM cannot end an interrupt that its guest handles: by KVM's bit in shared memory, by Hyper-V's controller."""
    tiny_vm_works(trial, host, "ended", "auto-ended")


def test_guest_is_not_told_that_registers_are_private_if_its_apic_is_elsewhere(trial: Trial, host: Host) -> None:
    """A guest whose local APIC the VMM has moved, switched off or hidden by memory is refused private registers."""
    tiny_vm_works(trial, host, "apic-elsewhere", "apic-off", "apic-hidden", "apic-managed")


def test_vmm_cannot_put_memory_in_the_place_of_its_guests_apic(trial: Trial, host: Host) -> None:
    """A VMM cannot have memory answer for the local APIC of a guest whose registers are private."""
    tiny_vm_works(trial, host, "apic-stays")


def test_guest_is_not_told_that_registers_are_private_if_they_are_not(trial: Trial, host: Host) -> None:
    """A guest that is refused private registers, as its memory is protected or cannot be, has its VMM read them all."""
    tiny_vm_works(trial, host, "registers-later", "registers-refused")


def test_vmm_cannot_run_another_processor_of_its_guest(trial: Trial, host: Host) -> None:
    """No VMM can set, start or name as the one that boots another processor of a guest whose registers are private."""
    rows = ("second-set", "second-started", "second-late", "second-across", "second-boots", "no-apic", "asks-managed")
    tiny_vm_works(trial, host, *rows, "asks-behind", "reset-steered")


def test_vmm_cannot_stop_another_processor_of_its_guest(trial: Trial, host: Host) -> None:
    """A VMM cannot send INIT, which ends what it does, to a processor of a guest whose registers are private."""
    tiny_vm_works(trial, host, "second-stopped")


def test_vmm_has_no_processor_started_along_with_another(trial: Trial, host: Host) -> None:
    """A VMM cannot run a processor of its own that has another one's APIC number, and so starts as that one does."""
    tiny_vm_works(trial, host, "twin", "twin-before", "twin-runs", "twin-wide")


def test_vmm_runs_no_code_of_its_own_on_a_processor_that_shuts_down(trial: Trial, host: Host) -> None:
    """A processor of private registers that shuts down (triple fault) or gets INIT does not go on in the VMM's ROM."""
    tiny_vm_works(trial, host, "shutdown", "shutdown-second", "init-first")


def test_vmm_cannot_start_its_guests_cpu_by_a_timer(trial: Trial, host: Host) -> None:
    """No timer that the VMM has set before sends the guest's CPU to the reset vector, where the VMM has its code."""
    tiny_vm_works(trial, host, "timer")


def test_kvm_forgets_what_the_vmm_has_set_to_count(trial: Trial, host: Host) -> None:
    """When registers become private, and at each reset, KVM stops the counters that the VMM has set, or the guest."""
    plain = _forgotten(host, "plain")
    if host.plain_guest is None:
        trial.legitimate(plain)
    else:
        tried = attempt(lambda: _forgotten(host, "private"))
        trial.legitimate(result_of(tried, "private registers", [plain]), plain)


def _forgotten(host: Host, way: str) -> list[Check]:
    """No processor here has counters (docs/emulation.md): that KVM forgets them is seen by the call.

    A VM of one processor asks for private registers; another one, with two, is reset for the next guest as well.
    """
    private = way == "private"
    known = host.ssh.run(["grep", "-c", f" {FORGETS}$", "/proc/kallsyms"], seconds=TIMEOUT).text.strip() == "1"
    results: list[Check] = []
    for row, least in (("answers", 1), ("reset-kept", 2)):
        calls = [Event(FORGETS, "vcpu=%di", 'comm == "tiny_vm"')] if known else []
        with events(host.ssh, "counters", calls) as trace:
            results += run(host, row, way)
            count = trace.count() if known else 0
        enough = f"at least {least}" if private else "0"
        got = enough if private and count >= least else str(count)
        results.append(Check(f"{row}, {way}: times that KVM forgets what counts", enough, got))
    return results


def test_registers_of_no_processor_outlive_a_reset(trial: Trial, host: Host) -> None:
    """When the VMM resets a machine, it is told no register of any processor as the guest has left it."""
    tiny_vm_works(trial, host, "reset-registers", "reset-at-load", "reset-at-copy", "reset-pending", "reset-kept")


def test_root_reads_no_register_that_the_processor_keeps(trial: Trial, host: Host) -> None:
    """Root does not read a private register in the processor that runs a guest, where KVM would leave it for later."""
    tiny_vm_works(trial, host, "kept-register", ways=("private",))


def test_backtrace_of_a_processor_shows_no_private_register(trial: Trial, host: Host) -> None:
    """A backtrace that root has the processor print that runs a guest shows no private register in the host's log."""
    tiny_vm_works(trial, host, "backtrace", ways=("private",))


def test_registers_of_the_next_guest_are_private_too(trial: Trial, host: Host) -> None:
    """A guest that asks for private registers in a machine that was reset has them, as the guest before had them."""
    tiny_vm_works(trial, host, "next-registers")


def test_processor_that_runs_on_stores_nothing_for_the_vmm_at_a_reset(trial: Trial, host: Host) -> None:
    """A processor that stores its registers, itself or by KVM, stores none into memory that the VMM gets by a reset."""
    tiny_vm_works(trial, host, "reset-running", "reset-at-call")


def test_vmm_gets_no_exit_that_it_asked_for_before(trial: Trial, host: Host) -> None:
    """A VMM that asked for exits by registers, hypercalls and instructions is told none of a private register."""
    tiny_vm_works(trial, host, "exits", "second-exits", "hyper-v")


def test_vmm_lets_no_register_of_its_guest_fail(trial: Trial, host: Host) -> None:
    """A VMM cannot have a register fail that any processor has, or take what the guest writes to it (filter, Xen)."""
    tiny_vm_works(trial, host, "denied")


def test_qemu_cannot_interrupt_its_guest_for_system_management(trial: Trial, attack: Attack) -> None:
    """QEMU cannot send its guest's CPU into system management mode, which is firmware of QEMU's (KVM_SMI)."""
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def look(guest: Guest) -> list[Check]:
            with own_vm(host, puppeteer, guest) as own:
                done = own.cpu.process.syscall("ioctl", own.cpu.fd, KVM_SMI, 0)
                # Asked for before the CPU runs: with the events that are put back it is taken back.
                pending = own.cpu.get(KVM_GET_VCPU_EVENTS, EVENTS_BYTES)[SMI_PENDING_AT]
            open_ = not guest.protected
            return [
                Check("how KVM_SMI ends", "done" if open_ else "EINVAL", done.errno or "done"),
                Check("interrupts for it that wait", str(int(open_)), str(pending)),
            ]

        results = on_each(host.guests, look)
    judge_each(trial, host, results)


def test_qemu_cannot_start_its_guests_cpu_in_firmware(trial: Trial, attack: Attack) -> None:
    """QEMU cannot have its guest's CPU begin in QEMU's firmware with all of the guest in memory (INIT as an MSI)."""
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        judge_each(trial, host, on_each(host.guests, lambda guest: _check_init(host, puppeteer, guest)))


def _check_init(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """INIT, and what the CPU's registers and the guest's program say then; the plain guest gets its own back."""
    aimed = user_canary(guest)
    private = aimed.planted.state == State.PRIVATE
    with guest.canaries.holding(aimed.planted, seconds=HOLDS) as holding, own_vm(host, puppeteer, guest) as own:
        xmm, apic = own.cpu.xmm(), own.cpu.get(KVM_GET_LAPIC, LAPIC_BYTES)
        own.vm.put(KVM_SIGNAL_MSI, MSI.pack(*INIT_FOR_FIRST))
        own.cpu.get(KVM_GET_MP_STATE, MP_STATE_BYTES)  # KVM takes it in for this
        begins = own.cpu.instruction_pointer() == RESET_RIP
        at_work = not holding.done()
        own.cpu.set(KVM_SET_LAPIC, apic)
        own.cpu.put_xmm(xmm)
    return [
        Check("the guest's program was at work", "True", str(at_work)),
        Check("the CPU is where it begins", str(not private), str(begins)),
        Check("the program's registers stayed as they were", "True", str(holding.result()["kept"])),
    ]


def test_qemu_finds_no_port_data_once_it_is_served(trial: Trial, attack: Attack) -> None:
    """What a guest has told ports does not stay in the page by which KVM hands it out, for whoever maps that later."""
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def look(guest: Guest) -> list[Check]:
            with vm_in_hand(host, puppeteer, guest) as own:
                has_data = any(own.cpu.port_data())
            return [Check("something is left in the page", str(not guest.protected), str(has_data))]

        results = on_each(host.guests, look)
    judge_each(trial, host, results)


def test_qemu_does_not_learn_how_its_guest_maps_its_pages(trial: Trial, attack: Attack) -> None:
    """QEMU does not learn where its guest's page tables, which are private memory, lead from an address."""
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def look(guest: Guest) -> list[Check]:
            aimed = user_canary(guest)
            private, gpa = aimed.planted.state == State.PRIVATE, aimed.target.gpa
            with own_vm(host, puppeteer, guest) as own:
                done, at = own.cpu.translate(GUEST_PAGE_OFFSET + gpa)
            return [
                Check("how KVM_TRANSLATE ends", "EOPNOTSUPP" if private else "done", done.errno or "done"),
                Check("where it says that the canary is", "None" if private else hex(gpa), str(at and hex(at))),
            ]

        results = on_each(host.guests, look)
    judge_each(trial, host, results)


def _judge_look(trial: Trial, attack: Attack, way: Way, span: slice) -> None:
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def look(guest: Guest) -> bytes:
            with own_vm(host, puppeteer, guest) as own:
                return way(own)

        judge_each(trial, host, on_each(host.guests, lambda guest: look_checks(guest, look, span)))


def _judge_change(trial: Trial, attack: Attack, way: Callable[[OwnVm], None]) -> None:
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def change(guest: Guest, at_work: AtWork) -> bool:
            with vm_in_hand(host, puppeteer, guest) as own:
                if not at_work(own.cpu.general_registers()[R8_TO_R15]):
                    return False
                way(own)
            return True

        judge_each(trial, host, on_each(host.guests, lambda guest: change_checks(guest, change)))
