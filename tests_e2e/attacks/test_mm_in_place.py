# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host does with all memory, and must not do with private pages: compact it, collapse it, save it."""

from __future__ import annotations

import os
from collections.abc import Callable

from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.each import attempt, result_of
from tests_e2e.support.pagemap import places

MIB = 1 << 20
TIMEOUT = 120.0
NODE_0, NODE_1 = 1, 2  # node masks
NODES = 64  # bits of them
MOVE = 120.0  # seconds that it may take to copy all of a guest's memory, on a slow machine's kernel that checks itself
MADV_COLLAPSE = 25  # asm-generic/mman-common.h
COLLAPSED, COLLAPSED_AT_ONCE = 32 * MIB, 4 * MIB  # the kernel copies no more in a call than a slow machine can
KHUGEPAGED = "/sys/kernel/mm/transparent_hugepage/khugepaged"  # Documentation/admin-guide/mm/transhuge.rst
HURRY = 'cd "$0" && echo 0 > scan_sleep_millisecs && echo 100000 > pages_to_scan'
PRIVATE_RANGES = "/^[0-9a-f]+-[0-9a-f]+ /{range = $1} /^VmFlags:.* kp/{print range}"  # of /proc/PID/smaps
MANY = 1000  # pages


def test_private_pages_stay_where_they_are(trial: Trial, host: Host, pool: HostPool) -> None:
    """No private page of a guest leaves its frame when the host moves its QEMU's memory and compacts all of it."""
    del host  # it is only to be known to the report

    def move(host: Host, puppet: Puppet, guest: Guest) -> None:
        masks = [puppet.memory(mask.to_bytes(8, "little")) for mask in (NODE_0, NODE_1)]
        moving = puppet.syscall("migrate_pages", guest.pid, NODES, *masks, seconds=MOVE)
        moving.require("migrate_pages")
        host.ssh.run(["sh", "-c", "echo 1 > /proc/sys/vm/compact_memory"], seconds=60).require()

    _judge(trial, pool, move)


def test_private_pages_are_not_collapsed_by_madvise(trial: Trial, host: Host, pool: HostPool) -> None:
    """No private page of a guest is copied into a huge page when the host asks for it by MADV_COLLAPSE."""
    del host

    def collapse(host: Host, puppet: Puppet, guest: Guest) -> None:
        _split(host, guest)
        process = puppet.syscall("pidfd_open", guest.pid, 0).require("pidfd_open")
        start, size = _memory(guest)
        for at in range(start, start + min(size, COLLAPSED), COLLAPSED_AT_ONCE):
            piece = puppet.iovec(at, COLLAPSED_AT_ONCE)
            puppet.syscall("process_madvise", process, piece, 1, MADV_COLLAPSE, 0)  # what it did, the frames tell

    _judge(trial, pool, collapse)


def test_private_pages_are_not_collapsed_by_khugepaged(trial: Trial, host: Host, pool: HostPool) -> None:
    """No private page of a guest is copied into a huge page by khugepaged, which looks for such by itself."""
    del host

    def collapse(host: Host, puppet: Puppet, guest: Guest) -> None:  # noqa: ARG001  the kernel's own work
        _split(host, guest)
        begun = _full_scans(host)
        host.ssh.run(["sh", "-c", HURRY, KHUGEPAGED], seconds=20).require()
        poll_until(lambda: _full_scans(host) >= begun + 2, Deadline(TIMEOUT), "two scans of khugepaged", interval=0.2)

    _judge(trial, pool, collapse)


def test_host_with_private_pages_is_not_saved_to_disk(trial: Trial, host: Host, pool: HostPool) -> None:
    """The host cannot be hibernated, nor its memory's image be asked for, as long as it has private pages."""
    del host
    with pool.fresh() as fresh, Attack.puppeteer(fresh) as puppeteer:
        puppet = puppeteer.spawn()
        if fresh.plain_guest is None:
            trial.legitimate(_hibernation(fresh, puppet, possible=True))
        else:
            subject = _hibernation(fresh, puppet, possible=False)
            protected = fresh.guest.protected
            _end(fresh, fresh.guest)
            trial.legitimate(subject, _hibernation(fresh, puppet, possible=True), protected=protected)


def _judge(trial: Trial, pool: HostPool, disturb: Callable[[Host, Puppet, Guest], None]) -> None:
    """Have it judged whether a guest's private pages stay where they are, and that a plain guest's do not."""
    with pool.fresh() as host, Attack.puppeteer(host) as puppeteer:
        puppet = puppeteer.spawn()
        plain = host.plain_guest or host.guest
        if host.plain_guest is None:
            trial.legitimate(_check_moves(host, puppet, plain, disturb))
        else:
            tried = attempt(lambda: _check_stays(host, puppet, host.guest, disturb))
            control = _check_moves(host, puppet, plain, disturb)
            subject = result_of(tried, host.guest.vitals.name, [control])
            trial.legitimate(subject, control, protected=host.guest.protected)


def _check_stays(
    host: Host, puppet: Puppet, guest: Guest, disturb: Callable[[Host, Puppet, Guest], None]
) -> list[Check]:
    ranges = _private_ranges(host, guest)
    before = _frames(host, guest)
    private = {page for page in before if any(first <= page < last for first, last in ranges)}
    disturb(host, puppet, guest)
    after = _frames(host, guest)
    moved = sum(after.get(page) != before[page] for page in private)
    return [_many("private pages", len(private)), Check("private pages that left their frames", "0", str(moved))]


def _check_moves(
    host: Host, puppet: Puppet, guest: Guest, disturb: Callable[[Host, Puppet, Guest], None]
) -> list[Check]:
    before = _frames(host, guest)
    disturb(host, puppet, guest)
    after = _frames(host, guest)
    return [_many("pages that left their frames", sum(after.get(page) != frame for page, frame in before.items()))]


def _many(name: str, count: int) -> Check:
    return Check(name, f"{MANY} at least", f"{MANY} at least" if count >= MANY else str(count))


def _memory(guest: Guest) -> tuple[int, int]:
    """Where a guest's memory is in its QEMU, and its size."""
    (first,) = guest.memory.addresses([0])
    return first.hva, guest.spec.memory * MIB


def _frames(host: Host, guest: Guest) -> dict[int, int]:
    """The frame of each page of a guest's memory that is in the host's, by its address in QEMU."""
    start, size = _memory(guest)
    frames = places(host.ssh, guest.pid, start, size // PAGE_SIZE)
    return {start + at * PAGE_SIZE: frame.frame for at, frame in enumerate(frames) if frame.frame is not None}


def _private_ranges(host: Host, guest: Guest) -> list[tuple[int, int]]:
    """The mappings of QEMU that the kernel says are a protected guest's."""
    ranges = host.ssh.run(["awk", PRIVATE_RANGES, f"/proc/{guest.pid}/smaps"], seconds=60).require().text
    words = (line.split("-") for line in ranges.splitlines())
    return [(int(first, 16), int(last, 16)) for first, last in words]


def _split(host: Host, guest: Guest) -> None:
    """Split the huge pages that a guest's memory has, so that there is something to collapse."""
    start, size = _memory(guest)
    request = f"{guest.pid},{start:#x},{start + size:#x}"
    host.ssh.run(["sh", "-c", 'echo "$0" > /sys/kernel/debug/split_huge_pages', request], seconds=60).require()


def _full_scans(host: Host) -> int:
    return int(host.ssh.run(["cat", f"{KHUGEPAGED}/full_scans"], seconds=20).require().text)


def _hibernation(host: Host, puppet: Puppet, *, possible: bool) -> list[Check]:
    """Whether the host's memory can be saved, as it says itself, and by asking; nothing is saved where it can."""
    offered = "disk" in host.ssh.run(["cat", "/sys/power/state"], seconds=20).require().text.split()
    name = puppet.memory(b"/dev/snapshot\0")
    opened = puppet.syscall("open", name, 0)
    if opened.errno is None:
        puppet.syscall("close", opened.require("open")).require("close")
    checks = [
        Check("hibernation is offered", str(possible).lower(), str(offered).lower()),
        Check("open(/dev/snapshot)", "done" if possible else "EPERM", opened.errno or "done"),
    ]
    if possible or not all(check.right for check in checks):
        return checks
    state = puppet.open("/sys/power/state", os.O_WRONLY)
    request = puppet.syscall("write", state, puppet.memory(b"disk"), 4)
    return [*checks, Check("write(/sys/power/state, disk)", "EPERM", request.errno or "done")]


def _end(host: Host, guest: Guest) -> None:
    """End a guest's QEMU, and wait until nothing is left of it."""
    guest.may_end()
    host.ssh.run(["kill", "-KILL", str(guest.pid)], seconds=20).require()
    argv = ["test", "!", "-e", f"/proc/{guest.pid}"]
    poll_until(lambda: host.ssh.run(argv, seconds=20).status == 0, Deadline(TIMEOUT), "the end of QEMU", interval=0.1)
