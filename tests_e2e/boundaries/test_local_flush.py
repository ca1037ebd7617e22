# SPDX-License-Identifier: GPL-2.0-or-later
"""What the RFC's own way of flushing leaves open: only the CPU on which the guest asked forgets the direct map."""

from __future__ import annotations

from tests_e2e.support.attack import Attack
from tests_e2e.support.tlb import attack_around_the_change, read_all_along

LOCAL_FLUSH = "protected_guest_mem.local_flush=1"


def test_local_flush_leaves_other_cpus_access_to_page_that_becomes_private(attack: Attack) -> None:
    """With the RFC's local flush another CPU that has read a page reads it on after the guest has made it private."""
    with attack.pool.booted(LOCAL_FLUSH) as host:
        attack_around_the_change(attack, host, "reads without a break, local flush", read_all_along)
