# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether host and guests came through all that was tried. These run last."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import DeadlineError
from common.waiting import Deadline, poll_until
from host_setup.hosts import kernel_log
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.inquest import BEAT
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks

pytestmark = pytest.mark.whole_run


@pytest.mark.quick
def test_host_kernel_stays_healthy(trial: Trial, pool: HostPool) -> None:
    """The host's kernel reports no warning, bug, oops or stall from its first line to the end of the run."""
    pool.shared_host()  # a run of this claim alone has a host to judge, too
    log = pool.kernel_logs()
    trial.attach("console.log", log)
    splats = kernel_log.splats(log)
    trial.health(
        [
            Check.that("the log is there", "Linux version" in log),
            Check.none("splats", splats),
            Check.none("machines that came to harm by a probe", [words.partition("\n")[0] for words in pool.harm]),
        ]
    )


@pytest.mark.quick
def test_guest_does_not_stall(trial: Trial, pool: HostPool) -> None:
    """Each guest answers and its clock advances after all that was tried, and its kernel reports no stall."""
    host = pool.shared_host()
    results = [check for guest in host.guests for check in _well(trial, host, guest)]
    trial.health([*results, Check.none("guests lost during the run", pool.lost)])


def _well(trial: Trial, host: Host, guest: Guest) -> list[Check]:
    """Whether a guest is well: its log, its clock, its heartbeat."""
    name = guest.spec.name
    # From its first line on: the guest is the one that was booted for the saved state.
    log = guest.ssh.run(["dmesg"], seconds=20).require().text
    trial.attach(f"guest-{name}-dmesg.log", log)
    before = host.beats(name)
    results = [
        Check.that("the log is there", "Linux version" in log),
        Check.none("splats", kernel_log.splats(log)),
        *checks(guest, "check_clock"),
        Check.that("its heart beats", _beats_on(host, name, before)),
    ]
    return [replace(check, name=f"{name}: {check.name}") for check in results]


def _beats_on(host: Host, name: str, before: int) -> bool:
    """Whether a guest's heart beat again since, or does so soon."""
    try:
        poll_until(lambda: host.beats(name) > before, Deadline(BEAT), f"a heartbeat of guest {name}")
    except DeadlineError:
        return False
    return True
