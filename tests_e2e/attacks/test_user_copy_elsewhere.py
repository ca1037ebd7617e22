# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls of QEMU by which the kernel copies to and from a page by ways of their own.

The kernel sums what it copies, clears in place of copying, has a page of another mapping at the other end, or copies
for io_uring, for the name of the host or for a second VM.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support import conduits
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.conduits import read_out, through
from tests_e2e.support.io_uring import ring_of
from tests_e2e.support.kvm import FPU_BYTES, KVM_GET_FPU, KVM_SET_FPU, second_vm
from tests_e2e.support.sockets import AF_INET, LO, LOOPBACK, frame_of, packets_of
from tests_e2e.support.steps import descriptor_of, open_file, wait_until_ready

SEND, SEND_ZC = 26, 47  # linux/io_uring.h: IORING_OP_...
NO_PROTOCOL, IP_HEADER = 253, 20  # for experiments (RFC 3692); bytes
NAME, FIELD = 64, 65  # bytes of a host's name, and of a field of struct new_utsname
FIELDS = 6
# struct kvm_fpu: the registers of the x87, and those of SSE; what lies between is no page's content after KVM took it.
X87, SSE = slice(0, 128), slice(152, 408)


def test_qemu_cannot_send_private_page_by_a_raw_socket(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest as an IP packet of its own: the kernel sums it as it copies."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        address = struct.pack("<HH4s8x", AF_INET, 0, LOOPBACK)
        with descriptor_of(qemu, "socket", AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NO_PROTOCOL) as packets:
            qemu.syscall("connect", packets, qemu.memory(address), len(address)).require("connect")
            done = qemu.syscall("sendto", packets, page.hva, PAGE_SIZE, 0, 0, 0)
            return Answer(done, read_out(qemu, packets, done, IP_HEADER + PAGE_SIZE)[IP_HEADER:])

    attack.by_qemu("sendto(raw IP)", probe)


def test_qemu_cannot_send_private_page_as_a_frame(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest as a frame of the network, by a packet socket."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with packets_of(qemu, LO) as packets:
            done = qemu.syscall("sendto", packets, page.hva, PAGE_SIZE, 0, 0, 0)
            if done.errno is None:
                wait_until_ready(qemu, packets, select.POLLIN)
            return Answer(done, frame_of(qemu, packets, PAGE_SIZE))

    attack.by_qemu("sendto(packet)", probe)


def test_qemu_cannot_send_private_page_by_io_uring(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest through a socket by a request of io_uring."""
    attack.by_qemu("io_uring SEND", through(conduits.unix_stream, _by_a_ring(SEND)))


def test_qemu_cannot_send_private_page_by_io_uring_without_copying(attack: Attack) -> None:
    """QEMU cannot send a private page of its guest over UDP by a request of io_uring that does not copy."""
    attack.by_qemu("io_uring SEND_ZC", through(conduits.udp, _by_a_ring(SEND_ZC)))


def _by_a_ring(operation: int) -> Callable[[Puppet, int, int], Done]:
    def call(qemu: Puppet, into: int, at: int) -> Done:
        with ring_of(qemu) as ring:
            return ring.io(operation, into, at, PAGE_SIZE).done

    return call


def test_qemu_cannot_name_its_host_by_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as the name of the host, by sethostname()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        names = qemu.memory(FIELDS * FIELD)

        def name() -> bytes:
            qemu.syscall("uname", names).require("uname")
            return qemu.read(names, FIELDS * FIELD)[FIELD:][:NAME]

        before = name()
        try:
            return Answer(qemu.syscall("sethostname", page.hva, NAME), name())
        finally:
            qemu.syscall("sethostname", qemu.memory(before), len(before.rstrip(b"\0"))).require("sethostname")

    attack.by_qemu("sethostname", probe)


def test_qemu_cannot_give_private_page_to_another_vm_as_registers(attack: Attack) -> None:
    """QEMU cannot have KVM read a private page of its guest as the registers of another VM's CPU (KVM_SET_FPU)."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with second_vm(qemu) as (_, cpu):
            done = qemu.syscall("ioctl", cpu.fd, KVM_SET_FPU, page.hva)
            registers = cpu.get(KVM_GET_FPU, FPU_BYTES)
        return Answer(done, registers[X87] + registers[SSE], cuts=(X87.stop,))

    attack.by_qemu("KVM_SET_FPU of a second VM", probe)


def test_qemu_cannot_copy_private_page_by_process_vm_writev(attack: Attack) -> None:
    """QEMU cannot copy a private page of its guest to another mapping by process_vm_writev() on itself."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        mine = qemu.memory(PAGE_SIZE)
        here, there = qemu.iovec(page.hva, PAGE_SIZE), qemu.iovec(mine, PAGE_SIZE)
        done = qemu.syscall("process_vm_writev", qemu.pid, here, 1, there, 1, 0)
        return Answer(done, qemu.read(mine, PAGE_SIZE))

    attack.by_qemu("process_vm_writev(from the page)", probe)


def test_qemu_cannot_fill_private_page_by_process_vm_readv(attack: Attack) -> None:
    """QEMU cannot fill a private page of its guest from another mapping by process_vm_readv() on itself."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        here, there = qemu.iovec(page.hva, PAGE_SIZE), qemu.iovec(qemu.memory(PATTERN), PAGE_SIZE)
        return Answer(qemu.syscall("process_vm_readv", qemu.pid, here, 1, there, 1, 0), wrote=PATTERN)

    attack.by_qemu("process_vm_readv(into the page)", probe)


def test_qemu_cannot_clear_private_page_by_dev_zero(attack: Attack) -> None:
    """QEMU cannot have the kernel clear a private page of its guest by reading /dev/zero, which copies nothing."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_file(qemu, "/dev/zero") as zeros:
            return Answer(qemu.syscall("read", zeros, page.hva, PAGE_SIZE), wrote=bytes(PAGE_SIZE))

    attack.by_qemu("read(/dev/zero)", probe)
