# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on every page of a guest's memory: what can be read must be exactly what the guest has shared."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import partial

from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_PROGRAMS
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.guest_frames import runs
from tests_e2e.support.kernel_sharing import of_its_kernel, symbols_of
from tests_e2e.support.loads import loads_of_each
from tests_e2e.support.memory import shell
from tests_e2e.support.sweep import (
    bounce_buffers,
    by_loads,
    check_shared_is_little,
    check_shares,
    checks,
    exactly_what_is_shared,
    sweep,
    witnesses,
)

CACHE_LINE = 64
LIVES = 600  # seconds that memory is shared at most
TIMEOUT = 60.0


def test_qemu_loads_from_no_page_but_shared_ones(trial: Trial, attack: Attack) -> None:
    """Of all pages of its guest QEMU can load from exactly those that the guest has shared."""
    host = attack.host
    with attack.puppeteer(host) as puppeteer:

        def look(guest: Guest) -> list[Check]:
            loaded = by_loads(host, guest, partial(_loads, puppeteer, guest.pid), trial)
            return checks(loaded, "SIGBUS", physical=False)

        results = on_each(host.guests, look)
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def _loads(puppeteer: Puppeteer, pid: int, address: Mapping[int, int]) -> dict[int, str | None]:
    """What a load of each page of a guest met in its QEMU, by guest-physical address."""
    with puppeteer.inside(pid) as qemu:
        return {
            gpa: load
            for gpas, first in runs(address)
            for gpa, load in zip(gpas, loads_of_each(qemu, first, len(gpas)), strict=True)
        }


def test_host_reads_no_page_but_shared_ones_by_process_vm_readv(trial: Trial, attack: Attack) -> None:
    """Of all pages of a guest the host can read by process_vm_readv() exactly those that the guest has shared."""
    exactly_what_is_shared(trial, attack, "process_vm_readv", "EFAULT")


def test_guest_that_takes_back_parts_knows_what_it_still_shares(trial: Trial, attack: Attack) -> None:
    """A guest that has taken back both ends of what it shared at once has all the rest in its account, and KVM too."""

    def look(guest: Guest) -> list[Check]:
        with _parts_shared(guest) as count:
            swept = sweep(attack.host, guest, "process_vm_readv", CACHE_LINE, keep=trial)
            bounced = bounce_buffers(shell(guest, "dmesg")) if guest.protected else ()
            return [
                *checks(swept, "EFAULT", physical=False),
                *witnesses(guest, (), swept),
                *check_shares(swept, bounced, count),
            ]

    results = on_each(attack.host.guests, look)
    trial.legitimate(*results, protected=opted_in(attack.host.guest, results))


@contextlib.contextmanager
def _parts_shared(guest: Guest) -> Iterator[int]:
    """Has a guest share free memory, without both ends of each block: how many pages."""
    shell(guest, f"{GUEST_PROGRAMS}/share_free {LIVES} 1 > /run/parts 2>&1 & echo $! > /run/sharer")
    try:
        poll_until(
            lambda: "shared" in shell(guest, "cat /run/parts"),
            Deadline(TIMEOUT),
            "free memory to be shared",
            explain=lambda: shell(guest, "cat /run/parts"),
        )
        yield int(json.loads(shell(guest, "cat /run/parts"))["shared"])
    finally:
        shell(guest, "kill $(cat /run/sharer); rm /run/parts /run/sharer")


def test_host_reads_no_page_but_shared_ones_by_proc_pid_mem(trial: Trial, attack: Attack) -> None:
    """Of all pages of a guest the host can read through /proc/PID/mem exactly those that the guest has shared."""
    exactly_what_is_shared(trial, attack, "proc_pid_mem", "EIO", size=CACHE_LINE)


def test_kernel_reads_no_page_but_shared_ones_by_direct_map(trial: Trial, attack: Attack) -> None:
    """Of all pages of a guest the host's kernel can read in its direct map exactly those that the guest has shared."""
    exactly_what_is_shared(trial, attack, "direct_map", "EFAULT", size=CACHE_LINE, physical=True)


def test_kernel_reads_no_page_but_shared_ones_by_kmap_local(trial: Trial, attack: Attack) -> None:
    """Nor does kmap_local_page() lead the host's kernel to another page than those that the guest has shared."""
    exactly_what_is_shared(trial, attack, "kmap_local", "EFAULT", size=CACHE_LINE, physical=True)


def test_guest_shares_no_more_than_it_needs(trial: Trial, attack: Attack) -> None:
    """Beside the buffers that its devices' data bounce through a guest shares a hundredth of its memory at most."""

    def look(guest: Guest) -> list[Check]:
        result = sweep(attack.host, guest, "process_vm_readv", CACHE_LINE, keep=trial)
        bounced = frozenset(bounce_buffers(shell(guest, "dmesg"))) if guest.protected else frozenset()
        are_shared = "yes" if bounced <= result.shared else "no"
        return [
            Check("its bounce buffers are shared", "yes", are_shared),
            *check_shared_is_little(result, bounced),
            *of_its_kernel(result, symbols_of(guest), protected=guest.protected),
        ]

    results = on_each(attack.host.guests, look)
    trial.legitimate(*results, protected=opted_in(attack.host.guest, results))
