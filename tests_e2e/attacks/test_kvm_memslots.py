# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU on its own VM's memory slots: whatever becomes of a slot, the page behind it stays private.

The guest is stopped meanwhile, and finds its memory as it was.
"""

from __future__ import annotations

from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Answer, Attack, Target
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.kvm import (
    ALIAS_SLOT,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
    PAST,
    OwnVm,
    by_own_vm,
    load,
    own_vm,
)


def test_memory_slot_deleted_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page after it has deleted the memory slot that held it."""

    def probe(own: OwnVm, page: Target) -> Answer:
        ram = own.ram(page.gpa, page.hva)
        ram.delete()
        answer = load(own.qemu, page)
        ram.put()
        return answer

    by_own_vm(attack, "load, slot deleted", probe)


def test_memory_slot_added_again_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page after it has deleted its memory slot and added it again."""

    def probe(own: OwnVm, page: Target) -> Answer:
        ram = own.ram(page.gpa, page.hva)
        ram.delete()
        ram.put()
        return load(own.qemu, page)

    by_own_vm(attack, "load, slot added again", probe)


def test_memory_slot_that_moves_shows_no_private_page(trial: Trial, attack: Attack) -> None:
    """QEMU cannot load a private page over which it adds a second memory slot, moves that, and deletes it."""
    # KVM does not forget that the page had another number: the guest cannot share it any more.
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        results = on_each(host.guests, lambda guest: _check_moves(host, puppeteer, guest))
        protected = opted_in(host.guest, results)
    trial.legitimate(*results, protected=protected)


def _check_moves(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """What loads of a page meet in each place of the slot."""
    (page,) = (aim for aim in Attack.aim(guest, [UNDER_TEST]) if aim.planted.kind == "user")
    canary, private = Canary(page.planted.content), page.planted.state == State.PRIVATE
    checks: list[Check] = []
    with own_vm(host, puppeteer, guest) as own:
        for change, place in (("added", PAST), ("moved", PAST + PAGE_SIZE), ("deleted", None)):
            region = (0, 0, 0) if place is None else (place, PAGE_SIZE, page.target.hva)
            own.vm.region(ALIAS_SLOT, *region).require(f"a slot to be {change}")
            answer = load(own.qemu, page.target)
            met = f"{answer.done.signal}, {answer.done.si_code}" if answer.done.signal else "loaded"
            checks.append(Check(f"load, slot {change}", "SIGBUS, BUS_ADRERR" if private else "loaded", met))
            leaked = str(canary.count_leaked(answer.data))
            checks.append(Check(f"bytes of the page, slot {change}", "0" if private else str(PAGE_SIZE), leaked))
    return checks


def test_memory_slot_made_read_only_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page while its memory slot is a read-only one, which is the VMM's by definition."""

    def probe(own: OwnVm, page: Target) -> Answer:
        ram = own.ram(page.gpa, page.hva)
        ram.delete()
        ram.put(KVM_MEM_READONLY)
        answer = load(own.qemu, page)
        ram.delete()
        ram.put()
        return answer

    by_own_vm(attack, "load, slot read-only", probe)


def test_dirty_log_leaves_private_page_private(attack: Attack) -> None:
    """QEMU cannot load a private page while its memory slot logs the pages that the guest writes, as for migration."""

    def probe(own: OwnVm, page: Target) -> Answer:
        ram = own.ram(page.gpa, page.hva)
        ram.put(KVM_MEM_LOG_DIRTY_PAGES)
        answer = load(own.qemu, page)
        ram.put()
        return answer

    by_own_vm(attack, "load, dirty log on", probe)
