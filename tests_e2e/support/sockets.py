# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets of a puppet, connected over the host's loopback."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from host_setup.channels.puppets import Puppet
from tests_e2e.support.steps import descriptor_of

AF_INET, AF_XDP = 2, 44
SOCK_STREAM = 1
SO_ZEROCOPY = 60
MSG_ZEROCOPY = 0x4000000
ETH_P_ALL = 3
LOOPBACK = bytes((127, 0, 0, 1))
LO = 1  # the loopback's interface index, in every network namespace


def setting(puppet: Puppet, file: int, level: int, option: int, value: bytes) -> None:
    """Set a socket's option, which must work."""
    puppet.syscall("setsockopt", file, level, option, puppet.memory(value), len(value)).require("setsockopt")


def bind_to(puppet: Puppet, file: int, address: bytes) -> None:
    """Bind a socket to a ``struct sockaddr``, which must work."""
    puppet.syscall("bind", file, puppet.memory(address), len(address)).require("bind")


@contextmanager
def tcp_pair(puppet: Puppet) -> Iterator[tuple[int, int]]:
    """Two ends of a TCP connection with itself."""
    with (
        descriptor_of(puppet, "socket", AF_INET, SOCK_STREAM, 0) as server,
        descriptor_of(puppet, "socket", AF_INET, SOCK_STREAM, 0) as client,
    ):
        _connect(puppet, client, server, listen=True)
        with descriptor_of(puppet, "accept", server, 0, 0) as accepted:
            yield client, accepted


@contextmanager
def udp_pair(puppet: Puppet) -> Iterator[tuple[int, int]]:
    """A UDP socket, and another to which it sends."""
    with (
        descriptor_of(puppet, "socket", AF_INET, socket.SOCK_DGRAM, 0) as sender,
        descriptor_of(puppet, "socket", AF_INET, socket.SOCK_DGRAM, 0) as receiver,
    ):
        _connect(puppet, sender, receiver, listen=False)
        yield sender, receiver


@contextmanager
def packets_of(puppet: Puppet, interface: int, only: int = ETH_P_ALL) -> Iterator[int]:
    """A socket that can send frames to an interface, and hears those of it.

    :param only: the type of the frames that it hears; 0: none.
    """
    protocol = socket.htons(only)
    with descriptor_of(puppet, "socket", socket.AF_PACKET, socket.SOCK_RAW, 0) as file:
        bind_to(puppet, file, struct.pack("<HHi12x", socket.AF_PACKET, protocol, interface))  # struct sockaddr_ll
        yield file


def frame_of(puppet: Puppet, file: int, size: int) -> bytes:
    """Of the frames that a socket has heard, the first of exactly that size; empty if there is none."""
    buffer = puppet.memory(2 * size)
    while (done := puppet.syscall("recvfrom", file, buffer, 2 * size, socket.MSG_DONTWAIT, 0, 0)).errno != "EAGAIN":
        if done.require("recvfrom") == size:
            return puppet.read(buffer, size)
    return b""


def _connect(puppet: Puppet, descriptor: int, other: int, *, listen: bool) -> None:
    address = struct.pack("<HH4s8x", AF_INET, 0, LOOPBACK)
    place, size = puppet.memory(address), puppet.memory(struct.pack("<I", len(address)))
    bind_to(puppet, other, address)
    if listen:
        puppet.syscall("listen", other, 1).require("listen")
    puppet.syscall("getsockname", other, place, size).require("getsockname")
    puppet.syscall("connect", descriptor, place, len(address)).require("connect")
