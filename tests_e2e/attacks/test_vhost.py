# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU with vhost, where the kernel does a device's work in QEMU's stead: its worker copies the packets."""

from __future__ import annotations

import os
import struct
import termios

from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.faults import that_met
from tests_e2e.support.sockets import LO, SOCK_STREAM, bind_to, frame_of, packets_of
from tests_e2e.support.steps import IOC_WRITE, descriptor_of, ioc, ioctl_on, read_pending
from tests_e2e.support.vhost import DEVICE_WRITES, SET_MEM_TABLE, THE_PAGE, TIMEOUT, VHOST, Queue, kick_queue, vhost

NET, VSOCK = "/dev/vhost-net", "/dev/vhost-vsock"
NET_SET_BACKEND = ioc(IOC_WRITE, VHOST, 0x30, 8)
VHOST_NET_F_VIRTIO_NET_HDR = 1 << 27  # the device itself makes and takes the header of each packet
HEADER = bytes(10)  # struct virtio_net_hdr
SET_LOG_BASE, SET_LOG_FD = ioc(IOC_WRITE, VHOST, 0x04, 8), ioc(IOC_WRITE, VHOST, 0x07, 4)
VHOST_F_LOG_ALL = 1 << 26
LOGGED = 16  # pages that the device writes, by a bit each in the log; the last by the header's bytes alone


def test_qemu_cannot_have_vhost_net_send_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel's vhost-net send a private page of its guest as a packet."""

    def send(qemu: Puppet, page: Target) -> Answer:
        queues = [Queue(qemu), sending := Queue(qemu)]
        sending.offer(0, [sending.own(HEADER), (THE_PAGE, PAGE_SIZE)])
        with (
            packets_of(qemu, LO) as wire,
            packets_of(qemu, LO, only=0) as backend,
            vhost(qemu, NET, page.hva, queues, VHOST_NET_F_VIRTIO_NET_HDR) as (device, kick),
        ):
            _back(qemu, device, 1, backend)
            kick_queue(qemu, kick)
            sending.wait_until_used(1)
            data = frame_of(qemu, wire, PAGE_SIZE)
        return Answer(Done(returned=len(data)), data)

    def probe(qemu: Puppet, page: Target) -> Answer:
        return that_met(attack.host.ssh, page.hva, lambda: send(qemu, page))

    attack.by_qemu("vhost-net, sending", probe)


def test_qemu_cannot_have_vhost_net_receive_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel's vhost-net put a packet that it receives into a private page of its guest."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        receiving = Queue(qemu)
        receiving.offer(0, [receiving.own(HEADER), (THE_PAGE, PAGE_SIZE)], DEVICE_WRITES)
        ethertype = int.from_bytes(PATTERN[12:14], "big")
        with (
            packets_of(qemu, LO, only=0) as wire,
            packets_of(qemu, LO, only=ethertype) as backend,
            vhost(qemu, NET, page.hva, [receiving], VHOST_NET_F_VIRTIO_NET_HDR) as (device, _),
        ):
            _back(qemu, device, 0, backend)
            qemu.syscall("write", wire, qemu.memory(PATTERN), PAGE_SIZE).require("send a packet")
            poll_until(lambda: _waiting(qemu, backend) == 0, Deadline(TIMEOUT), "vhost-net to take the packet")
            _back(qemu, device, 0, -1)  # this waits for the worker
            return Answer(Done(returned=receiving.count_used()), wrote=PATTERN)

    attack.by_qemu("vhost-net, receiving", probe)


def test_qemu_cannot_have_vhost_net_log_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel's vhost-net write down in a private page which pages it has written."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        receiving, packet = Queue(qemu), PATTERN * (LOGGED - 1)
        receiving.offer(0, [(THE_PAGE, LOGGED * PAGE_SIZE)], DEVICE_WRITES)
        ethertype = int.from_bytes(PATTERN[12:14], "big")
        with (
            packets_of(qemu, LO, only=0) as wire,
            packets_of(qemu, LO, only=ethertype) as backend,
            descriptor_of(qemu, "eventfd2", 0, os.O_NONBLOCK) as events,
            vhost(qemu, NET, page.hva, [receiving], VHOST_NET_F_VIRTIO_NET_HDR | VHOST_F_LOG_ALL) as (device, _),
        ):
            buffers = struct.pack("<II4Q", 1, 0, THE_PAGE, LOGGED * PAGE_SIZE, qemu.memory(LOGGED * PAGE_SIZE), 0)
            log = page.hva - THE_PAGE // PAGE_SIZE // 8
            for number, argument in (
                (SET_MEM_TABLE, buffers),
                (SET_LOG_BASE, struct.pack("<Q", log)),
                (SET_LOG_FD, struct.pack("<i", events)),
            ):
                ioctl_on(qemu, device, number, argument)[0].require(f"ioctl {number:#x} of vhost")
            _back(qemu, device, 0, backend)
            qemu.syscall("write", wire, qemu.memory(packet), len(packet)).require("send a packet")
            receiving.wait_until_used(1)
            _back(qemu, device, 0, -1)  # this waits for the worker
            count = read_pending(qemu, events, 8)
        return Answer(Done(returned=int.from_bytes(count, "little")), wrote=b"\xff" * (LOGGED // 8))

    attack.by_qemu("vhost-net, logging", probe)


def _back(qemu: Puppet, device: int, queue: int, socket: int) -> None:
    """Connect a queue of the device with a socket; -1: with none."""
    ioctl_on(qemu, device, NET_SET_BACKEND, struct.pack("<Ii", queue, socket))[0].require("VHOST_NET_SET_BACKEND")


def _waiting(qemu: Puppet, socket: int) -> int:
    """The bytes of the first packet that waits in a socket; 0: none waits."""
    done, answer = ioctl_on(qemu, socket, termios.FIONREAD, bytes(4))
    done.require("FIONREAD")
    return int(struct.unpack("<i", answer)[0])


# linux/vhost.h, linux/virtio_vsock.h, linux/vm_sockets.h
SET_GUEST_CID, SET_RUNNING = ioc(IOC_WRITE, VHOST, 0x60, 8), ioc(IOC_WRITE, VHOST, 0x61, 4)
AF_VSOCK, HOST_CID, GUEST_CID, PORT = 40, 2, 4242, 4242
TYPE_STREAM, OP_REQUEST, OP_RW, OP_SHUTDOWN = 1, 1, 5, 4
NO_MORE = 3  # flags of a shutdown: it neither sends nor receives any more
VIRTIO_F_VERSION_1 = 1 << 32


def test_qemu_cannot_have_vhost_vsock_send_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel's vhost-vsock send a private page of its guest over a vsock connection."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        queues = [Queue(qemu), sending := Queue(qemu)]
        sending.offer(0, [sending.own(_vsock(OP_REQUEST))])
        sending.offer(1, [sending.own(_vsock(OP_RW, size=PAGE_SIZE)), (THE_PAGE, PAGE_SIZE)])
        sending.offer(2, [sending.own(_vsock(OP_SHUTDOWN, flags=NO_MORE))])
        buffer = qemu.memory(PAGE_SIZE)
        with (
            descriptor_of(qemu, "socket", AF_VSOCK, SOCK_STREAM, 0) as server,
            vhost(qemu, VSOCK, page.hva, queues, VIRTIO_F_VERSION_1) as (device, kick),
        ):
            bind_to(qemu, server, struct.pack("<HHII4x", AF_VSOCK, 0, PORT, HOST_CID))
            qemu.syscall("listen", server, 1).require("listen")
            ioctl_on(qemu, device, SET_GUEST_CID, struct.pack("<Q", GUEST_CID))[0].require("VHOST_VSOCK_SET_GUEST_CID")
            ioctl_on(qemu, device, SET_RUNNING, struct.pack("<i", 1))[0].require("VHOST_VSOCK_SET_RUNNING")
            kick_queue(qemu, kick)
            with descriptor_of(qemu, "accept", server, 0, 0) as connection:
                # What was sent before the shutdown, or the end of it.
                done = qemu.syscall("read", connection, buffer, PAGE_SIZE)
        return Answer(done, qemu.read(buffer, PAGE_SIZE))

    attack.by_qemu("vhost-vsock, sending", probe)


def _vsock(operation: int, size: int = 0, flags: int = 0) -> bytes:
    """A ``struct virtio_vsock_hdr``, from the guest's end of a connection to the host's."""
    ends = (GUEST_CID, HOST_CID, PORT, PORT)
    return struct.pack("<QQIIIHHIII", *ends, size, TYPE_STREAM, operation, flags, 1 << 16, 0)
