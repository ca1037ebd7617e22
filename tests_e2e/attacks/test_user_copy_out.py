# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls of QEMU by which the kernel copies a page to where it can be read: to files, pipes and sockets."""

from __future__ import annotations

import struct

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support import conduits
from tests_e2e.support.attack import Attack
from tests_e2e.support.conduits import through

TERMINAL = 2048  # bytes that a terminal takes at a time


def _write(qemu: Puppet, into: int, at: int) -> Done:
    return qemu.syscall("write", into, at, PAGE_SIZE)


def _sendto(qemu: Puppet, into: int, at: int) -> Done:
    return qemu.syscall("sendto", into, at, PAGE_SIZE, 0, 0, 0)


def _message(qemu: Puppet, at: int) -> bytes:
    """A ``struct msghdr`` of that page, to where the socket is connected."""
    return struct.pack("<QI4xQQQQi4x", 0, 0, qemu.iovec(at, PAGE_SIZE), 1, 0, 0, 0)


def test_qemu_cannot_write_private_page_to_a_file(attack: Attack) -> None:
    """QEMU cannot have the kernel copy a private page of its guest into a file by write()."""
    attack.by_qemu("write(file)", through(conduits.tmp_file, _write))


def test_qemu_cannot_pwrite_private_page_to_a_memfd(attack: Attack) -> None:
    """QEMU cannot have the kernel copy a private page of its guest into a memfd by pwrite64()."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("pwrite64", into, at, PAGE_SIZE, 0)

    attack.by_qemu("pwrite64(memfd)", through(conduits.memory_file, call))


def test_qemu_cannot_pwritev_private_page_to_a_file(attack: Attack) -> None:
    """QEMU cannot have the kernel copy a private page of its guest into a file by pwritev()."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("pwritev", into, qemu.iovec(at, PAGE_SIZE), 1, 0, 0)

    attack.by_qemu("pwritev(file)", through(conduits.tmp_file, call))


def test_qemu_cannot_write_private_page_to_a_terminal(attack: Attack) -> None:
    """QEMU cannot have the kernel copy a private page of its guest to a terminal by write()."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("write", into, at, TERMINAL)

    attack.by_qemu("write(terminal)", through(conduits.terminal, call))


def test_qemu_cannot_add_private_page_to_an_eventfd(attack: Attack) -> None:
    """QEMU cannot have the kernel add a word of a private page of its guest to the counter of an eventfd."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("write", into, at, 8)

    attack.by_qemu("write(eventfd)", through(conduits.event_counter, call))


def test_qemu_cannot_send_private_page_by_unix_stream(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest through a unix stream socket by sendto()."""
    attack.by_qemu("sendto(unix stream)", through(conduits.unix_stream, _sendto))


def test_qemu_cannot_send_private_page_by_unix_datagram(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest through a unix datagram socket by sendmsg()."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("sendmsg", into, qemu.memory(_message(qemu, at)), 0)

    attack.by_qemu("sendmsg(unix datagram)", through(conduits.unix_datagram, call))


def test_qemu_cannot_send_private_page_by_udp(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest through a UDP socket by sendto()."""
    attack.by_qemu("sendto(UDP)", through(conduits.udp, _sendto))


def test_qemu_cannot_send_private_page_by_sendmmsg(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest through a UDP socket by sendmmsg()."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("sendmmsg", into, qemu.memory(_message(qemu, at) + bytes(8)), 1, 0)

    attack.by_qemu("sendmmsg(UDP)", through(conduits.udp, call))


def test_qemu_cannot_send_private_page_by_tcp(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest through a TCP socket by sendto()."""
    attack.by_qemu("sendto(TCP)", through(conduits.tcp, _sendto))


def test_qemu_cannot_send_private_page_by_netlink(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest through a netlink socket by sendto()."""
    attack.by_qemu("sendto(netlink)", through(conduits.netlink, _sendto))
