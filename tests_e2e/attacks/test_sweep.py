# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on every page of a guest's memory: what can be read must be exactly what the guest has shared."""

from __future__ import annotations

from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.sweep import exactly_what_is_shared

CACHE_LINE = 64


def test_host_reads_no_page_but_shared_ones_by_process_vm_readv(claim: Trial, attack: Attack) -> None:
    """Of all pages of a guest the host can read by process_vm_readv() exactly those that the guest has shared."""
    exactly_what_is_shared(claim, attack, "process_vm_readv", "EFAULT")


def test_host_reads_no_page_but_shared_ones_by_proc_pid_mem(claim: Trial, attack: Attack) -> None:
    """Of all pages of a guest the host can read through /proc/PID/mem exactly those that the guest has shared."""
    exactly_what_is_shared(claim, attack, "proc_pid_mem", "EIO", size=CACHE_LINE)


def test_kernel_reads_no_page_but_shared_ones_by_direct_map(claim: Trial, attack: Attack) -> None:
    """Of all pages of a guest the host's kernel can read in its direct map exactly those that the guest has shared."""
    exactly_what_is_shared(claim, attack, "direct_map", "EFAULT", size=CACHE_LINE, physical=True)
