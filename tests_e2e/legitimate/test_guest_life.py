# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests of other shapes: each is one more guest on a pristine host."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace

from common.waiting import Deadline, poll_until
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_RUN_DIR, PROTECTED, GuestSpec, beside
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support import traffic
from tests_e2e.support.checks import checks, well
from tests_e2e.support.extra import BOOT, works_beside
from tests_e2e.support.memory import shell
from tests_e2e.support.watch import Watch

SMALL = 96  # MiB that a guest boots with
HUGE = 2  # MiB of a huge page
NOWHERE = 0x30000000  # behind the end of the guests' memory
# Debian's own kernel, and the modules of its devices (guest_images/debian/assemble.sh).
DEBIANS = "/usr/lib/sealproof"
GROWN = f"{GUEST_RUN_DIR}/debian.initramfs"  # the guest's, with these modules
# arch/x86/kernel/kvm_protected.c of the series
REFUSED = "memory is not protected from the host: "
INSISTING = "kvm_protected_mem=require"
INSISTS = f"kvm-guest: {INSISTING}, but "
WHY_NOT = "the host cannot protect the kind of memory that it gave us"
NO_REGISTERS = "the host cannot protect the registers"
HOST_OLDER = "/payload/modules/host_older.ko"


def test_guest_with_pci_express_works(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest on QEMU's newer chipset (q35) boots, opts in and works."""
    in_shape(trial, host, pool, lambda spec: replace(spec, machine="q35"))


def test_guest_of_one_gib_works(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest of 1 GiB boots, opts in and works."""
    in_shape(trial, host, pool, lambda spec: replace(spec, memory=1024))


def test_guest_uses_no_ram_that_its_host_does_not_hold(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest that was told of RAM behind which its host has no memory does not use it: each store would be an exit."""

    def shape(spec: GuestSpec) -> GuestSpec:
        return replace(spec, cmdline=f"{spec.cmdline} memmap=16M@{NOWHERE:#x}".strip()) if spec.opts_in else spec

    def look(guest: Guest) -> list[Check]:
        ram, log = (shell(guest, command) for command in ("grep 'System RAM' /proc/iomem", "dmesg"))
        beyond = [line for line in ram.splitlines() if int(line.split("-")[0], 16) >= NOWHERE]
        is_logged = f"no private memory behind RAM at {NOWHERE:#018x}, which is not used" in log
        return [
            Check("RAM where the host has none", "none", ", ".join(beyond) or "none"),
            Check("its kernel says that it does not use it", str(guest.spec.opts_in), str(is_logged)),
            *well(guest),
        ]

    works_beside(trial, host, pool, shape, look)


def test_guest_with_a_kernel_of_debian_runs_unprotected(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest with Debian's own kernel, which knows of no protection, boots on the host and works, unprotected."""

    def grow(fresh: Host) -> None:
        script = f"cat /payload/guest/initramfs {DEBIANS}/modules.cpio > {GROWN}"
        fresh.ssh.run(["sh", "-c", script], seconds=60).require()

    def look(guest: Guest) -> list[Check]:
        release, log = (guest.ssh.run(argv, seconds=20).require().text for argv in (["uname", "-r"], ["dmesg"]))
        wish = f"kvm_protected_mem={'on' if guest.spec.opts_in else 'off'}"
        unknown = [line for line in log.splitlines() if "Unknown kernel command line" in line and wish in line]
        return [
            Check.that("it is Debian's", release.endswith("-cloud-amd64")),
            Check.that("it does not know the wish to be protected", bool(unknown)),
            Check("pages protected, as KVM says", "none", _protection_in(guest.memory.protection())),
            *checks(guest, "check_clock", "kvm-clock"),
            *traffic.rounds(guest, 4, 1, 8),
        ]

    kernel = ("-kernel", f"{DEBIANS}/vmlinuz", "-initrd", GROWN)
    works_beside(trial, host, pool, lambda spec: replace(spec, extra=kernel), look, grow, refused=True)


def _protection_in(statistics: str) -> str:
    """What KVM's debugfs says that a VM keeps from its host; a stock kernel says nothing."""
    return (
        ", ".join(line for line in statistics.splitlines() if re.match(r"(enabled|private_pages): [1-9]", line))
        or "none"
    )


def test_guest_on_memory_of_a_file_is_refused_protection(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest whose memory is a file, which others may map as well, is not protected; it says so, and works."""
    judge_refusal(trial, host, pool, lambda spec: replace(spec, backend="memory-backend-memfd"))


def test_guest_on_huge_pages_is_refused_protection(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest on pages of hugetlbfs, which cannot leave the direct map one by one, is not protected; it says so."""
    backend = f"memory-backend-memfd,hugetlb=on,hugetlbsize={HUGE}M"

    def reserve(fresh: Host) -> None:
        pages = 2 * SMALL // HUGE
        fresh.ssh.run(["sh", "-c", f"echo {pages} > /proc/sys/vm/nr_hugepages"], seconds=60).require()

    judge_refusal(trial, host, pool, lambda spec: replace(spec, backend=backend, memory=SMALL), prepare=reserve)


def test_guest_that_insists_stops_where_it_is_refused(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest that insists on protection does not go on without: it stops, and its console says why."""

    def insisting(spec: GuestSpec) -> GuestSpec:
        return replace(spec, backend="memory-backend-memfd", cmdline=INSISTING)

    _stops(trial, host, pool, insisting, f"{INSISTS}memory is not protected from the host: {WHY_NOT}")


def test_guest_that_insists_stops_where_its_host_has_no_memory(trial: Trial, host: Host, pool: HostPool) -> None:
    """Nor does it go on if the host has no private memory behind a part of the RAM that the guest was told of."""

    def insisting(spec: GuestSpec) -> GuestSpec:
        return replace(spec, cmdline=f"{INSISTING} memmap=16M@{NOWHERE:#x}" if spec.opts_in else INSISTING)

    _stops(trial, host, pool, insisting, f"{INSISTS}the host has no private memory behind RAM at {NOWHERE:#018x}")


def test_guest_that_insists_stops_where_its_registers_are_refused(trial: Trial, host: Host, pool: HostPool) -> None:
    """Nor with private memory alone, on a host that does not know private registers."""

    def insisting(spec: GuestSpec) -> GuestSpec:
        return replace(spec, cmdline=INSISTING)

    words = f"{INSISTS}memory is not protected from the host: {NO_REGISTERS}"
    _stops(trial, host, pool, insisting, words, prepare=_forget_registers)


def _forget_registers(host: Host) -> None:
    """Have a host's KVM know no private registers (guest_images/modules/host_older.c)."""
    host.ssh.run(["insmod", HOST_OLDER], seconds=20).require()


def _stops(
    trial: Trial,
    host: Host,
    pool: HostPool,
    insisting: Callable[[GuestSpec], GuestSpec],
    last_words: str,
    prepare: Callable[[Host], object] = lambda _: None,
) -> None:
    """Have it judged whether a guest of that shape stops, with these words; without protection it just works.

    :param prepare: does it to the guest's host, a pristine one.
    """
    if host.plain_guest is None:
        in_shape(trial, host, pool, insisting)  # its kernel knows of no protection
        return
    with contextlib.ExitStack() as ends:
        fresh = ends.enter_context(pool.fresh())
        prepare(fresh)
        guest = ends.enter_context(fresh.extra_guest(beside(insisting(PROTECTED))))
        guest.may_end()
        watch = Watch(fresh, guest, from_start=True)
        purpose = f"guest {guest.spec.name} to stop, or to come up"
        poll_until(lambda: guest.vitals.reason is not None or guest.boots() > 0, Deadline(BOOT), purpose, interval=0.2)
        console = guest.console()
        host_checks = watch.host_checks()
    last = [line.partition("] ")[2] for line in console.splitlines() if "Kernel panic" in line]
    words = [f"Kernel panic - not syncing: {last_words}"]
    trial.legitimate([Check("its last words", str(words), str(last)), *host_checks])


def in_shape(trial: Trial, host: Host, pool: HostPool, shape: Callable[[GuestSpec], GuestSpec]) -> None:
    """Have it judged whether a guest of that shape works, one that opts in and, beside it, a plain one."""

    def look(guest: Guest) -> list[Check]:
        spec = guest.spec
        cpus = guest.ssh.run(["nproc"], seconds=20).require().text.strip()
        return [Check("processors", str(spec.cpus), cpus), *well(guest)]

    works_beside(trial, host, pool, shape, look)


def judge_refusal(
    trial: Trial,
    host: Host,
    pool: HostPool,
    shape: Callable[[GuestSpec], GuestSpec],
    *,
    prepare: Callable[[Host], object] = lambda _: None,
) -> None:
    """Have it judged whether a guest of that shape that asks is refused, knows why, and works without protection."""

    def look(guest: Guest) -> list[Check]:
        log = guest.ssh.run(["dmesg"], seconds=20).require().text
        refusals = [line.partition(REFUSED)[2] for line in log.splitlines() if REFUSED in line]
        why = [WHY_NOT] if guest.spec.opts_in else []
        return [Check("what it says of its memory", str(why), str(refusals)), *well(guest, opted_in=False)]

    works_beside(trial, host, pool, shape, look, prepare, refused=True)
