# SPDX-License-Identifier: GPL-2.0-or-later
"""Every page frame of a guest, and who maps it: seen from outside in all page tables of the host, nested ones too."""

from __future__ import annotations

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.direct_map import direct_map
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.guest_frames import frames_of
from tests_e2e.support.holders import checks, counts, holders_of
from tests_e2e.support.outside import outside

TOUCH = ["dd", "if=/dev/zero", "of=/dev/null", "bs=32M", "count=1"]
"""Has a guest use 8192 pages: what was tried before may have left its nested page tables empty."""


def test_private_pages_are_mapped_by_their_own_guest_alone(trial: Trial, host: Host) -> None:
    """Of all page tables of the host a private page is in its own guest's nested ones alone, and there at its place."""
    outside(host)
    for guest in host.guests:
        guest.ssh.run(TOUCH, seconds=60).require()
    before = {guest.spec.name: frames_of(host, guest) for guest in host.guests}
    holders = holders_of(host, before)
    still = {guest.spec.name: before[guest.spec.name].still(frames_of(host, guest)) for guest in host.guests}
    trial.attach("holders.txt", "\n".join(counts(name, still, holders) for name in still))
    layout = direct_map(host.ssh)
    results = on_each(host.guests, lambda guest: checks(guest.spec.name, still, guest.spec.cpus, layout, holders))
    trial.legitimate(*results, protected=opted_in(host.guest, results))
