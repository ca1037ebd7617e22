# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that start again: by themselves, by QEMU, and by a kernel that starts another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from common.waiting import Deadline
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from host_setup.hosts.reboots import reboot_in_a_row
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import well, works
from tests_e2e.support.extra import BOOT, open_registers, standing, works_at_once
from tests_e2e.support.kexec import kexec, with_its_kernel
from tests_e2e.support.memory import check_kept_out

# The first start, a reboot, and a reboot after a reboot, twice. `sealproof soak` does many.
REBOOTS = 4
RESETS = 2


@pytest.fixture(scope="module")
def restarting_host(pool: HostPool) -> Iterator[Host]:
    """Guests that start again when they are reset, with a kernel and its initramfs on their disks."""
    with standing(pool, lambda spec: replace(with_its_kernel(spec), reboots=True)) as guests:
        yield guests


def test_guest_survives_its_own_reboots(trial: Trial, restarting_host: Host) -> None:
    """A guest that reboots four times comes up each time as it was: opted in, and well in the end."""

    def look(guest: Guest) -> list[Check]:
        starts = reboot_in_a_row(guest, REBOOTS, Deadline(REBOOTS * BOOT))
        expected = [(reboots, guest.spec.opts_in) for reboots in range(REBOOTS - 2, -1, -1)]
        return [Check("each start but the last: reboots left, opted in", str(expected), str(starts)), *well(guest)]

    works_at_once(trial, restarting_host, look)


def test_guest_survives_system_reset(trial: Trial, restarting_host: Host) -> None:
    """A guest that QEMU resets, again and again, comes up each time as it was: opted in and well."""
    _starts_again(trial, restarting_host, lambda guest: guest.qmp.execute("system_reset"), times=RESETS)


def test_guest_with_open_registers_survives_system_reset(trial: Trial, pool: HostPool) -> None:
    """A guest that keeps its memory private alone, and not its registers, comes up when QEMU has reset it."""
    with standing(pool, lambda spec: replace(open_registers(spec), reboots=True)) as guests:
        _starts_again(trial, guests, lambda guest: guest.qmp.execute("system_reset"), times=1)


def test_guest_survives_kexec(trial: Trial, restarting_host: Host) -> None:
    """A guest that starts another kernel from its own (kexec) comes up as it was: opted in and well."""
    _starts_again(trial, restarting_host, lambda guest: kexec(restarting_host, guest), times=1)


def test_host_reads_no_page_but_shared_ones_after_kexec(trial: Trial, restarting_host: Host) -> None:
    """Of a guest that started another kernel from its own the host reads exactly what the new kernel has shared."""

    def look(guest: Guest) -> list[Check]:
        _start(guest, lambda: kexec(restarting_host, guest))
        return check_kept_out(restarting_host, guest, trial)

    works(trial, restarting_host, look)


def test_host_reads_no_page_but_shared_ones_after_system_reset(trial: Trial, restarting_host: Host) -> None:
    """Of a guest that QEMU has reset the host reads exactly what the guest's kernel has shared since."""

    def look(guest: Guest) -> list[Check]:
        _start(guest, lambda: guest.qmp.execute("system_reset"))
        return check_kept_out(restarting_host, guest, trial)

    works(trial, restarting_host, look)


def _start(guest: Guest, again: Callable[[], object]) -> None:
    """Have a guest start again, and wait until it is up."""
    before = guest.boots()
    again()
    guest.close()  # nothing answers on the old connections
    guest.wait_for_boot(before + 1, Deadline(BOOT))


def _starts_again(trial: Trial, host: Host, again: Callable[[Guest], object], *, times: int) -> None:
    """Have it judged whether each guest works after each of several new starts.

    :param again: starts it again.
    """

    def look(guest: Guest) -> list[Check]:
        results: list[Check] = []
        for number in range(1, times + 1):
            _start(guest, lambda: again(guest))
            results += [replace(check, name=f"start {number}: {check.name}") for check in well(guest)]
        return results

    works_at_once(trial, host, look)
