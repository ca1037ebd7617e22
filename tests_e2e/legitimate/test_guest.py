# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths that must go on working, checked inside the guests for the right result."""

from __future__ import annotations

import json

import pytest

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import checks, seed, works

DISK = "/dev/vda"
DISK_MIB = 8
DISK_SECONDS = 120.0  # on a busy machine
NET_BYTES = 1 << 20
SHARE_ROUNDS = 64
HOST_SEEN_BY_GUEST = "10.0.2.2"  # QEMU's user-mode network leads there to the host's loopback


@pytest.mark.quick
def test_guest_mmio_load_and_store_are_emulated(trial: Trial, host: Host) -> None:
    """Loads and stores of the guest on an emulated device carry the right values."""
    works(trial, host, lambda guest: checks(guest, "check_mmio", seed()))


@pytest.mark.quick
def test_guest_virtio_disk_keeps_data(trial: Trial, host: Host) -> None:
    """What the guest writes to its virtio disk it reads back unchanged."""
    works(trial, host, lambda guest: checks(guest, "check_disk", DISK, str(DISK_MIB), seed(), seconds=DISK_SECONDS))


@pytest.mark.quick
def test_guest_virtio_net_keeps_data(trial: Trial, host: Host) -> None:
    """What the guest sends over its virtio network arrives unchanged, and so does what it receives."""

    def check(guest: Guest) -> list[Check]:
        server = host.ssh.converse([f"{HOST_PROGRAMS}/echo_server"], seconds=10)
        try:
            port = json.loads(server.line(seconds=10))["port"]
            results = checks(guest, "check_net", HOST_SEEN_BY_GUEST, str(port), str(NET_BYTES), seed())
            received = json.loads(server.line(seconds=10))
        finally:
            server.close()
        return [
            *results,
            Check("bytes that reached the host", str(NET_BYTES), str(received["bytes"])),
            Check("hash of what reached the host", results[0].expected, received["fnv1a64"]),
        ]

    works(trial, host, check)


@pytest.mark.quick
def test_guest_kvmclock_advances(trial: Trial, host: Host) -> None:
    """The guest's clock is kvm-clock, advances at the right rate and never goes back."""
    works(trial, host, lambda guest: checks(guest, "check_clock", "kvm-clock"))


def test_guest_shares_and_takes_back_pages(trial: Trial, host: Host) -> None:
    """A page that the guest shares with the host and takes back keeps its content."""
    works(trial, host, lambda guest: checks(guest, "check_share", str(SHARE_ROUNDS), seed()))


def test_guest_bad_requests_are_refused(trial: Trial, host: Host) -> None:
    """Requests about protected memory that make no sense, or come from ring 3, are refused and change nothing."""
    works(trial, host, lambda guest: checks(guest, "check_requests"))
