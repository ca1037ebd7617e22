# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM and the guest tell each other through memory: on pages that are shared, and on private ones."""

from __future__ import annotations

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks, works
from tests_e2e.support.tiny_vm import tiny_vm_works


def test_guest_uses_paravirtual_features(trial: Trial, host: Host) -> None:
    """The guest is offered kvmclock, steal time, paravirtual end of interrupt and page faults, and uses them."""
    works(trial, host, lambda guest: checks(guest, "check_paravirt", "features"))


def test_guest_wall_clock_is_written_where_it_asks(trial: Trial, host: Host) -> None:
    """KVM writes the time of day into the page that the guest names, a shared or a private one."""

    def look(guest: Guest) -> list[Check]:
        now = host.ssh.run(["date", "+%s"], seconds=10).require().text.strip()
        return checks(guest, "check_paravirt", "wall-clock", now)

    works(trial, host, look)


def test_guest_system_time_is_kept_on_shared_pages_alone(trial: Trial, host: Host) -> None:
    """KVM keeps the system time in a shared page, and leaves a private one alone, without harm to anybody."""
    works(trial, host, lambda guest: checks(guest, "check_paravirt", "system-time"))


def test_guest_steal_time_is_kept_on_shared_pages_alone(trial: Trial, host: Host) -> None:
    """KVM keeps the stolen time in a shared page, and leaves a private one alone, without harm to anybody."""
    works(trial, host, lambda guest: checks(guest, "check_paravirt", "steal-time"))


def test_guest_wall_clock_may_cross_pages(trial: Trial, host: Host) -> None:
    """KVM writes the time of day also where it begins on a shared page and ends on a private one."""
    tiny_vm_works(trial, host, "pv-wall-clock")


def test_guest_end_of_interrupt_is_paravirtual_on_shared_pages_alone(trial: Trial, host: Host) -> None:
    """KVM saves the guest the end of an interrupt on a shared page; on a private one it does not, and none is lost."""
    tiny_vm_works(trial, host, "pv-eoi")


def test_guest_page_faults_are_asynchronous_on_shared_pages_alone(trial: Trial, host: Host) -> None:
    """KVM tells a guest of a page that comes late on a shared page; with a private one the guest waits, and gets it."""
    tiny_vm_works(trial, host, "pv-async-pf")


def test_guest_sends_interrupts_by_hypercall(trial: Trial, host: Host) -> None:
    """A guest interrupts processors by hypercall, and KVM says how many."""
    tiny_vm_works(trial, host, "pv-ipi")


def test_guest_tlb_flush_is_paravirtual_on_shared_pages_alone(trial: Trial, host: Host) -> None:
    """KVM says on a shared page that a processor does not run, and takes requests there; on a private one neither."""
    tiny_vm_works(trial, host, "pv-tlb-flush")


def test_guest_clock_pairing_is_written_or_refused(trial: Trial, host: Host) -> None:
    """KVM writes the time of both clocks where the guest asks, or says that it cannot, and then writes nothing."""
    tiny_vm_works(trial, host, "pv-clock-pairing")


def test_guest_hypercall_instruction_is_replaced(trial: Trial, host: Host) -> None:
    """KVM replaces the hypercall instruction of another make of processor in the guest's code."""
    tiny_vm_works(trial, host, "hypercall-patch")


def test_guest_reaches_its_interrupt_controller(trial: Trial, host: Host) -> None:
    """A guest loads from and stores to its APIC, which is KVM's own, by code and data of its own."""
    tiny_vm_works(trial, host, "apic")
