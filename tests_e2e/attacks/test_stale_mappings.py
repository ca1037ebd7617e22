# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by a CPU that still has the mapping of a page that has become private."""

from __future__ import annotations

from tests_e2e.support.attack import Attack
from tests_e2e.support.tlb import attack_around_the_change, read_all_along, read_on_each_cpu


def test_no_cpu_can_read_page_that_became_private(attack: Attack) -> None:
    """No CPU of the host can read a page that its guest has made private, though each has read it just before."""
    attack_around_the_change(attack, attack.host, "read on each CPU", read_on_each_cpu)


def test_no_cpu_keeps_access_to_page_that_becomes_private(attack: Attack) -> None:
    """A CPU that reads a page without a break loses it when the guest makes it private: no TLB keeps the mapping."""
    attack_around_the_change(attack, attack.host, "reads without a break", read_all_along)
