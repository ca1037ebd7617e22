# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices: a protected guest bounces their data through pages that it has shared, and gives memory and gets some."""

from __future__ import annotations

import threading

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks, works
from tests_e2e.support.extra import works_at_once
from tests_e2e.support.memory import MIB, kept_out
from tests_e2e.support.traffic import datagrams, rounds, stream

DISK_MIB = 32  # all of it
SECONDS = 60.0


# --- on the guests that all probes share: disk, network, random numbers


def test_guest_virtio_disk_keeps_data_at_every_queue_depth(claim: Trial, host: Host) -> None:
    """96 MiB that a guest writes past its page cache, with 1, 8 and 32 requests under way, it reads back unchanged."""
    works_at_once(claim, host, lambda guest: [one for depth in (1, 8, 32) for one in rounds(guest, DISK_MIB, 1, depth)])


def test_guest_virtio_net_keeps_a_long_stream(claim: Trial, host: Host) -> None:
    """8 MiB over TCP arrive unchanged at the host, and come back unchanged."""
    works_at_once(claim, host, lambda guest: stream(host, guest, 8 * MIB))


def test_guest_virtio_net_keeps_datagrams(claim: Trial, host: Host) -> None:
    """UDP datagrams of 8 to 9,000 bytes, of which the large ones travel in fragments, come back as they went."""
    works_at_once(claim, host, lambda guest: datagrams(host, guest, 200))


def test_guest_virtio_rng_gives_random_bytes(claim: Trial, host: Host) -> None:
    """Random bytes of the host reach the guest: as many as it asks for, not zeros, and never the same."""

    def check(guest: Guest) -> list[Check]:
        used = guest.ssh.run(["cat", "/sys/class/misc/hw_random/rng_current"], seconds=SECONDS).require().text
        return [Check("source", "virtio_rng.0", used), *checks(guest, "check_random", "/dev/hwrng")]

    works(claim, host, check)


def test_guest_devices_keep_data_during_a_sweep(claim: Trial, host: Host) -> None:
    """While the host tries all pages of a guest, its disk and network corrupt nothing, and nothing private leaks."""

    def check(guest: Guest) -> list[Check]:
        found: list[Check] = []
        work = (lambda: rounds(guest, 8, 1, 8), lambda: stream(host, guest, 2 * MIB))
        busy = [threading.Thread(target=lambda do=do: found.extend(do())) for do in work]
        for one in busy:
            one.start()
        during = kept_out(host, guest)
        for one in busy:
            one.join()
        # A thread that failed has left no check.
        return [Check("both devices were tried", "4 checks", f"{len(found)} checks"), *found, *during]

    works(claim, host, check)
