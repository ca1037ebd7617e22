# SPDX-License-Identifier: GPL-2.0-or-later
"""A look at the kernel's page tables: what they do not map, no load in the kernel can reach."""

from __future__ import annotations

from signoff.observation import Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Aimed, Attack, pages_of
from tests_e2e.support.direct_map import DirectMap, direct_map
from tests_e2e.support.page_tables import PageTables, page_tables

HOLE, MAPPED = "a hole", "mapped"


def test_private_pages_are_holes_in_the_direct_map(trial: Trial, attack: Attack) -> None:
    """The host's page tables have a hole where a private page of a guest was, and map those that it shares."""
    host = attack.host
    aims = [(guest, aim) for guest, sets in pages_of(host) for aim in attack.aim(guest, sets)]
    tables, layout = page_tables(host.ssh), direct_map(host.ssh)
    checks = [(aim.planted.set == UNDER_TEST, _check(guest.spec.name, aim, tables, layout)) for guest, aim in aims]
    control = [check for under_test, check in checks if not under_test]
    trial.legitimate([check for under_test, check in checks if under_test], control, protected=host.guest.protected)


def _check(guest: str, aimed: Aimed, tables: PageTables, layout: DirectMap) -> Check:
    planted = aimed.planted
    return Check(
        f"the {planted.state} {planted.kind} page of guest {guest} at host-physical {aimed.target.hpa:#x}",
        HOLE if planted.state == State.PRIVATE else MAPPED,
        MAPPED if tables.maps(layout.address(aimed.target.hpa)) else HOLE,
    )
