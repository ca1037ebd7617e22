# SPDX-License-Identifier: GPL-2.0-or-later
"""A walk of all page tables of the host from outside: no present entry leads to a page that a guest keeps to itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from common.waiting import Deadline
from host_setup.channels.puppets import Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_PROGRAMS
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Check
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Attack, pages_of
from tests_e2e.support.direct_map import direct_map
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.guest_frames import GuestFrames, frames_of
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.kvm import load
from tests_e2e.support.live_memory import live_memory_of
from tests_e2e.support.memory import MIB, shell
from tests_e2e.support.pagemap import places
from tests_e2e.support.translations import Walked, leaves_of, root_of, walk

NAMED = 4  # addresses that a check names
FILLED = 64  # MiB that a guest takes from its host; it has as many that it has not used yet
READ_WRITE, PRIVATE_ANONYMOUS_POPULATED = 3, 0x8022  # PROT_*, MAP_* of linux/mman.h
KEPT_FREE = 160 * MIB  # of the host's memory, so that nobody is killed for want of it
TIMEOUT = 60.0
WATCHED = 15.0  # seconds of emulation
ROUNDS, EMULATED = 100, 1000  # at least


def test_host_page_tables_map_no_private_page(trial: Trial, host: Host) -> None:
    """No entry of any page table of the host, the kernel's or a process's, leads to a page that a guest keeps."""
    _judge(trial, host, {})


def test_host_page_tables_map_no_private_page_again_after_sharing(trial: Trial, host: Host) -> None:
    """Nor does one after pages were shared, loaded by QEMU and by the host's kernel, and taken back."""
    loads: list[bool] = []
    with Attack.puppeteer(host) as puppeteer:
        for guest, _ in pages_of(host):
            private = Attack.aim(guest, [UNDER_TEST])
            for aimed in private:
                guest.canaries.share(aimed.planted)
            try:
                with puppeteer.inside(guest.pid) as qemu:
                    loads += [load(qemu, aimed.target).data == aimed.planted.content for aimed in private]
            finally:  # also after an error: others attack the pages next
                for aimed in private:
                    guest.canaries.take_back(aimed.planted)
    all_seen = ("true", str(all(loads)).lower())
    _judge(trial, host, {"QEMU has loaded all of the pages that were shared": all_seen})


def test_host_page_tables_map_no_private_page_in_the_kernels_image(trial: Trial, pool: HostPool) -> None:
    """Nor where the kernel's image is mapped once more, whose initial part is free memory after the start."""
    with pool.fresh() as host:
        host.ssh.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], seconds=TIMEOUT).require()
        with Attack.puppeteer(host) as puppeteer:
            lent = _pages_in_the_image(host, puppeteer.spawn())
        for guest in host.guests:
            shell(guest, f"dd if=/dev/zero of=/run/filled bs=1M count={FILLED}")
        _judge(trial, host, {"frames of the kernel's image that are lent to a process": ("some", _some(lent))})


def test_host_kernel_maps_no_private_page_while_it_emulates(trial: Trial, host: Host) -> None:
    """While KVM carries out instructions of a guest, no page table that all CPUs share leads to a private page of it.

    What a CPU maps for itself alone, in tables that no other one loads, is not looked at here.
    """
    results = on_each(host.guests, lambda guest: _check_tables(host, guest))
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def _check_tables(host: Host, guest: Guest) -> list[Check]:
    """Look at the kernel's lowest tables again and again while a guest has instructions emulated."""
    root = root_of(host.ssh)
    before, emulated = frames_of(host, guest), guest.memory.exits().emulated
    met: dict[int, int] = {}
    with live_memory_of(host) as memory, _emulating(guest):
        whole = memory.all()
        walked = walk(whole, root, before.all, not_roots=before.all)
        tables = {frame: (base, b"") for frame, base in walked.kernel.lowest.items()}
        rounds = 0
        until = Deadline(WATCHED)
        while until.seconds_left() > 0:
            rounds += 1
            for frame, (base, last) in tables.items():
                table = memory.page(frame)
                if table != last:
                    tables[frame] = (base, table)
                    met.update((leaf, at) for leaf, at in leaves_of(table, base) if leaf in before.private)
    stable = before.still(frames_of(host, guest))
    claimed = guest.memory.exits().emulated - emulated
    return [
        # KVM may be in a window just now: a page that one CPU maps for itself, at an address of no process.
        *_checks(guest, stable, walked, walked.processes.at),
        Check("private pages that a table led to in between", "none", _where(stable.private, met)),
        Check("times that the tables were looked at", "many", "many" if rounds >= ROUNDS else str(rounds)),
        Check("instructions that KVM emulated meanwhile", "many", "many" if claimed >= EMULATED else str(claimed)),
    ]


@contextmanager
def _emulating(guest: Guest) -> Iterator[None]:
    """The guest has instructions emulated for as long as the context lasts."""
    program = f"while :; do {GUEST_PROGRAMS}/check_emulation mov 4 1 private; done"
    shell(guest, f"( {program} ) > /dev/null 2>&1 & echo $! > /run/emulating")
    try:
        yield
    finally:
        shell(guest, "kill $(cat /run/emulating); rm /run/emulating")


def _pages_in_the_image(host: Host, process: Puppet) -> int:
    """How many pages of a process that takes nearly all free memory lie where the kernel's image is mapped.

    It gives these back last: the kernel lends first what was given back last.
    """
    image = direct_map(host.ssh).image
    frames = range(image.physical // PAGE_SIZE, (image.physical + image.in_file) // PAGE_SIZE)
    free_line = host.ssh.run(["grep", "MemFree", "/proc/meminfo"], seconds=20).require().text
    size = max(int(free_line.split()[1]) * 1024 - KEPT_FREE, MIB) // PAGE_SIZE * PAGE_SIZE
    done = process.syscall("mmap", 0, size, READ_WRITE, PRIVATE_ANONYMOUS_POPULATED, -1, 0, seconds=TIMEOUT)
    address = done.require("mmap(MAP_POPULATE)")
    entries = places(host.ssh, process.pid, address, size // PAGE_SIZE)
    ours = [number for number, entry in enumerate(entries) if entry.frame in frames]
    for before, behind in itertools.pairwise([-1, *ours, len(entries)]):
        if pages := behind - before - 1:
            first = address + (before + 1) * PAGE_SIZE
            process.syscall("munmap", first, pages * PAGE_SIZE, seconds=TIMEOUT).require("munmap")
    process.syscall("munmap", address, size, seconds=TIMEOUT).require("munmap")
    return len(ours)


def _judge(trial: Trial, host: Host, more: Mapping[str, tuple[str, str]]) -> None:
    """Have it judged what the host's page tables lead to.

    :param more: further checks by name: expected, got.
    """
    guests = {guest: frames_of(host, guest) for guest, _ in pages_of(host)}
    root = root_of(host.ssh)
    everybodys = frozenset().union(*(frames.all for frames in guests.values()))
    with memory_of(host) as memory:
        walked = walk(memory, root, everybodys, not_roots=everybodys)
    stable = {guest: frames.still(frames_of(host, guest)) for guest, frames in guests.items()}
    trial.attach("walked.txt", _walk_text(walked))
    results = [
        [
            *_checks(guest, frames, walked, {**walked.processes.at, **walked.windows.at}),
            *(Check(name, *words) for name, words in more.items()),
        ]
        for guest, frames in stable.items()
    ]
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def _checks(guest: Guest, frames: GuestFrames, walked: Walked, processes: Mapping[int, int]) -> list[Check]:
    """What must be so of a guest, private pages or none.

    :param processes: where each frame is in the page tables that no private page may be in, beside the kernel's.
    """
    private, others, kernel = frames.private, frames.open, walked.kernel.at
    return [
        Check("private pages whose frames were looked for", _some(guest.protected), _some(len(private))),
        Check("other pages whose frames were looked for", "some", _some(len(others))),
        Check("private pages that the kernel's page tables lead to", "none", _where(private, kernel)),
        Check("private pages that a process's page tables lead to", "none", _where(private, processes)),
        # The controls: what the walk must find. QEMU has looked at some of what it may see.
        Check("other pages that the kernel's page tables do not lead to", "0", str(len(others.keys() - kernel))),
        Check("other pages that a process's page tables lead to", "some", _some(len(others.keys() & processes))),
        Check("topmost tables of processes", "some", _some(len(walked.roots) - 1)),
    ]


def _where(frames: Mapping[int, int], at: Mapping[int, int]) -> str:
    met = sorted((at[frame], gpa) for frame, gpa in frames.items() if frame in at)
    named = ", ".join(f"{gpa:#x} at {address:#x}" for address, gpa in met[:NAMED])
    return f"{len(met)}: {named}" if met else "none"


def _some(count: int) -> str:
    return "some" if count else "none"


def _walk_text(walked: Walked) -> str:
    return "\n".join(
        [
            f"topmost tables: {len(walked.roots)}",
            *(
                f"{name}: {count.tables} tables, {count.leaves} leaves, {len(count.at)} guests' frames mapped"
                for name, count in (
                    ("kernel", walked.kernel),
                    ("processes", walked.processes),
                    ("address spaces of one page", walked.windows),
                )
            ),
        ]
    )
