# SPDX-License-Identifier: GPL-2.0-or-later
"""Data that goes through a guest's device to the host and comes back, with checks at both ends."""

from __future__ import annotations

import json

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from signoff.observation import Check
from tests_e2e.support.checks import checks, seed

DISK = "/dev/vda"
HOST_SEEN_BY_GUEST = "10.0.2.2"  # QEMU's user-mode network leads there to the host's loopback
LOOPBACK = "127.0.0.1"
TIMEOUT = 120.0  # for what takes a few on a machine that has nothing else to do


def stream(host: Host, guest: Guest, size: int, *, to: str = HOST_SEEN_BY_GUEST, at: str = LOOPBACK) -> list[Check]:
    """So many bytes over TCP.

    :param to: the host's address as the guest knows it. :param at: the same as the host does.
    """
    server = host.ssh.converse([f"{HOST_PROGRAMS}/echo_server", "0", at], seconds=10)
    try:
        port = json.loads(server.line(seconds=10))["port"]
        results = checks(guest, "check_net", to, str(port), str(size), seed(), seconds=TIMEOUT)
        received = json.loads(server.line(seconds=TIMEOUT))
    finally:
        server.close()
    return [*results, *_check_arrival(size, results[0], received)]


def datagrams(host: Host, guest: Guest, count: int, *, to: str = HOST_SEEN_BY_GUEST, at: str = LOOPBACK) -> list[Check]:
    """So many datagrams over UDP; addresses as for ``stream``."""
    server = host.ssh.converse([f"{HOST_PROGRAMS}/echo_datagrams", at], seconds=10)
    try:
        port = json.loads(server.line(seconds=10))["port"]
        return checks(guest, "check_datagrams", to, str(port), str(count), seed(), seconds=TIMEOUT)
    finally:
        server.close()


def through_port(host: Host, guest: Guest, path: str, port: int, size: int) -> list[Check]:
    """So many bytes through a port of the guest's, whose far end QEMU offers on a TCP port of the host's loopback."""
    far_end = host.ssh.converse([f"{HOST_PROGRAMS}/echo_port", str(port), str(size)], seconds=10)
    try:
        far_end.line(seconds=10)
        results = checks(guest, "check_port", path, str(size), seed(), seconds=TIMEOUT)
        received = json.loads(far_end.line(seconds=TIMEOUT))
    finally:
        far_end.close()
    return [*results, *_check_arrival(size, results[0], received)]


def rounds(guest: Guest, mib: int, times: int, depth: int) -> list[Check]:
    """The guest's disk written and read back so many times, with so many requests under way; 0: by the page cache."""
    return checks(guest, "check_disk_rounds", DISK, str(mib), str(times), str(depth), seed(), seconds=TIMEOUT)


def _check_arrival(size: int, sender: Check, received: dict[str, object]) -> list[Check]:
    return [
        Check("bytes that reached the host", str(size), str(received["bytes"])),
        Check("hash of what reached the host", sender.expected, str(received["fnv1a64"])),
    ]
