# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host learns of a protected guest without a byte of its pages: which it has, and where they are."""

from __future__ import annotations

from host_setup.channels.puppets import Puppet
from host_setup.channels.uapi import Method
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Aimed, Attack
from tests_e2e.support.attack_module import attack_by_module
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.pagemap import place, places

MIB = 1 << 20


def test_host_learns_which_pages_a_guest_has(trial: Trial, attack: Attack) -> None:
    """The host learns which pages a guest has, and in which of its frames each lies (/proc/PID/pagemap)."""
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:  # on a shared one a sweep may have used all
        process = puppeteer.spawn()
        _judge(trial, host, on_each(host.guests, lambda guest: _places_told(host, process, guest)))


def _judge(trial: Trial, host: Host, results: list[list[Check]]) -> None:
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def _aim(guest: Guest) -> list[Aimed]:
    return Attack.aim(guest, [UNDER_TEST])


def _places_told(host: Host, process: Puppet, guest: Guest) -> list[Check]:
    """Whether the frame that the host is told holds the canary, as a new mapping of it shows."""
    checks: list[Check] = []
    for aimed in _aim(guest):
        frame = place(process, guest.pid, aimed.target.hva).frame
        there = b"" if frame is None else attack_by_module(process, Method.VMAP_READ, frame * PAGE_SIZE, PAGE_SIZE)[1]
        count = Canary(aimed.planted.content).count_leaked(there)
        checks.append(Check(f"bytes of the {aimed.planted.kind} canary in the frame told", str(PAGE_SIZE), str(count)))
    first, pages = guest.memory.addresses([0])[0].hva, guest.spec.memory * MIB // PAGE_SIZE
    absent = sum(place.frame is None for place in places(host.ssh, guest.pid, first, pages))
    return [*checks, Check.that("it tells which pages the guest never used", 0 < absent < pages)]
