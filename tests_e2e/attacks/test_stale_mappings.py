# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by a CPU that still has the mapping of a page that has become private, or of memory that a guest has got."""

from __future__ import annotations

from common.errors import DeadlineError
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.blocks import Blocks
from tests_e2e.support.each import on_each
from tests_e2e.support.frame_owners import is_private_frame
from tests_e2e.support.guest_frames import frames_of
from tests_e2e.support.memory import shell
from tests_e2e.support.tlb import (
    attack_around_the_change,
    online_cpus,
    read_all_along,
    read_on_each_cpu,
    read_until_a_guest_has_it,
    without_processes,
)

TRIES = 3
NEW = 32  # MiB that a guest uses for the first time, at each try: of 208 it has used some 50
BLOCKS = 8  # of 2 MiB, fewer than that


def test_no_cpu_can_read_page_that_became_private(attack: Attack) -> None:
    """No CPU of the host can read a page that its guest has made private, though each has read it just before."""
    attack_around_the_change(attack, attack.host, "read on each CPU", read_on_each_cpu)


def test_no_cpu_keeps_access_to_page_that_becomes_private(attack: Attack) -> None:
    """A CPU that reads a page without a break loses it when the guest makes it private: no TLB keeps the mapping."""
    attack_around_the_change(attack, attack.host, "reads without a break", read_all_along)


def test_no_cpu_keeps_access_to_memory_that_a_guest_gets_later(trial: Trial, pool: HostPool) -> None:
    """A CPU that reads free memory of the kernel's all the time loses it when that is given to a guest."""
    _judge_stale_read(trial, pool, small=False)


def test_no_cpu_keeps_access_to_memory_in_small_entries_that_a_guest_gets_later(trial: Trial, pool: HostPool) -> None:
    """A CPU that reads memory that the direct map has in entries of 4 KiB loses it when that is given to a guest."""
    _judge_stale_read(trial, pool, small=True)


def _judge_stale_read(trial: Trial, pool: HostPool, *, small: bool) -> None:
    with pool.fresh() as host:
        protected = host.guest.protected if host.plain_guest is not None else None
        results = on_each(host.guests, lambda guest: _check_stale_read(host, guest, small=small))
    trial.legitimate(*results, protected=protected)


def _check_stale_read(host: Host, guest: Guest, *, small: bool) -> list[Check]:
    """Have a guest be given the very memory that a CPU reads.

    A plain guest takes what the kernel gives to everybody. That it is this memory is of no interest there: the CPU
    keeps what it reads in any case.
    """
    *others, cpu = online_cpus(host.ssh)
    with without_processes(host.ssh, cpu, others), Attack.puppeteer(host) as puppeteer:
        for number in range(TRIES):
            attacker = puppeteer.spawn()
            blocks = Blocks(host.ssh, attacker, BLOCKS)
            frame, done, data = read_until_a_guest_has_it(
                attacker,
                blocks,
                cpu,
                others,
                lambda frame: _use_new_memory(host, guest, number, frame),  # noqa: B023
                small=small,
            )
            if not guest.protected or frame // PAGE_SIZE in frames_of(host, guest).private:
                break
        else:
            raise DeadlineError(f"in {TRIES} tries the guest was not given the memory that was read")
    return [
        Check("the last read of the memory", "EFAULT" if guest.protected else "read", done.errno or "read"),
        Check("bytes of it", str(0 if guest.protected else PAGE_SIZE), str(len(data))),
    ]


def _use_new_memory(host: Host, guest: Guest, number: int, frame: int) -> None:
    """Have a guest use new memory, a protected one until it has the frame: with its next block all TLBs are flushed."""
    for step in range(NEW):
        shell(guest, f"dd if=/dev/zero of=/run/new-{number}-{step} bs=1M count=1 2> /dev/null")
        if guest.protected and is_private_frame(host.ssh, frame // PAGE_SIZE):
            break
