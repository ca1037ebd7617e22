# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that is plugged into a running guest: pages above 4 GiB, and memory behind which there is none."""

from __future__ import annotations

from dataclasses import replace

from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.checks import works
from tests_e2e.support.each import on_each
from tests_e2e.support.extra import standing
from tests_e2e.support.kvm import vm_in_hand
from tests_e2e.support.memory import MIB, PLUGGED_AT, PLUGGED_MIB, STATE, plug_in, put_in_use, shell, with_a_place
from tests_e2e.support.registers import judge_each
from tests_e2e.support.sweep import FEW_BYTES, checks, sweep, witnesses


def test_guest_shares_pages_above_4_gib(trial: Trial, pool: HostPool) -> None:
    """Of pages above 4 GiB the host reads exactly those that the guest has shared, and none below instead."""
    with standing(pool, with_a_place) as host:

        def look(guest: Guest) -> list[Check]:
            plug_in(guest)
            put_in_use(guest, "online_kernel")
            aimed = Attack.aim(guest)
            kinds = [(aim.planted.kind, aim.planted.set) for aim in aimed]
            above = [(aim.planted.kind, aim.planted.set) for aim in aimed if aim.target.gpa >= PLUGGED_AT]
            sweep_result = sweep(host, guest, "process_vm_readv", FEW_BYTES, keep=trial)
            return [
                Check("canaries above 4 GiB", str(kinds), str(above)),
                *checks(sweep_result, "EFAULT", physical=False),
                *witnesses(guest, aimed, sweep_result),
            ]

        results = on_each(host.guests, look)
        judge_each(trial, host, results)


def test_guest_uses_no_plugged_in_memory_that_its_host_does_not_hold(trial: Trial, pool: HostPool) -> None:
    """Memory that is plugged in, and behind which the host has none, a guest refuses: each store would be an exit."""
    with standing(pool, with_a_place) as host, Attack.puppeteer(host) as puppeteer:
        works(trial, host, lambda guest: _plug_in(host, puppeteer, guest))


def _plug_in(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """Have a guest use memory: a protected one first while there is none, as QEMU has deleted the slot."""
    plug_in(guest)
    results: list[Check] = []
    if guest.protected:
        address = sweep(host, guest, "process_vm_readv", FEW_BYTES).address[PLUGGED_AT]
        with vm_in_hand(host, puppeteer, guest) as own:
            slot = own.slot(PLUGGED_AT, PLUGGED_MIB * MIB, address)
            slot.delete()
        # What the shell does itself takes no memory; a guest that uses what is not there may not get any further.
        state = shell(guest, f"echo online_movable 2> /run/said > {STATE}; read state < {STATE}; echo $state")
        results.append(Check("its state, with nothing behind it", "offline", state.strip()))
        if not results[-1].right:
            return results
        results.append(Check("why", "Invalid argument", shell(guest, "cat /run/said").strip().rpartition(": ")[2]))
        with vm_in_hand(host, puppeteer, guest) as own:
            replace(slot, vm=own.vm).put()
    put_in_use(guest)
    return [*results, Check("its state, with memory behind it", "online", shell(guest, f"cat {STATE}").strip())]
