# SPDX-License-Identifier: GPL-2.0-or-later
"""An attack on what a guest believes of its host: that one of its processors does not run, and need flush no TLB.

KVM tells so in a page that the guest shares (steal time). A guest that believes it sends that processor no interrupt,
and asks its host to flush. A host that never does keeps translations alive to pages that have become somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_PROGRAMS, HOST_PROGRAMS
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Check
from signoff.trial import Trial
from tests_e2e.support.each import on_each
from tests_e2e.support.extra import standing
from tests_e2e.support.memory import shell
from tests_e2e.support.registers import judge_each

ROUNDS = 1000  # pages that are unmapped
ENOUGH = ROUNDS // 2  # interrupts: a processor that is about to go to the kernel flushes by itself
TIMEOUT = 60.0
FEATURE = "KVM setup pv remote TLB flush"


@pytest.fixture
def twins(pool: HostPool) -> Iterator[Host]:
    """Guests with two processors."""
    with standing(pool, lambda spec: replace(spec, cpus=2)) as guests:
        yield guests


def test_host_cannot_keep_a_guest_from_flushing_its_tlbs(trial: Trial, twins: Host) -> None:
    """A host that says of a processor that it does not run does not keep its guest from having that flush its TLB."""
    judge_each(trial, twins, on_each(twins.guests, lambda guest: _check_unmap(twins, guest)))


def _check_unmap(host: Host, guest: Guest) -> list[Check]:
    """Have one processor unmap pages while the host says that the other one does not run."""
    where = _read_numbers(guest, "unmap_beside")["steal_time"]
    (page,) = guest.memory.addresses([where // PAGE_SIZE * PAGE_SIZE])
    program = [f"{HOST_PROGRAMS}/say_preempted", str(guest.pid), hex(page.hva + where % PAGE_SIZE)]
    with closing(host.ssh.converse(program, seconds=TIMEOUT)) as talk:
        talk.line(seconds=TIMEOUT)
        interrupts = _read_numbers(guest, "unmap_beside", str(ROUNDS))["interrupts"]
        talk.ask("end", seconds=TIMEOUT)
    believes = str(not guest.protected)
    return [
        Check("the guest has it from its host", believes, str(FEATURE in shell(guest, "dmesg"))),
        Check(
            f"of {ROUNDS} pages, the other processor is interrupted for {ENOUGH} at least",
            str(guest.protected),
            str(interrupts >= ENOUGH),
        ),
    ]


def _read_numbers(guest: Guest, program: str, *words: str) -> dict[str, int]:
    numbers: dict[str, int] = json.loads(
        guest.ssh.run([f"{GUEST_PROGRAMS}/{program}", *words], seconds=TIMEOUT).require().text
    )
    return numbers
