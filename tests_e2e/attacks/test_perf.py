# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by root on the host with perf: samples of a guest's CPU, and watchpoints where KVM copies."""

from __future__ import annotations

from common.errors import ChannelError
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.each import on_each
from tests_e2e.support.kvm import ALIAS_SLOT, EMULATED_COPY, KVM_EXIT_IO, PAST, own_vm
from tests_e2e.support.perf import sample_by_clock, watchpoint
from tests_e2e.support.registers import judge_each, user_canary
from tests_e2e.support.tracing import threads_of

WORK = ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"]
TIMEOUT = 60.0
WINDOW = 1 << 30  # arch/x86/mm/guest_page.c of the series: where KVM has a private page while it copies
COPIED = 64  # bytes


def test_perf_does_not_sample_where_a_private_guest_is(trial: Trial, attack: Attack) -> None:
    """perf, which samples a guest's CPU as it works, tells no address of a guest whose registers are private."""
    host = attack.host
    judge_each(trial, host, on_each(host.guests, lambda guest: _check_samples(host, guest)))


def _check_samples(host: Host, guest: Guest) -> list[Check]:
    threads = threads_of(host.ssh, guest.pid)
    with Attack.puppeteer(host) as puppeteer, sample_by_clock(puppeteer.spawn(), threads) as samples:
        guest.ssh.run(WORK, seconds=TIMEOUT).require()
        addresses = samples()
    return [
        Check("samples of the guest", "some", "some" if addresses else "none"),
        Check("some tell where it is", str(not guest.protected), str(any(addresses))),
    ]


def test_perf_does_not_watch_kvms_copying(trial: Trial, steered_host: Host) -> None:
    """A watchpoint where KVM has a private page while it copies, or where QEMU has the page, is never met."""
    judge_each(trial, steered_host, on_each(steered_host.guests, lambda guest: _check_watchpoint(steered_host, guest)))


def _check_watchpoint(host: Host, guest: Guest) -> list[Check]:
    """The guest has KVM's emulator copy the start of its page."""
    aimed = user_canary(guest)
    private = aimed.planted.state == State.PRIVATE
    checks: list[Check] = []
    with Attack.puppeteer(host) as puppeteer, own_vm(host, puppeteer, guest) as own:
        watcher = puppeteer.spawn()
        # Of a protected guest this slot is private, too.
        own.vm.region(ALIAS_SLOT, PAST, PAGE_SIZE, own.qemu.memory(PAGE_SIZE)).require("a slot for the copy")
        for owner, address in (("KVM", WINDOW), ("QEMU", aimed.target.hva)):
            with own.code(EMULATED_COPY) as code, watchpoint(watcher, own.qemu.pid, address) as hits:
                own.cpu.aim(code, aimed.target.gpa, PAST, rcx=COPIED // 4)
                if own.cpu.run().returned != KVM_EXIT_IO:
                    raise ChannelError("KVM's emulator has not copied to the end")
                met = str(hits() > 0)
            expected = str(owner == "QEMU" and not private)
            checks.append(Check(f"a watchpoint where {owner} has the page is met", expected, met))
        own.vm.region(ALIAS_SLOT, 0, 0, 0).require("delete the slot for the copy")
    return checks
