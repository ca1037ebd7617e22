# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests beside the standing ones: of another shape, or with a life of their own, on a pristine host."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from common.errors import DeadlineError, MachineLostError
from common.waiting import Deadline
from host_setup.hosts import kernel_log
from host_setup.hosts.base import Host
from host_setup.hosts.guest import PLAIN, PROTECTED, Guest, GuestSpec
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.watch import watched

BOOTS = 2  # tried
BOOT = 240.0  # seconds that a boot may take on a slow, busy machine
PORTS = 10  # the extra guests' are so much higher


def works_beside(
    claim: Trial,
    host: Host,
    pool: HostPool,
    shape: Callable[[GuestSpec], GuestSpec],
    look: Callable[[Guest], list[Check]],
    prepare: Callable[[Host], object] = lambda _: None,
    *,
    refused: bool = False,
) -> None:
    """Have it judged whether what ``look`` finds is right in a guest of that shape, and in a plain one beside it.

    Both are watched from their start on.

    :param host: tells whether there is a guest to be protected. :param prepare: does it to the pristine host.
    :param refused: the guest asks for protection and must not get it.
    """
    specs = [PLAIN] if host.plain_guest is None else [PROTECTED, PLAIN]

    def whole_life(guest: Guest) -> list[Check]:
        guest.wait_for_boot(1, Deadline(BOOT))
        return look(guest)

    for left in reversed(range(BOOTS)):
        with pool.fresh() as fresh, contextlib.ExitStack() as stack:
            # These guests use little of their memory, and the host has not much more than one of them may have.
            fresh.ssh.run(["sh", "-c", "echo 1 > /proc/sys/vm/overcommit_memory"], seconds=20).require()
            prepare(fresh)
            guests = [stack.enter_context(fresh.extra_guest(beside(shape(spec)))) for spec in specs]
            if left and (trouble := _lost_at_boot(guests)):
                warnings.warn(f"guests did not boot, which is tried again: {trouble}", stacklevel=2)
                continue
            with ThreadPoolExecutor(len(guests)) as side_by_side:
                watch = partial(watched, fresh, look=whole_life, from_start=True)
                found = list(side_by_side.map(watch, guests))
            if len(guests) == 1:
                claim.legitimate(found[0])
            else:
                claim.legitimate(*found, protected=None if refused else guests[0].protected)
            return


def _lost_at_boot(guests: Sequence[Guest]) -> str:
    """How one of them was lost, by no kernel's complaint: the emulation of nested guests loses one now and then."""
    try:
        for guest in guests:
            guest.wait_for_boot(1, Deadline(BOOT))
    except (MachineLostError, DeadlineError) as error:
        return "" if kernel_log.splats(str(error)) else str(error)
    return ""


def beside(spec: GuestSpec) -> GuestSpec:
    """The same for one more guest: with a name and ports of its own."""
    ports = {"ssh_port": spec.ssh_port + PORTS, "qmp_port": spec.qmp_port + PORTS}
    return replace(spec, name=f"another-{spec.name}", **ports)
