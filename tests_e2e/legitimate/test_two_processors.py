# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests with two processors, which both work on memory that is protected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks, well, works
from tests_e2e.support.extra import standing, works_at_once
from tests_e2e.support.memory import shell

ROUNDS = 200_000  # of each of five kinds of operand: a million
EMULATED = 2_000  # at least, of each


@pytest.fixture(scope="module")
def twins(pool: HostPool) -> Iterator[Host]:
    """Guests with two processors."""
    with standing(pool, lambda spec: replace(spec, cpus=2)) as guests:
        yield guests


def test_guest_with_two_cpus_works(trial: Trial, twins: Host) -> None:
    """A guest with two processors boots, opts in, and works on each of them, taken away and brought back, too."""

    def check(guest: Guest) -> list[Check]:
        cpu = "/sys/devices/system/cpu/cpu1/online"
        results = [Check("processors", "2", shell(guest, "nproc"))]
        for _ in range(3):
            results.append(Check("processors when one is off", "1", shell(guest, f"echo 0 > {cpu} && nproc")))
            results.append(Check("processors when it is on again", "2", shell(guest, f"echo 1 > {cpu} && nproc")))
            results += checks(guest, "check_clock", "kvm-clock", cpu=1)
        return [*results, *well(guest)]

    works_at_once(trial, twins, check)


def test_guest_uses_paravirtual_features_on_each_processor(trial: Trial, twins: Host) -> None:
    """Each processor of a guest uses kvmclock, steal time, paravirtual end of interrupt and page faults."""

    def check(guest: Guest) -> list[Check]:
        return [
            replace(check_, name=f"processor {cpu}: {check_.name}")
            for cpu in range(guest.spec.cpus)
            for check_ in checks(guest, "check_paravirt", "features", cpu=cpu)
        ]

    works(trial, twins, check)


def test_guest_atomics_lose_nothing_to_the_emulator(trial: Trial, twins: Host) -> None:
    """Locked instructions on one CPU and emulated ones on another lose nothing in a million rounds."""
    works(trial, twins, lambda guest: checks(guest, "check_atomic", str(ROUNDS), str(EMULATED), seconds=120))
