# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by a mapping of /dev/mem, which would be one more way to a page frame, whoever has it later.

With PAT the kernel refuses to map memory that it uses itself, as the mapping could be cached in another way (Linux
6.12: arch/x86/mm/pat/memtype.c range_is_allowed()). Without it, ``nopat`` on the command line, nothing there refuses.
The controls are the firmware's pages, which can be mapped on any host.
"""

from __future__ import annotations

from dataclasses import replace

from host_setup.channels.puppets import Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Aimed, Attack, Target
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.kvm import load
from tests_e2e.support.pagemap import place
from tests_e2e.support.steps import open_file

NO_PAT = "nopat"
READ, SHARED = 1, 1  # PROT_READ, MAP_SHARED of linux/mman.h
FIRMWARE = 0xF0000  # of every PC: the last 64 KiB of the first MiB
FIRMWARE_PAGES = 16  # memory begins behind them
NOTHING = Target(qemu=0, gpa=0, hva=0, hpa=0)


def test_host_cannot_map_private_page_by_dev_mem(trial: Trial, attack: Attack) -> None:
    """The host cannot map a private page's frame by /dev/mem, nor keep a mapping from when the page was shared."""
    _judge(trial, attack, attack.host)


def test_host_cannot_map_private_page_by_dev_mem_without_pat(trial: Trial, attack: Attack) -> None:
    """Nor can it on a host that runs without PAT, whose kernel minds no second mapping."""
    with attack.pool.fresh_with_cmdline(NO_PAT) as host:
        _judge(trial, attack, host)


def _judge(trial: Trial, attack: Attack, host: Host) -> None:
    with attack.puppeteer(host) as puppeteer:
        process = puppeteer.spawn()
        results = on_each(host.guests, lambda guest: [*_look(process, guest), *_run_on(process, guest)])
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def _look(process: Puppet, guest: Guest) -> list[Check]:
    with open_file(process, "/dev/mem") as file:
        firmware = _load(process, _map(process, file, FIRMWARE))
        fresh = [_bytes_visible(process, aim, _map(process, file, aim.target.hpa)) for aim in _private(guest)]
        mappings = {aim.target.gpa: _map_while_shared(process, file, guest, aim) for aim in _private(guest)}
        # New canaries in the same pages: what was shared was there for the host to see.
        stale = [_bytes_visible(process, aim, mappings[aim.target.gpa]) for aim in _private(guest, again=True)]
    return [
        Check("a page of the firmware is mapped, and read", "yes", "yes" if any(firmware) else "no"),
        *(Check(f"bytes of the private {kind} page by a new mapping", "0", count) for kind, count in fresh),
        *(Check(f"bytes of the private {kind} page by one of when it was shared", "0", count) for kind, count in stale),
    ]


def _run_on(process: Puppet, guest: Guest) -> list[Check]:
    """What comes of a mapping of the firmware's pages, and of one that runs on into memory.

    A kernel that takes no page out of its direct map may allow the second, or not.
    """
    ways = [("the firmware", FIRMWARE_PAGES, "done")]
    if guest.protected:
        ways.append(("the firmware and memory", FIRMWARE_PAGES + 1, "EPERM"))
    with open_file(process, "/dev/mem") as file:
        return [Check(f"a mapping of {label}", how, _ends(process, file, pages)) for label, pages, how in ways]


def _ends(process: Puppet, file: int, pages: int) -> str:
    done = process.syscall("mmap", 0, pages * PAGE_SIZE, READ, SHARED, file, FIRMWARE)
    if done.errno is not None or done.returned is None:
        return str(done.errno)
    process.syscall("munmap", done.returned, pages * PAGE_SIZE).require("munmap")
    return "done"


def _private(guest: Guest, *, again: bool = False) -> list[Aimed]:
    """Canaries in pages that are the guest's alone. Whether the host may map others is its own affair."""
    return [aim for aim in Attack.aim(guest, [UNDER_TEST], again=again) if aim.planted.state == State.PRIVATE]


def _map_while_shared(process: Puppet, file: int, guest: Guest, aimed: Aimed) -> int | None:
    guest.canaries.share(aimed.planted)
    try:
        frame = place(process, aimed.target.qemu, aimed.target.hva).frame
        return _map(process, file, aimed.target.hpa if frame is None else frame * PAGE_SIZE)
    finally:  # also after an error: others attack the page next
        guest.canaries.take_back(aimed.planted)


def _bytes_visible(process: Puppet, aimed: Aimed, where: int | None) -> tuple[str, str]:
    """A canary's kind, and how many bytes of it are seen by a mapping."""
    return aimed.planted.kind, str(Canary(aimed.planted.content).count_leaked(_load(process, where)))


def _map(process: Puppet, file: int, address: int) -> int | None:
    """Where the process has mapped a physical page; None: it was refused."""
    done = process.syscall("mmap", 0, PAGE_SIZE, READ, SHARED, file, address)
    return done.returned if done.errno is None else None


def _load(process: Puppet, where: int | None) -> bytes:
    if where is None:
        return b""
    data = load(process, replace(NOTHING, hva=where)).data
    process.syscall("munmap", where, PAGE_SIZE).require("munmap")
    return data
