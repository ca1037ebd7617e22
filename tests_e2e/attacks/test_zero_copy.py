# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU with calls that hand pages on instead of copying them: into pipes, packets and hashes."""

from __future__ import annotations

import hashlib
import select
import socket
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager

from host_setup.channels.puppets import Puppet
from signoff.observation import CANARY_RUN_BYTES, PAGE_SIZE
from tests_e2e.support.attack import Answer, Attack, Target
from tests_e2e.support.sockets import MSG_ZEROCOPY, SO_ZEROCOPY, bind_to, setting, tcp_pair, udp_pair
from tests_e2e.support.steps import descriptor_of, open_pipe, read_pending, wait_until_ready

SPLICE_F_GIFT = 8  # linux/splice.h
SHA256 = {hashlib.sha256(bytes([byte])).digest(): byte for byte in range(256)}


def test_qemu_cannot_vmsplice_private_page_into_a_pipe(attack: Attack) -> None:
    """QEMU cannot put a private page of its guest into a pipe by vmsplice(), by reference."""
    attack.by_qemu("vmsplice", _vmsplice(0))


def test_qemu_cannot_gift_private_page_to_a_pipe(attack: Attack) -> None:
    """QEMU cannot give a private page of its guest away to a pipe by vmsplice(SPLICE_F_GIFT)."""
    attack.by_qemu("vmsplice(SPLICE_F_GIFT)", _vmsplice(SPLICE_F_GIFT))


def _vmsplice(flags: int) -> Callable[[Puppet, Target], Answer]:
    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_pipe(qemu) as (out, into):
            done = qemu.syscall("vmsplice", into, qemu.iovec(page.hva, PAGE_SIZE), 1, flags)
            return Answer(done, read_pending(qemu, out, PAGE_SIZE))

    return probe


def test_qemu_cannot_send_private_page_by_tcp_without_copying(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest over TCP with MSG_ZEROCOPY."""
    attack.by_qemu("sendto(TCP, MSG_ZEROCOPY)", _send_over(tcp_pair))


def test_qemu_cannot_send_private_page_by_udp_without_copying(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest over UDP with MSG_ZEROCOPY."""
    attack.by_qemu("sendto(UDP, MSG_ZEROCOPY)", _send_over(udp_pair))


def _send_over(pair: Callable[[Puppet], AbstractContextManager[tuple[int, int]]]) -> Callable[[Puppet, Target], Answer]:
    def probe(qemu: Puppet, page: Target) -> Answer:
        with pair(qemu) as (ends, other):
            setting(qemu, ends, socket.SOL_SOCKET, SO_ZEROCOPY, struct.pack("<i", 1))
            done = qemu.syscall("sendto", ends, page.hva, PAGE_SIZE, MSG_ZEROCOPY, 0, 0)
            if done.errno is not None:
                return Answer(done)
            wait_until_ready(qemu, other, select.POLLIN)
            data = read_pending(qemu, other, PAGE_SIZE)
            wait_until_ready(qemu, ends, select.POLLERR)  # the kernel has let go of the page
            return Answer(done, data)

    return probe


def test_qemu_cannot_have_private_page_hashed(attack: Attack) -> None:
    """QEMU cannot have the kernel hash a private page of its guest byte by byte (AF_ALG), which would tell each."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        data = bytearray()
        with descriptor_of(qemu, "socket", socket.AF_ALG, socket.SOCK_SEQPACKET, 0) as hashes:
            bind_to(qemu, hashes, struct.pack("<H14sII64s", socket.AF_ALG, b"hash", 0, 0, b"sha256"))
            with descriptor_of(qemu, "accept", hashes, 0, 0) as descriptor:
                for address in range(page.hva, page.hva + CANARY_RUN_BYTES):
                    done = qemu.syscall("write", descriptor, address, 1)
                    if done.errno is not None:
                        break
                    data.append(SHA256[read_pending(qemu, descriptor, hashlib.sha256().digest_size)])
        return Answer(done, bytes(data))

    attack.by_qemu("write(AF_ALG)", probe)
