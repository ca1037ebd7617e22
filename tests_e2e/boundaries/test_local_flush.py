# SPDX-License-Identifier: GPL-2.0-or-later
"""What the RFC's own way of flushing leaves open: only the CPU on which the guest asked forgets the direct map."""

from __future__ import annotations

from host_setup.channels.puppets import Puppet
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Attack
from tests_e2e.support.tlb import online_cpus, read_on_one

LOCAL_FLUSH = "protected_guest_mem.local_flush=1"


def test_local_flush_leaves_another_cpu_access_to_page_that_becomes_private(claim: Trial, attack: Attack) -> None:
    """With the RFC's local flush another CPU that has read a page may read it on after the guest made it private."""
    with attack.pool.booted(LOCAL_FLUSH) as host, attack.puppeteer(host) as puppeteer:
        attacker, cpus = puppeteer.spawn(), online_cpus(host.ssh)
        found = [_read_on(attack, attacker, guest, cpus) for guest in host.guests]
        protected = host.guest.protected if len(found) > 1 else None
    claim.legitimate(*found, protected=protected)


def _read_on(attack: Attack, attacker: Puppet, guest: Guest, cpus: list[int]) -> list[Check]:
    """Whether any CPU got any of the pages whole. Not each does: what else happens on a CPU may flush its TLB, too."""
    leaks = [
        Canary(aimed.planted.content).leaked(read_on_one(attacker, guest, aimed, cpu, cpus).data)
        for aimed in attack.aim(guest, [UNDER_TEST])
        for cpu in cpus
    ]
    tried = f"{len(leaks)} reads by a CPU that had the page mapped before"
    return [Check(f"of {tried} one got all of it", "true", str(PAGE_SIZE in leaks).lower())]
