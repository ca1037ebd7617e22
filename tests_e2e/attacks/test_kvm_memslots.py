# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU on its own VM's memory slots: whatever becomes of a slot, the page behind it stays private.

The guest is stopped meanwhile, and finds its memory as it was.
"""

from __future__ import annotations

from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Attack, Got, Target
from tests_e2e.support.kvm import (
    ALIAS_SLOT,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
    LOAD_16,
    PAST,
    OwnVm,
    by_own_vm,
    load,
)


def test_memory_slot_deleted_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page after it has deleted the memory slot that held it."""

    def probe(own: OwnVm, page: Target) -> Got:
        ram = own.ram(page.gpa, page.hva)
        ram.delete()
        got = load(own.qemu, page)
        ram.put()
        return got

    by_own_vm(attack, "load, slot deleted", probe)


def test_memory_slot_added_again_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page after it has deleted its memory slot and added it again."""

    def probe(own: OwnVm, page: Target) -> Got:
        ram = own.ram(page.gpa, page.hva)
        ram.delete()
        ram.put()
        return load(own.qemu, page)

    by_own_vm(attack, "load, slot added again", probe)


def test_memory_slot_made_read_only_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page while its memory slot is a read-only one, which is the VMM's by definition."""

    def probe(own: OwnVm, page: Target) -> Got:
        ram = own.ram(page.gpa, page.hva)
        ram.delete()
        ram.put(KVM_MEM_READONLY)
        got = load(own.qemu, page)
        ram.delete()
        ram.put()
        return got

    by_own_vm(attack, "load, slot read-only", probe)


def test_dirty_log_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page while its memory slot logs the pages that the guest writes, as for migration."""

    def probe(own: OwnVm, page: Target) -> Got:
        ram = own.ram(page.gpa, page.hva)
        ram.put(KVM_MEM_LOG_DIRTY_PAGES)
        got = load(own.qemu, page)
        ram.put()
        return got

    by_own_vm(attack, "load, dirty log on", probe)


def test_read_only_alias_does_not_show_private_page(attack: Attack) -> None:
    """A read-only second slot over a private page does not show it to code that QEMU has its own guest's CPU run."""

    def probe(own: OwnVm, page: Target) -> Got:
        with own.code(LOAD_16) as code:
            own.vm.region(ALIAS_SLOT, PAST, PAGE_SIZE, page.hva, KVM_MEM_READONLY).require("the alias")
            own.cpu.aim(code, PAST, 0)
            done = own.cpu.run()
            own.vm.region(ALIAS_SLOT, 0, 0, 0).require("delete the alias")
            return Got(done, own.cpu.loaded())

    by_own_vm(attack, "KVM_RUN on a read-only alias", probe)
