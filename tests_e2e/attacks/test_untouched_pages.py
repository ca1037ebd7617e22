# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on pages of a guest that nobody has touched yet: they have no frame, and must not get one by the attack.

They hold no canary. What the attacker would gain is a mapping that is there before the guest's secret is.
"""

from __future__ import annotations

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack, Target
from tests_e2e.support.conduits import pipe, through
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.loads import load
from tests_e2e.support.pagemap import place, places

MIB = 1 << 20
PAGES_EACH_WAY = 10  # pages for each way
MADV_POPULATE_WRITE = 23  # asm-generic/mman-common.h
STORE = bytes.fromhex("c60701")  # mov byte [rdi], 1


def test_private_pages_that_nobody_touched_are_out_of_reach(trial: Trial, attack: Attack) -> None:
    """Private pages that nobody has touched yet are refused like all others, and get no frame by that."""
    with attack.pool.fresh() as host:  # on a shared one a sweep may have touched all
        results = on_each(host.guests, lambda guest: _try_pages(attack, host, guest))
        protected = opted_in(host.guest, results)
    trial.legitimate(*results, protected=protected)


def _try_pages(attack: Attack, host: Host, guest: Guest) -> list[Check]:
    pages = _pages_without_frame(host, guest)
    private = bool(guest.memory.mappings_with_flag("kp"))
    checks: list[Check] = []
    with attack.puppeteer(host) as puppeteer, puppeteer.inside(guest.pid) as qemu:
        attacker = puppeteer.spawn()
        for way, (reach, refused) in WAYS.items():
            for _ in range(PAGES_EACH_WAY):
                page = Target(guest.pid, 0, pages.pop(), 0)
                met = reach(qemu, attacker, page)
                checks.append(Check(f"{way} at {page.hva:#x}", refused if private else "done", met))
                framed = "none" if place(attacker, guest.pid, page.hva).frame is None else "one"
                checks.append(Check(f"its frame after {way}", "none" if private else "one", framed))
    return checks


def _pages_without_frame(host: Host, guest: Guest) -> list[int]:
    """Addresses in QEMU of pages of the guest that have no frame, as many as are tried; private ones if it has such.

    :raises ChannelError: it has touched too many.
    """
    first = guest.memory.addresses([0])[0].hva
    private = guest.memory.mappings_with_flag("kp")
    addresses = [
        address
        for number, mapping in enumerate(places(host.ssh, guest.pid, first, guest.spec.memory * MIB // PAGE_SIZE))
        if mapping.frame is None
        for address in [first + number * PAGE_SIZE]
        if not private or any(start <= address < end for start, end in private)
    ]
    count = PAGES_EACH_WAY * len(WAYS)
    if len(addresses) < count:
        raise ChannelError(f"guest {guest.spec.name} has only {len(addresses)} pages that nobody touched")
    upper = addresses[-max(count, len(addresses) // 2) :]  # a guest that runs on takes the lowest first
    return [upper[number * (len(upper) - 1) // (count - 1)] for number in range(count)]  # first and last among them


def _loads(qemu: Puppet, _: Puppet, page: Target) -> str:
    return _words(load(qemu, page.hva).done, page)


def _stores(qemu: Puppet, _: Puppet, page: Target) -> str:
    return _words(qemu.run(STORE, rdi=page.hva).as_a_load(), page)


def _writes(qemu: Puppet, _: Puppet, page: Target) -> str:
    probe = through(pipe, lambda who, into, address: who.syscall("write", into, address, PAGE_SIZE))
    return _words(probe(qemu, page).done, page)


def _populates(qemu: Puppet, _: Puppet, page: Target) -> str:
    return _words(qemu.syscall("madvise", page.hva, PAGE_SIZE, MADV_POPULATE_WRITE), page)


def _peeks(_: Puppet, attacker: Puppet, page: Target) -> str:
    here, there = attacker.iovec(attacker.memory(PAGE_SIZE), PAGE_SIZE), attacker.iovec(page.hva, PAGE_SIZE)
    return _words(attacker.syscall("process_vm_readv", page.qemu, here, 1, there, 1, 0), page)


def _words(done: Done, page: Target) -> str:
    """How a call or a piece of code ended."""
    if done.signal is None:
        return done.errno or "done"
    at = "at the page" if page.hva == done.si_addr else f"at {done.si_addr or 0:#x}"
    return f"{done.signal}, {done.si_code} {at}"


WAYS = {
    "load": (_loads, "SIGBUS, BUS_ADRERR at the page"),
    "store": (_stores, "SIGBUS, BUS_ADRERR at the page"),
    "write() to a pipe": (_writes, "EFAULT"),
    "MADV_POPULATE_WRITE": (_populates, "EINVAL"),
    "process_vm_readv()": (_peeks, "EFAULT"),
}
