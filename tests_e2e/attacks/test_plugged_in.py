# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that is plugged into a running guest: pages above 4 GiB."""

from __future__ import annotations

from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.extra import standing
from tests_e2e.support.memory import PLUGGED_AT, plug_in, put_in_use, with_a_place
from tests_e2e.support.registers import judge_each
from tests_e2e.support.sweep import checks, sweep, witnesses

SOME_BYTES = 64  # of each page, to tell whether it can be read


def test_guest_shares_pages_above_4_gib(claim: Trial, pool: HostPool) -> None:
    """Of pages above 4 GiB the host reads exactly those that the guest has shared, and none below instead."""
    with standing(pool, with_a_place) as host:
        found: list[list[Check]] = []
        for guest in host.guests:
            plug_in(guest)
            put_in_use(guest, "online_kernel")
            aimed = Attack.aim(guest)
            kinds = [(one.planted.kind, one.planted.set) for one in aimed]
            above = [(one.planted.kind, one.planted.set) for one in aimed if one.target.gpa >= PLUGGED_AT]
            one, printed = sweep(host, guest, "process_vm_readv", SOME_BYTES)
            claim.attach(f"{guest.spec.name}.json", printed)
            found.append(
                [
                    Check("canaries above 4 GiB", str(kinds), str(above)),
                    *checks(one, "EFAULT", physical=False),
                    *witnesses(guest, aimed, one),
                ]
            )
        judge_each(claim, host, found)
