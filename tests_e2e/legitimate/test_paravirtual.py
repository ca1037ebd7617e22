# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM and the guest tell each other through memory: on pages that are shared, and on private ones."""

from __future__ import annotations

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.checks import checks, works


def test_guest_uses_paravirtual_features(claim: Trial, host: Host) -> None:
    """The guest is offered kvmclock, steal time, paravirtual end of interrupt and page faults, and uses them."""
    works(claim, host, lambda guest: checks(guest, "check_paravirt", "features"))


def test_guest_wall_clock_is_written_where_it_asks(claim: Trial, host: Host) -> None:
    """KVM writes the time of day into the page that the guest names, a shared or a private one."""
    works(claim, host, lambda guest: checks(guest, "check_paravirt", "wall-clock"))


def test_guest_system_time_is_kept_on_shared_pages_alone(claim: Trial, host: Host) -> None:
    """KVM keeps the system time in a shared page, and leaves a private one alone, without harm to anybody."""
    works(claim, host, lambda guest: checks(guest, "check_paravirt", "system-time"))


def test_guest_steal_time_is_kept_on_shared_pages_alone(claim: Trial, host: Host) -> None:
    """KVM keeps the stolen time in a shared page, and leaves a private one alone, without harm to anybody."""
    works(claim, host, lambda guest: checks(guest, "check_paravirt", "steal-time"))
