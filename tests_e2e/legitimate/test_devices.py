# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices: a protected guest bounces their data through pages that it has shared, and gives memory and gets some."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import PAGE
from host_setup.hosts.guest_spec import VIRTIO, GuestSpec
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks, seed, works
from tests_e2e.support.extra import standing, works_at_once
from tests_e2e.support.memory import (
    MIB,
    PLUGGED_AT,
    PLUGGED_MIB,
    check_kept_out,
    plug_in,
    put_in_use,
    shell,
    with_a_place,
)
from tests_e2e.support.sweep import checks as swept
from tests_e2e.support.sweep import sweep
from tests_e2e.support.traffic import datagrams, rounds, stream, through_port

DISK_MIB = 32  # all of it
TIMEOUT = 60.0
FILLED_MIB = 16
FILL = 120.0  # seconds, on a busy machine


# --- on the guests that all probes share: disk, network, random numbers


def test_guest_virtio_disk_keeps_data_at_every_queue_depth(trial: Trial, host: Host) -> None:
    """96 MiB that a guest writes past its page cache, with 1, 8 and 32 requests under way, it reads back unchanged."""
    works_at_once(
        trial, host, lambda guest: [check for depth in (1, 8, 32) for check in rounds(guest, DISK_MIB, 1, depth)]
    )


def test_guest_virtio_net_keeps_a_long_stream(trial: Trial, host: Host) -> None:
    """8 MiB over TCP arrive unchanged at the host, and come back unchanged."""
    works_at_once(trial, host, lambda guest: stream(host, guest, 8 * MIB))


def test_guest_virtio_net_keeps_datagrams(trial: Trial, host: Host) -> None:
    """UDP datagrams of 8 to 9,000 bytes, of which the large ones travel in fragments, come back as they went."""
    works_at_once(trial, host, lambda guest: datagrams(host, guest, 200))


def test_guest_virtio_rng_gives_random_bytes(trial: Trial, host: Host) -> None:
    """Random bytes of the host reach the guest: as many as it asks for, not zeros, and never the same."""

    def check(guest: Guest) -> list[Check]:
        used = guest.ssh.run(["cat", "/sys/class/misc/hw_random/rng_current"], seconds=TIMEOUT).require().text
        return [Check("source", "virtio_rng.0", used), *checks(guest, "check_random", "/dev/hwrng")]

    works(trial, host, check)


def test_guest_devices_keep_data_during_a_sweep(trial: Trial, host: Host) -> None:
    """While the host tries all pages of a guest, its disk and network corrupt nothing."""
    works(trial, host, lambda guest: _sweep_meanwhile(host, guest)[0])


def test_host_reads_no_page_but_shared_ones_while_devices_move_data(trial: Trial, host: Host) -> None:
    """While a guest's disk and network move data, the host reads no page but those that the guest has shared."""
    works(trial, host, lambda guest: _sweep_meanwhile(host, guest, trial)[1])


def _sweep_meanwhile(host: Host, guest: Guest, keep: Trial | None = None) -> tuple[list[Check], list[Check]]:
    """Checks of the data that two devices moved while the host tried all pages, and checks of that sweep."""
    results: list[Check] = []
    work = (lambda: rounds(guest, 8, 1, 8), lambda: stream(host, guest, 2 * MIB))
    busy = [threading.Thread(target=lambda do=do: results.extend(do())) for do in work]
    for thread in busy:
        thread.start()
    during = check_kept_out(host, guest, keep)
    for thread in busy:
        thread.join()
    # A thread that failed has left no check.
    tried = Check("both devices were tried", "4 checks", f"{len(results)} checks")
    return [tried, *results], [tried, *during]


# --- on guests that have more


@pytest.fixture(scope="module")
def equipped_host(pool: HostPool) -> Iterator[Host]:
    """Guests with more devices."""
    with standing(pool, _equip) as guests:
        yield guests


def _equip(spec: GuestSpec) -> GuestSpec:
    """The same with room for memory, a port, a network of the kernel's, and devices that do without bounce buffers."""
    extra = (
        *with_a_place(spec).extra,
        *("-chardev", f"socket,id=port,host=127.0.0.1,port={_port(spec)},server=on,wait=off"),
        *("-device", f"virtio-serial-pci,{VIRTIO}", "-device", "virtserialport,chardev=port,name=sealproof.port"),
        *("-netdev", f"tap,id=tap,ifname={_tap(spec)},script=no,downscript=no,vhost=on"),
        *("-device", f"virtio-net-pci,netdev=tap,romfile=,{VIRTIO}"),
        *("-device", "virtio-balloon-pci,disable-legacy=on", "-device", "virtio-rng-pci,disable-legacy=on"),
    )
    return replace(spec, extra=extra)


def _port(spec: GuestSpec) -> int:
    return spec.qmp_port + 1000


def _tap(spec: GuestSpec) -> str:
    return f"tap{spec.qmp_port}"


def _network(spec: GuestSpec) -> str:
    """What the addresses in the network of a guest and its host begin with."""
    return f"10.1.{spec.qmp_port % 256}"


def test_guest_virtio_console_keeps_data(trial: Trial, equipped_host: Host) -> None:
    """What a guest sends through a port of its virtio console arrives unchanged, and so does what it receives."""
    works_at_once(trial, equipped_host, lambda guest: _through(equipped_host, guest, "/dev/vport*p1", _port, MIB // 2))


def _through(host: Host, guest: Guest, path: str, far_end: Callable[[GuestSpec], int], size: int) -> list[Check]:
    return through_port(host, guest, shell(guest, f"echo {path}"), far_end(guest.spec), size)


def test_guest_vhost_net_keeps_a_long_stream(trial: Trial, equipped_host: Host) -> None:
    """A network card whose packets the host's kernel moves (vhost) carries 8 MiB over TCP unchanged, both ways."""

    def check(guest: Guest) -> list[Check]:
        to, at = _by_vhost(equipped_host, guest)
        return [_check_vhost_threads(equipped_host, guest), *stream(equipped_host, guest, 8 * MIB, to=to, at=at)]

    works_at_once(trial, equipped_host, check)


def test_guest_vhost_net_keeps_datagrams(trial: Trial, equipped_host: Host) -> None:
    """UDP datagrams that the host's kernel moves (vhost) come back as they went."""

    def check(guest: Guest) -> list[Check]:
        to, at = _by_vhost(equipped_host, guest)
        return [_check_vhost_threads(equipped_host, guest), *datagrams(equipped_host, guest, 200, to=to, at=at)]

    works_at_once(trial, equipped_host, check)


def test_host_reads_no_page_but_shared_ones_where_vhost_serves(trial: Trial, equipped_host: Host) -> None:
    """Where the host's kernel moves packets (vhost), the host reads no page but those that the guest has shared."""

    def check(guest: Guest) -> list[Check]:
        to, at = _by_vhost(equipped_host, guest)
        moved = all(datagram.right for datagram in datagrams(equipped_host, guest, 50, to=to, at=at))
        return [Check.that("packets were moved", moved), *check_kept_out(equipped_host, guest, trial)]

    works_at_once(trial, equipped_host, check)


def _by_vhost(host: Host, guest: Guest) -> tuple[str, str]:
    """Set up both ends of the network that vhost serves; the host's address, as the guest and the host know it."""
    ours, theirs = (f"{_network(guest.spec)}.{number}" for number in (1, 15))
    for machine, card, address in ((host, _tap(guest.spec), ours), (guest, "eth1", theirs)):
        script = f"ip address replace {address}/24 dev {card} && ip link set {card} up"
        machine.ssh.run(["sh", "-c", script], seconds=TIMEOUT).require()
    return ours, ours


def _check_vhost_threads(host: Host, guest: Guest) -> Check:
    """Whether the kernel's threads for vhost are there."""
    names = host.ssh.run(["sh", "-c", f"cat /proc/{guest.pid}/task/*/comm"], seconds=TIMEOUT).require().text
    return Check("a worker of vhost", f"vhost-{guest.pid}", next(iter(re.findall(r"vhost-\d+", names)), "none"))


def test_guest_uses_no_device_that_would_not_heed_its_bounce_buffers(trial: Trial, equipped_host: Host) -> None:
    """A virtio device or driver that does without bounce buffers serves a plain guest; a protected one leaves it."""

    def check(guest: Guest) -> list[Check]:
        log = shell(guest, "dmesg")
        refused = guest.spec.opts_in
        results: list[Check] = []
        for driver, heedful in (("virtio_balloon", 0), ("virtio_rng", 1)):
            used = shell(guest, f"ls -d /sys/bus/virtio/drivers/{driver}/virtio* 2> /dev/null | wc -l")
            is_refused = (
                re.search(rf"{driver} virtio\d+: device must provide VIRTIO_F_ACCESS_PLATFORM", log) is not None
            )
            results.append(Check(f"devices with {driver}", str(heedful + (0 if refused else 1)), used))
            results.append(Check(f"{driver}: its kernel says why", str(refused), str(is_refused)))
        return results

    works(trial, equipped_host, check)


# --- memory that a guest gets


def test_guest_memory_that_is_plugged_in_is_private_at_once(trial: Trial, equipped_host: Host) -> None:
    """Memory that is plugged into a running guest is kept from the host before the guest uses any of it."""

    def check(guest: Guest) -> list[Check]:
        before = frozenset(sweep(equipped_host, guest, "process_vm_readv", PAGE).address)
        plug_in(guest)
        result = sweep(equipped_host, guest, "process_vm_readv", PAGE, keep=trial)
        new = frozenset(result.address) - before
        return [
            Check("pages that are new", str(PLUGGED_MIB * MIB // PAGE), str(len(new))),
            Check(
                "new pages that the host can read",
                str(0 if guest.spec.opts_in else len(new)),
                str(len(new & result.read)),
            ),
            Check("new pages that the guest has used", "0", str(len(new - result.absent))),
            *swept(result, "EFAULT", physical=False),
        ]

    works(trial, equipped_host, check)


def test_guest_memory_that_is_plugged_in_keeps_what_is_written(trial: Trial, equipped_host: Host) -> None:
    """16 MiB of memory that was plugged in hold what a guest writes there."""
    works(trial, equipped_host, _fill)


def _fill(guest: Guest) -> list[Check]:
    """Whether memory that was plugged in is of use."""
    plug_in(guest)
    put_in_use(guest)
    return checks(guest, "check_fill", str(PLUGGED_AT), str(FILLED_MIB), seed(), seconds=FILL)


def test_host_reads_no_page_of_memory_that_was_plugged_in_and_filled(trial: Trial, equipped_host: Host) -> None:
    """Of memory that was plugged into a guest and filled by it the host reads no page."""

    def check(guest: Guest) -> list[Check]:
        well = all(check.right for check in _fill(guest))
        result = sweep(equipped_host, guest, "process_vm_readv", PAGE, keep=trial)
        there = sum(gpa >= PLUGGED_AT for gpa in frozenset(result.address) - result.absent)
        enough = there >= FILLED_MIB * MIB // PAGE
        return [
            Check.that("the guest has filled some", well),
            Check.that("as many pages are there now as were filled", enough),
            *swept(result, "EFAULT", physical=False),
        ]

    works(trial, equipped_host, check)
