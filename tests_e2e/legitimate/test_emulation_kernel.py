# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM reads and writes of the guest's memory for its kernel, and of its code."""

from __future__ import annotations

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.checks import checks, seed, works


def test_guest_string_input_and_output_is_carried_out(trial: Trial, host: Host) -> None:
    """What the guest's kernel moves between memory and ports by rep ins and rep outs arrives as it must."""
    works(trial, host, lambda guest: checks(guest, "check_ports", seed(), seconds=60))


def test_guest_hypercall_of_the_other_vendor_is_refused_in_ring_3(trial: Trial, host: Host) -> None:
    """KVM refuses ring 3 the hypercall instruction of the other vendor with #GP, and leaves the guest's code alone."""
    works(trial, host, lambda guest: checks(guest, "check_code", "hypercall"))


def test_guest_instruction_is_skipped(trial: Trial, host: Host) -> None:
    """The guest goes on right behind an instruction that KVM carried out, whose length KVM reads in its code."""
    works(trial, host, lambda guest: checks(guest, "check_code", "skip"))
