# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's own memory management, where KVM has a part in it: page tables, modes, memory slots."""

from __future__ import annotations

from host_setup.hosts.base import Host
from host_setup.hosts.pool import HostPool
from signoff.trial import Trial
from tests_e2e.support.checks import checks, works
from tests_e2e.support.tiny_vm import SHADOW_PAGING, tiny_vm_works


def test_guest_page_walk_sets_accessed_and_dirty_bits(trial: Trial, host: Host) -> None:
    """KVM's walk of the guest's page tables sets accessed and dirty bits as the processor does."""
    tiny_vm_works(trial, host, "walk-bits")


def test_guest_page_walk_knows_huge_pages(trial: Trial, host: Host) -> None:
    """KVM's walk of the guest's page tables finds its way through pages of 2 MiB and 1 GiB."""
    tiny_vm_works(trial, host, "walk-huge")


def test_guest_page_walk_faults_on_absent_and_read_only_pages(trial: Trial, host: Host) -> None:
    """What a guest's page tables do not allow faults in KVM's walk as in the processor's: absent, read-only, ring 0."""
    tiny_vm_works(trial, host, "walk-absent")


def test_guest_page_walk_faults_on_no_execute_and_reserved_bits(trial: Trial, host: Host) -> None:
    """Pages without execution and entries with reserved bits fault in KVM's walk as in the processor's."""
    tiny_vm_works(trial, host, "walk-reserved")


def test_guest_page_walk_obeys_smep_and_smap(trial: Trial, host: Host) -> None:
    """KVM keeps a guest's ring 0 from the pages of ring 3 as the processor does."""
    tiny_vm_works(trial, host, "walk-smep-smap")


def test_guest_page_tables_can_be_changed_in_use(trial: Trial, host: Host) -> None:
    """Changes to page tables in use, by any instruction, change what is mapped."""
    tiny_vm_works(trial, host, "walk-changes")


def test_guest_pae_root_is_loaded(trial: Trial, host: Host) -> None:
    """A 32-bit guest with PAE has its page directory pointers loaded, and refused when they are wrong."""
    tiny_vm_works(trial, host, "pae")


def test_guest_real_mode_works(trial: Trial, host: Host) -> None:
    """In real mode KVM carries out loads, stores, copies, calls and interrupts, and string input and output."""
    tiny_vm_works(trial, host, "real-mode")


def test_guest_task_switch_works(trial: Trial, host: Host) -> None:
    """A 32-bit guest switches tasks by jump, call, return and gate."""
    tiny_vm_works(trial, host, "task-switch")


def test_guest_system_management_mode_works(trial: Trial, host: Host) -> None:
    """KVM saves the processor for system management mode, and goes on with what the handler left."""
    tiny_vm_works(trial, host, "smm")


def test_guest_runs_a_nested_guest(trial: Trial, host: Host) -> None:
    """A guest runs a guest of its own by SVM, with intercepts of ports and registers."""
    tiny_vm_works(trial, host, "nested")


def test_guest_runs_a_nested_guest_by_vmx(trial: Trial, host: Host) -> None:
    """A guest runs a guest of its own by VMX, with intercepts of ports and registers, and with a shadow VMCS."""
    tiny_vm_works(trial, host, "nested-vmx", "nested-vmx-shadow")


def test_guest_writes_are_in_the_dirty_log(trial: Trial, host: Host) -> None:
    """What the processor and KVM write for a guest is in the memory slot's dirty log, page by page, and no more."""
    tiny_vm_works(trial, host, "dirty-log")


def test_guest_writes_are_in_the_dirty_ring(trial: Trial, host: Host) -> None:
    """What the processor and KVM write for a guest is in the CPU's dirty ring, page by page, and no more."""
    tiny_vm_works(trial, host, "dirty-ring")


def test_guest_reads_a_read_only_slot(trial: Trial, host: Host) -> None:
    """A guest reads a read-only memory slot, and its writes go to the VMM."""
    tiny_vm_works(trial, host, "read-only")


def test_guest_keeps_memory_beside_a_slot_that_moves(trial: Trial, host: Host) -> None:
    """When a VMM moves a memory slot, a guest has all that it stored in the slot whose memory lies behind."""
    tiny_vm_works(trial, host, "beside-moved")


def test_guest_transparent_huge_pages_work(trial: Trial, host: Host) -> None:
    """A guest's kernel gives its processes huge pages, whose content is right, also where KVM reads and writes."""
    works(trial, host, lambda guest: checks(guest, "check_huge"))


def test_guest_on_shadow_paging_has_its_page_tables_walked(trial: Trial, host: Host, pool: HostPool) -> None:
    """Where KVM shadows the guest's page tables, accessed and dirty bits and faults are as the processor's own."""
    tiny_vm_works(trial, host, "walk-bits", "walk-absent", "walk-reserved", on=pool.shared_with_cmdline(SHADOW_PAGING))


def test_guest_on_shadow_paging_changes_page_tables_in_use(trial: Trial, host: Host, pool: HostPool) -> None:
    """Where KVM shadows the guest's page tables, changes to them by any instruction change what is mapped."""
    tiny_vm_works(trial, host, "walk-changes", on=pool.shared_with_cmdline(SHADOW_PAGING))


def test_guest_on_shadow_paging_works_in_other_modes(trial: Trial, host: Host, pool: HostPool) -> None:
    """Where KVM shadows the guest's page tables, PAE, real mode and system management mode work."""
    tiny_vm_works(trial, host, "pae", "real-mode", "smm", on=pool.shared_with_cmdline(SHADOW_PAGING))


def test_guest_on_shadow_paging_runs_a_nested_guest(trial: Trial, host: Host, pool: HostPool) -> None:
    """Where KVM shadows the guest's page tables, a guest runs a guest of its own by SVM."""
    tiny_vm_works(trial, host, "nested", on=pool.shared_with_cmdline(SHADOW_PAGING))
