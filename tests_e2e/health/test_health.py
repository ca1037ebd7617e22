# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether host and guest came through all that was tried. These run last."""

from __future__ import annotations

import pytest

from host_setup.hosts import kernel_log
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks

pytestmark = pytest.mark.whole_run


def test_host_kernel_stays_healthy(claim: Trial, pool: HostPool) -> None:
    """The host's kernel reports no warning, bug, oops or stall from its first line to the end of the run."""
    pool.shared()  # a run of this claim alone has a host to judge, too
    log = pool.kernel_logs()
    claim.attach("console.log", log)
    splats = kernel_log.splats(log)
    claim.health([Check("the log is there", "true", str("Linux version" in log).lower()), _none("splats", splats)])


def test_guest_does_not_stall(claim: Trial, pool: HostPool) -> None:
    """The guest answers and its clock advances after all that was tried, and its kernel reports no stall."""
    host = pool.shared()
    # From its first line on: the guest is the one that was booted for the saved state.
    log = host.guest.ssh.run(["dmesg"], seconds=20).require().text
    claim.attach("guest-dmesg.log", log)
    claim.health(
        [
            Check("the log is there", "true", str("Linux version" in log).lower()),
            *checks(host.guest, "check_clock"),
            _none("splats", kernel_log.splats(log)),
            _none("guests lost during the run", pool.lost),
        ]
    )


def _none(name: str, found: list[str]) -> Check:
    return Check(name, "none", "; ".join(found) or "none")
