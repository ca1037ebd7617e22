# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by root on the host without own code in the kernel: KVM's trace events, and probes of its copying."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from common.errors import ChannelError
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Attack
from tests_e2e.support.each import attempt, on_each, result_of
from tests_e2e.support.kprobe_event import EVENT, FAULT, TRACING
from tests_e2e.support.kvm import ALIAS_SLOT, EMULATED_COPY, EMULATED_EXCHANGE, KVM_EXIT_IO, PAST, own_vm
from tests_e2e.support.registers import judge_each
from tests_e2e.support.tiny_vm import SHADOW_PAGING, parse
from tests_e2e.support.tracing import threads_of, trace_events

WORK = ["sh", "-c", "echo work > /dev/ttyS0; dd if=/dev/vda of=/dev/null bs=64k count=16 2> /dev/null"]
# Of each event: a pattern of what it prints of the guest's memory, and of what it hands to devices.
INSTRUCTIONS = r"kvm_emulate_insn: [0-9a-f]+:[0-9a-f]+:((?: ?[0-9a-f]{2})*)"
ENTRIES = r"kvm_mmu_paging_element: pte ([0-9a-f]+)"
OF_DEVICES = r"kvm_mmio: mmio \S+ len \d+ gpa \S+ val 0x([0-9a-f]+)"
OF_PORTS = r"kvm_pio: pio_\S+ at \S+ size \d+ count \d+ val 0x([0-9a-f]+)"
# KVM's functions that carry bytes of a guest in a buffer, and which argument that is.
COPYING = (
    ("guest_page_read", 3),
    ("guest_page_write", 3),
    ("kvm_read_private", 3),
    ("kvm_write_private", 3),
    ("kvm_copy_from_slot", 4),
    ("kvm_copy_to_slot", 4),
    ("kvm_vcpu_read_guest_page", 3),
    ("kvm_vcpu_read_guest", 3),
    ("kvm_vcpu_write_guest", 3),
    ("kvm_vcpu_read_guest_atomic", 3),
    ("kvm_read_guest_page", 3),
    # Not KVM's: the copy itself, of which those that the processor does not use show nothing.
    ("copy_mc_to_kernel", 1),
    ("copy_mc_enhanced_fast_string", 1),
    ("copy_mc_fragile", 1),
)
# Those that exchange what the guest's page has for what a buffer has: what is compared, and what is stored.
EXCHANGING = (
    ("kvm_try_cmpxchg_private", 3),
    ("kvm_try_cmpxchg_private", 4),
    ("guest_page_try_cmpxchg", 3),
    ("guest_page_try_cmpxchg", 4),
)
# The emulator's own functions, which hand on to it what was copied, and have it exchanged.
EMULATING = ("emulator_read_emulated", 3)
EMULATING_EXCHANGE = ("emulator_cmpxchg_emulated", 3)
COPIED = 64  # bytes
# guest_images/programs: SECRET; the start of WINDOW, less three digits, and of the page behind, a device's
NUMBER, CODE_AT, DEVICE_AT = "5ec2e7c0ffee", "8080604", "8080605"
# What SKINIT, CPUID and, in decimal, INVLPGA are told.
ARGUMENT, ARGUMENT_OF_FLUSH = "7e11eaf", "asid: 132193967"
# guest_images/programs: MSR_TSC_AUX, and as much of SECRET as it holds
LOADED = "c0000103, value e7c0ffee"
TRIED_VALUE = "48, value 2"  # MSR_SPEC_CTRL; without private registers KVM has each value traced that it tries
# Later KVM tries none for a guest whose host's processor does not have it (arch/x86/kvm/cpuid.h,
# guest_has_spec_ctrl_msr()); no emulated one has.
TRIES = "<6.14"
# Of these the code has some: a nested guest that comes, ends and is interrupted, an access to a device that KVM knows.
EVENTS = ("kvm_nested_vmenter", "kvm_nested_vmexit_inject", "kvm_nested_intr_vmexit", "kvm_skinit", "vcpu_match_mmio")
EVENT_NAME = re.compile(r"\b(kvm\w*|vcpu_\w+): ")  # of a line of the trace
ENABLED = " kvm_hypercall: nr 0xd "  # KVM_HC_MEM_ENABLE, include/uapi/linux/kvm_para.h of the series
FAULT_AT = re.compile(r" kvm_page_fault: .* address 0x0*[1-9a-f]")
TIMEOUT = 60.0


def test_kvm_does_not_trace_instructions_of_a_protected_guest(trial: Trial, attack: Attack, steered_host: Host) -> None:
    """The trace of the instructions that KVM emulates shows no byte of a protected guest's (kvm_emulate_insn)."""
    _judge_trace(trial, attack, steered_host, "kvm/kvm_emulate_insn", INSTRUCTIONS)


def test_kvm_does_not_trace_page_tables_of_a_protected_guest(trial: Trial, attack: Attack, steered_host: Host) -> None:
    """The trace of KVM's page walks shows no entry of a protected guest's page tables (kvm_mmu_paging_element)."""
    _judge_trace(trial, attack, steered_host, "kvmmmu/kvm_mmu_paging_element", ENTRIES)


def test_kvm_does_not_trace_what_a_protected_guest_tells_devices(
    trial: Trial, attack: Attack, steered_host: Host
) -> None:
    """The trace of accesses to devices shows no data of a protected guest's (kvm_mmio)."""
    _judge_trace(trial, attack, steered_host, "kvm/kvm_mmio", OF_DEVICES)


def test_kvm_does_not_trace_what_a_protected_guest_tells_ports(
    trial: Trial, attack: Attack, steered_host: Host
) -> None:
    """The trace of accesses to ports shows no data of a protected guest's (kvm_pio)."""
    _judge_trace(trial, attack, steered_host, "kvm/kvm_pio", OF_PORTS)


def test_kvm_traces_and_logs_no_private_register(trial: Trial, host: Host) -> None:
    """No event of KVM or of MSRs and no line of the log shows a register of a guest whose registers are private."""
    _judge_register_events(trial, host, host)


def test_kvm_traces_no_private_register_without_nested_paging(trial: Trial, host: Host, pool: HostPool) -> None:
    """Without nested paging no trace event of KVM and no line of the log shows a private register of a guest."""
    _judge_register_events(trial, host, pool.shared_with_cmdline(SHADOW_PAGING))


def _judge_register_events(trial: Trial, host: Host, on: Host) -> None:
    """Have the events judged that KVM has on a host.

    :param host: tells by its guests whether its kernel can protect.
    """
    tries = trial.kernel_fits(TRIES)
    plain = _check_register_events(on, "plain", tries=tries)
    if host.plain_guest is None:
        trial.legitimate(plain)
    else:
        tried = attempt(lambda: _check_register_events(on, "private", tries=tries))
        trial.legitimate(result_of(tried, "private registers", [plain]), plain)


def _check_register_events(host: Host, way: str, *, tries: bool) -> list[Check]:
    """Events of KVM's and of MSRs while a guest has a number in registers, and code at an address of its own.

    :param tries: whether KVM tries values on the processor.
    """
    since = len(host.kernel_log())
    program = f"{HOST_PROGRAMS}/tiny_vm traced {way}"
    with trace_events(host.ssh, "kvm", "kvmmmu", "msr/write_msr") as trace:
        script = f"echo $$ > {TRACING}/set_event_pid && exec {program}"
        done = host.ssh.run(["sh", "-c", script], seconds=TIMEOUT).require()
        trace_text, log = trace(), host.kernel_log()[since:]
    of = {event: "\n".join(line for line in trace_text.splitlines() if f" {event}: " in line) for event in EVENTS}
    private = way == "private"
    shown = "none" if private else "some"
    checks = parse(done.text, "traced", way)
    # Until a guest asks, its page faults are like another one's.
    late = trace_text.partition(ENABLED)[2] if private else trace_text

    def lines_with(text: str, word: str) -> str:
        """Some or none; of a private guest by which events, or by which lines if they are none."""
        lines = [line for line in text.splitlines() if word in line]
        names = {event[1] if (event := EVENT_NAME.search(line)) else line.strip() for line in lines}
        return (", ".join(sorted(names)) if private else "some") if lines else "none"

    return [
        *checks,
        Check("events of KVM's", "some", _some(" kvm_" in trace_text)),
        Check("lines of the trace with the number", shown, lines_with(trace_text, NUMBER)),
        Check("lines of the trace with the register that KVM loads", shown, lines_with(trace_text, LOADED)),
        Check(
            "lines of the trace with the register that KVM tries",
            shown if tries else "none",
            lines_with(trace_text, TRIED_VALUE),
        ),
        *(Check(f"events {event}", "some", _some(bool(lines))) for event, lines in of.items()),
        *(
            Check(f"events {event} with an address of the guest's", shown, _some(_any(lines)))
            for event, lines in of.items()
        ),
        Check("lines of the trace with an argument", shown, lines_with(trace_text, ARGUMENT)),
        Check("lines of the trace with a flush's argument", shown, lines_with(trace_text, ARGUMENT_OF_FLUSH)),
        Check("events kvm_nested_intercepts with words of the block", shown, _some(_words(trace_text))),
        Check("events kvm_page_fault since the registers are private", "some", _some(" kvm_page_fault: " in late)),
        Check("events kvm_page_fault with an address", shown, _some(bool(FAULT_AT.search(late)))),
        Check("lines of the trace with the code's address", shown, lines_with(trace_text, CODE_AT)),
        Check("lines of the trace with the device's address", shown, lines_with(trace_text, DEVICE_AT)),
        Check("lines of the host's log with the number", shown, lines_with(log, NUMBER)),
        Check("lines of the host's log with the code's address", shown, lines_with(log, CODE_AT)),
    ]


def _some(there: bool) -> str:  # noqa: FBT001
    return "some" if there else "none"


def _words(log: str) -> bool:
    lines = re.findall(r"kvm_nested_intercepts: (.*)", log)
    return any(re.sub(r"\w+:|[0 ]", "", line) for line in lines)


def _any(lines: str) -> bool:
    return CODE_AT in lines or DEVICE_AT in lines


def _judge_trace(trial: Trial, attack: Attack, steered_host: Host, event: str, pattern: str) -> None:
    """Have each guest write to its console and read its disk, and look what the event prints of its QEMU's threads.

    Guests with private registers, and others: of both the memory is private.
    """

    def look(host: Host) -> list[list[Check]]:
        return on_each(host.guests, lambda guest: _check_output(host, guest, event, pattern))

    results = [
        [*checks, *(replace(check, name=f"registers open: {check.name}") for check in more)]
        for checks, more in zip(look(attack.host), look(steered_host), strict=True)
    ]
    judge_each(trial, attack.host, results)


def _check_output(host: Host, guest: Guest, event: str, pattern: str) -> list[Check]:
    with trace_events(host.ssh, event, threads=threads_of(host.ssh, guest.pid)) as trace:
        guest.ssh.run(WORK, seconds=20).require()
        shown = re.findall(pattern, trace())
    filled = sum(bool(line.replace("0", "").strip()) for line in shown)
    return [
        Check("events of the guest", "some", _some(bool(shown))),
        Check("some show content", str(not guest.protected), str(filled > 0)),
    ]


def test_probes_of_kvms_copying_show_no_private_byte(trial: Trial, steered_host: Host) -> None:
    """No kprobe on a function by which KVM carries a guest's bytes shows those of a private page that it copies."""
    judge_each(trial, steered_host, on_each(steered_host.guests, lambda guest: _of_copying(steered_host, guest)))


def test_probe_of_kvms_emulator_shows_private_bytes(trial: Trial, steered_host: Host) -> None:
    """A kprobe on a function of KVM's instruction emulator shows root the bytes of a private page that it loads."""
    shown = on_each(steered_host.guests, lambda guest: _run_with_probes(steered_host, guest, (EMULATING,))[1] > 0)
    judge_each(trial, steered_host, [[Check("the probe shows bytes of the page", "True", str(some))] for some in shown])


def _of_copying(host: Host, guest: Guest) -> list[Check]:
    """For a plain guest with functions that can be probed: so one sees that probes show the copy and the exchange."""
    ways = (
        ("copies", EMULATED_COPY, COPYING, EMULATING),
        ("exchanges", EMULATED_EXCHANGE, EXCHANGING, EMULATING_EXCHANGE),
    )
    checks: list[Check] = []
    for verb, code, functions, open_one in ways:
        private, shown = _run_with_probes(host, guest, functions, code)
        if not private:
            shown = max(shown, _run_with_probes(host, guest, (open_one,), code)[1])
        checks.append(Check(f"some probe shows bytes of the page that KVM {verb}", str(not private), str(shown > 0)))
    return checks


def _run_with_probes(
    host: Host, guest: Guest, functions: Sequence[tuple[str, int]], work: bytes = EMULATED_COPY
) -> tuple[bool, int]:
    """The guest has KVM's emulator work on the start of its page: without a probe, then with each one.

    :returns: whether the page is private, and how many of its bytes the events of all probes show.
    :raises ChannelError: the copy did not come to its end.
    """
    (aimed,) = (aim for aim in Attack.aim(guest, [UNDER_TEST]) if aim.planted.kind == "user")
    output = bytearray()
    with Attack.puppeteer(host) as puppeteer, own_vm(host, puppeteer, guest) as own:
        # Of a protected guest this slot is private, too.
        own.vm.region(ALIAS_SLOT, PAST, PAGE_SIZE, own.qemu.memory(PAGE_SIZE)).require("a slot for the copy")

        def run() -> None:
            with own.code(work) as code:
                own.cpu.aim(code, aimed.target.gpa, PAST, rcx=COPIED // 4)
                if own.cpu.run().returned != KVM_EXIT_IO:
                    raise ChannelError("KVM's emulator has not come to the end")

        run()
        for function, argument in functions:
            for kind in "pr":
                output += b"\0" + _probe(host.ssh, kind, function, argument, run)
        own.vm.region(ALIAS_SLOT, 0, 0, 0).require("delete the slot for the copy")
    return aimed.planted.state == State.PRIVATE, Canary(aimed.planted.content).count_leaked(bytes(output))


def _probe(ssh: Ssh, kind: str, function: str, argument: int, work: Callable[[], object]) -> bytes:
    """What the argument leads to at the function's start or return during ``work``; empty if there is no probe."""

    def shell(script: str) -> bytes:
        done = ssh.run(["sh", "-c", f"cd {TRACING} && {script}"], seconds=20)
        return done.stdout if done.status == 0 else b""

    place = f"{kind}:{EVENT} {function} there=+0($arg{argument}):x32"
    if not shell(f"echo > trace && echo '{place}' > kprobe_events && echo 1 > events/{EVENT}/enable && echo set"):
        shell("echo > kprobe_events")
        return b""
    try:
        work()
        trace_text = shell("cat trace").decode(errors="replace")
    finally:
        shell(f"echo 0 > events/{EVENT}/enable; echo > kprobe_events; echo > trace")
    words = [word for word in re.findall(r" there=(\S+)", trace_text) if word != FAULT]
    return b"".join(struct.pack("<I", int(word, 16)) for word in words)
