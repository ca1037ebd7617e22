# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's requests cost its VMM: mappings, of which a process may have so many and no more."""

from __future__ import annotations

from dataclasses import replace

from host_setup.hosts.base import Host
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.each import attempt, result_of
from tests_e2e.support.tiny_vm import PRIVATE_AND_SHARED, run
from tests_e2e.support.watch import host_kernel

ROW, ADDED = "alternate", "mappings of the VMM that this added"
TWO_A_PAGE = hex(2 * 1000)


def test_sharing_every_second_page_splits_mappings_of_the_vmm(trial: Trial, host: Host) -> None:
    """A guest that shares every second of 2,000 pages adds two mappings for each to those of its VMM."""
    since = len(host.kernel_log())
    plain = run(host, ROW)
    if host.plain_guest is None:
        trial.legitimate([*plain, host_kernel(host, since)])
    else:
        tried = attempt(lambda: [_as_it_is(check) for way in PRIVATE_AND_SHARED for check in run(host, ROW, way)])
        trial.legitimate([*result_of(tried, "a protected guest", [plain]), host_kernel(host, since)], plain)


def _as_it_is(check: Check) -> Check:
    """The row says what would be right; here the state of a page is in its mapping's flags."""
    return replace(check, expected=TWO_A_PAGE) if ADDED in check.name else check
