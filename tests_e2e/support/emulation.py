# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that KVM's emulator carries out in a guest, each compared with the processor's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks, seed, works

DEVICE = "device"


def emulated(claim: Trial, host: Host, family: str, *sizes: int, where: str = "") -> None:
    """Have it judged whether KVM emulates a family of instructions, by size of operand, as the processor runs it.

    :param family: of guest_images/programs/emulated_instructions.h. :param sizes: bytes.
    :param where: ``DEVICE``: with one operand there; else on private pages, and on shared ones.
    """
    same = seed()
    works(
        claim,
        host,
        lambda guest: [check for size in sizes for check in _one_size(host, guest, family, size, same, where)],
    )


@contextlib.contextmanager
def _alone(host: Host, guest: Guest) -> Iterator[None]:
    """Have the host's other guests stand still.

    A locked instruction across pages, which the processor runs as well, makes QEMU's emulation stop all other CPUs for
    it. One that has just begun to run a guest with an interrupt injected delivers that interrupt twice, whatever the
    guest's interrupt flag (target/i386/tcg/system/svm_helper.c helper_vmrun() leaves exception_index set, and
    accel/tcg/cpu-exec.c takes it for new): a warning of the guest's kernel, or a guest that stalls.
    """
    others = [one for one in host.guests if one.spec.name != guest.spec.name]
    try:
        for one in others:
            one.qmp.execute("stop")
        yield
    finally:
        for one in others:
            one.qmp.execute("cont")


def _one_size(host: Host, guest: Guest, family: str, size: int, of_seed: str, where: str) -> list[Check]:
    before = guest.exits()
    with _alone(host, guest):  # for each size anew: one that stands still for long counts as stalled
        *found, cases = checks(guest, "check_emulation", family, str(size), of_seed, *([where] if where else []))
    after = guest.exits()
    # KVM emulates more in the meantime: whatever else it has to fetch the guest's instructions for.
    grown = [_grew("instructions that KVM itself has counted", cases.expected, after.emulated - before.emulated)]
    if where == DEVICE:
        grown.append(_grew("exits to a device", cases.expected, after.device - before.device))
    return [*found, replace(cases, name=f"{cases.name}, of {size} bytes, seed {of_seed}"), *grown]


def _grew(name: str, expected: str, by: int) -> Check:
    words = f"at least {expected}"
    return Check(name, words, words if by >= int(expected) else str(by))
