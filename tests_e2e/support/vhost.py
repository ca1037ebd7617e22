# SPDX-License-Identifier: GPL-2.0-or-later
"""A vhost device of a puppet's: the kernel's own end of a virtio queue (linux/vhost.h, virtio specification 2.7).

Queues and headers lie in memory of the puppet; buffers may lie in a guest's page. So what reaches the page is the
kernel's worker alone, which runs with the puppet's memory mapped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.steps import IOC_NONE, IOC_WRITE, descriptor_of, ioc, ioctl_on, open_file

VHOST = 0xAF
SET_OWNER = ioc(IOC_NONE, VHOST, 0x01, 0)
SET_FEATURES = ioc(IOC_WRITE, VHOST, 0x00, 8)
SET_MEM_TABLE = ioc(IOC_WRITE, VHOST, 0x03, 8)
SET_VRING_NUM = ioc(IOC_WRITE, VHOST, 0x10, 8)
SET_VRING_ADDR = ioc(IOC_WRITE, VHOST, 0x11, 40)
SET_VRING_KICK = ioc(IOC_WRITE, VHOST, 0x20, 8)
DESCRIPTORS, AVAILABLE, USED, DATA = 0, 512, 1024, 2048  # where they lie in the page of a queue
SIZE = 16  # descriptors of a queue
NEXT, DEVICE_WRITES = 1, 2  # flags of a descriptor
THE_PAGE = 1 << 32  # the address that the device knows the guest's page by; its own memory it knows by the puppet's
TIMEOUT = 5.0


class Queue:
    """A virtio queue, with a page of its own."""

    def __init__(self, puppet: Puppet) -> None:
        self._puppet = puppet
        self.page = puppet.memory(PAGE_SIZE)
        self._descriptors = 0

    def own(self, content: bytes) -> tuple[int, int]:
        """A buffer in the queue's page: address and length. One a queue is enough for each kind of packet."""
        address = self.page + DATA + 64 * self._descriptors
        self._puppet.write(address, content)
        return address, len(content)

    def offer(self, number: int, buffers: Sequence[tuple[int, int]], flags: int = 0) -> None:
        """Offer a chain of buffers, the number of it that the device sees (0 is the first)."""
        first = self._descriptors
        for place, (address, size) in enumerate(buffers, first):
            last = place == first + len(buffers) - 1
            entry = struct.pack("<QIHH", address, size, flags | (0 if last else NEXT), place + 1)
            self._puppet.write(self.page + DESCRIPTORS + len(entry) * place, entry)
        self._descriptors += len(buffers)
        self._puppet.write(self.page + AVAILABLE + 4 + 2 * number, struct.pack("<H", first))
        self._puppet.write(self.page + AVAILABLE + 2, struct.pack("<H", number + 1))

    def count_used(self) -> int:
        """How many chains the device has done with."""
        return int(struct.unpack("<H", self._puppet.read(self.page + USED + 2, 2))[0])

    def wait_until_used(self, count: int) -> None:
        """Wait until the device has done with so many chains."""
        poll_until(lambda: self.count_used() >= count, Deadline(TIMEOUT), f"vhost's worker to use {count} buffers")


@contextmanager
def vhost(puppet: Puppet, device: str, page: int, queues: Sequence[Queue], features: int) -> Iterator[tuple[int, int]]:
    """A vhost device whose memory is that of the queues and one page, which it knows as ``THE_PAGE``.

    :returns: descriptors of the device, and of the event that tells it to look at its last queue.
    """
    with open_file(puppet, device) as file, descriptor_of(puppet, "eventfd2", 0, 0) as kick:
        puppet.syscall("ioctl", file, SET_OWNER, 0).require("VHOST_SET_OWNER")
        regions = [(queue.page, queue.page) for queue in queues] + [(THE_PAGE, page)]
        table = b"".join(struct.pack("<QQQQ", gpa, PAGE_SIZE, at, 0) for gpa, at in regions)
        _set(puppet, file, SET_FEATURES, struct.pack("<Q", features))
        _set(puppet, file, SET_MEM_TABLE, struct.pack("<II", len(regions), 0) + table)
        for number, queue in enumerate(queues):
            parts = (queue.page + part for part in (DESCRIPTORS, USED, AVAILABLE))
            _set(puppet, file, SET_VRING_NUM, struct.pack("<II", number, SIZE))
            _set(puppet, file, SET_VRING_ADDR, struct.pack("<IIQQQQ", number, 0, *parts, 0))
        _set(puppet, file, SET_VRING_KICK, struct.pack("<Ii", len(queues) - 1, kick))
        yield file, kick


def kick_queue(puppet: Puppet, kick: int) -> None:
    """Tell the device to look at its last queue."""
    puppet.syscall("write", kick, puppet.memory(struct.pack("<Q", 1)), 8).require("kick the device")


def _set(puppet: Puppet, file: int, number: int, value: bytes) -> None:
    ioctl_on(puppet, file, number, value)[0].require(f"ioctl {number:#x} of vhost")
