# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that KVM's emulator carries out in a guest, each compared with the processor's own."""

from __future__ import annotations

from dataclasses import replace

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks, seed
from tests_e2e.support.extra import works_at_once

DEVICE = "device"


def judge_emulation(trial: Trial, host: Host, family: str, *sizes: int, where: str = "") -> None:
    """Have it judged whether KVM emulates a family of instructions, by size of operand, as the processor runs it.

    :param family: of guest_images/programs/emulated_instructions.h. :param sizes: bytes.
    :param where: ``DEVICE``: with one operand there; else on private pages, and on shared ones.
    """
    same = seed()
    works_at_once(
        trial, host, lambda guest: [check for size in sizes for check in _one_size(guest, family, size, same, where)]
    )


def _one_size(guest: Guest, family: str, size: int, of_seed: str, where: str) -> list[Check]:
    before = guest.memory.exits()
    *results, cases = checks(guest, "check_emulation", family, str(size), of_seed, *([where] if where else []))
    after = guest.memory.exits()
    # KVM emulates more in the meantime: whatever else it has to fetch the guest's instructions for.
    grown = [_grew("instructions that KVM itself has counted", cases.expected, after.emulated - before.emulated)]
    if where == DEVICE:
        grown.append(_grew("exits to a device", cases.expected, after.device - before.device))
    return [*results, replace(cases, name=f"{cases.name}, of {size} bytes, seed {of_seed}"), *grown]


def _grew(name: str, expected: str, by: int) -> Check:
    words = f"at least {expected}"
    return Check(name, words, words if by >= int(expected) else str(by))
