# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU with drivers that pin pages for as long as a device may use them, and then use them by themselves."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from signoff.trial import Trial
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.pins import pins_let_go
from tests_e2e.support.sockets import AF_XDP, LO, bind_to, frame_of, packets_of, setting
from tests_e2e.support.steps import (
    IOC_NONE,
    IOC_WRITE,
    closing,
    descriptor_of,
    ioc,
    ioctl_on,
    map_file,
    open_file,
    store_bytes,
)

# mm/gup_test.h
GUP_TEST = "/sys/kernel/debug/gup_test"
PIN_LONGTERM_TEST_START = ioc(IOC_WRITE, ord("g"), 7, 24)
PIN_LONGTERM_TEST_STOP = ioc(IOC_NONE, ord("g"), 8, 0)
PIN_LONGTERM_TEST_READ = ioc(IOC_WRITE, ord("g"), 9, 8)
USE_WRITE, USE_FAST = 1, 2


def test_qemu_cannot_have_private_page_pinned_by_pin_user_pages(attack: Attack) -> None:
    """A driver of the host cannot pin a private page of a guest for a device by pin_user_pages(FOLL_LONGTERM)."""
    attack.by_qemu("pin_user_pages", _pin_and_read(0))


def test_qemu_cannot_have_private_page_pinned_to_be_written(attack: Attack) -> None:
    """A driver of the host cannot pin a private page of a guest by pin_user_pages(FOLL_LONGTERM | FOLL_WRITE)."""
    attack.by_qemu("pin_user_pages(FOLL_WRITE)", _pin_and_read(USE_WRITE))


def test_qemu_cannot_have_private_page_pinned_by_pin_user_pages_fast(attack: Attack) -> None:
    """A driver of the host cannot pin a private page of a guest by pin_user_pages_fast(), which takes no lock."""
    attack.by_qemu("pin_user_pages_fast", _pin_and_read(USE_FAST))


def _pin_and_read(flags: int) -> Callable[[Puppet, Target], Answer]:
    """The kernel's own test of pins: it pins as drivers do, and hands out what the pages hold."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_file(qemu, GUP_TEST) as file:
            done, _ = ioctl_on(qemu, file, PIN_LONGTERM_TEST_START, struct.pack("<QQI4x", page.hva, PAGE_SIZE, flags))
            if done.errno is not None:
                return Answer(done)
            buffer = qemu.memory(PAGE_SIZE)
            ioctl_on(qemu, file, PIN_LONGTERM_TEST_READ, struct.pack("<Q", buffer))[0].require("PIN_LONGTERM_TEST_READ")
            qemu.syscall("ioctl", file, PIN_LONGTERM_TEST_STOP, 0).require("PIN_LONGTERM_TEST_STOP")
            return Answer(done, qemu.read(buffer, PAGE_SIZE))

    return probe


# linux/iommufd.h and drivers/iommu/iommufd/iommufd_test.h
IOMMU = "/dev/iommu"
IOAS_ALLOC, IOAS_MAP, TEST = (ioc(IOC_NONE, ord(";"), number, 0) for number in (0x81, 0x85, 0xA0))
MAP_FIXED_IOVA, MAP_WRITEABLE, MAP_READABLE = 1, 2, 4
TEST_COMMAND = struct.Struct("<IIII48xI4x")  # size, operation, id, reserved; its arguments; last
ARGUMENTS = 16  # where they begin
MOCK_DOMAIN, CREATE_ACCESS, ACCESS_RW = 2, 5, 8
ACCESS_RW_WRITE, ACCESS_RW_SLOW_PATH = 1, 4
IOVA = 1 << 24  # the first that the mock device has


def test_qemu_cannot_have_device_read_private_page_by_iommufd(attack: Attack) -> None:
    """A driver behind iommufd cannot read a private page of a guest that QEMU has mapped for its device."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        buffer = qemu.memory(PAGE_SIZE)
        with open_file(qemu, IOMMU) as file:
            space = _address_space(qemu, file)
            _map(qemu, file, space, page.hva).require("IOMMU_IOAS_MAP")
            done = _access(qemu, file, space, buffer, ACCESS_RW_SLOW_PATH)
        return Answer(done, qemu.read(buffer, PAGE_SIZE))

    attack.by_qemu("iommufd_access_rw", probe)


def test_qemu_cannot_have_device_write_private_page_by_iommufd(attack: Attack) -> None:
    """A driver behind iommufd cannot write to a private page of a guest that QEMU has mapped for its device."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_file(qemu, IOMMU) as file:
            space = _address_space(qemu, file)
            _map(qemu, file, space, page.hva).require("IOMMU_IOAS_MAP")
            done = _access(qemu, file, space, qemu.memory(PATTERN), ACCESS_RW_SLOW_PATH | ACCESS_RW_WRITE)
        return Answer(done, wrote=PATTERN)

    attack.by_qemu("iommufd_access_rw(write)", probe)


def test_qemu_cannot_map_private_page_for_a_device_by_iommufd(attack: Attack) -> None:
    """QEMU cannot map a private page of its guest into the address space of a device (IOMMU_IOAS_MAP)."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        buffer = qemu.memory(PAGE_SIZE)
        with open_file(qemu, IOMMU) as file:
            space = _address_space(qemu, file)
            # With a device attached a mapping is pinned at once and goes to its I/O page table.
            _test(qemu, file, MOCK_DOMAIN, space, b"").require("IOMMU_TEST_OP_MOCK_DOMAIN")
            done = _map(qemu, file, space, page.hva)
            if done.errno is None:
                _access(qemu, file, space, buffer, ACCESS_RW_SLOW_PATH).require("IOMMU_TEST_OP_ACCESS_RW")
        return Answer(done, qemu.read(buffer, PAGE_SIZE))

    attack.by_qemu("IOMMU_IOAS_MAP", probe)


def _address_space(qemu: Puppet, file: int) -> int:
    done, answer = ioctl_on(qemu, file, IOAS_ALLOC, struct.pack("<III", 12, 0, 0))
    done.require("IOMMU_IOAS_ALLOC")
    return int(struct.unpack("<III", answer)[2])


def _map(qemu: Puppet, file: int, space: int, address: int) -> Done:
    flags = MAP_FIXED_IOVA | MAP_WRITEABLE | MAP_READABLE
    return ioctl_on(qemu, file, IOAS_MAP, struct.pack("<IIIIQQQ", 40, flags, space, 0, address, PAGE_SIZE, IOVA))[0]


def _access(qemu: Puppet, file: int, space: int, buffer: int, flags: int) -> Done:
    """What a driver does that has no IOMMU of its own (mdev): it reads or writes an address of the device's."""
    place = qemu.memory(_command(CREATE_ACCESS, space, b""))
    qemu.syscall("ioctl", file, TEST, place).require("IOMMU_TEST_OP_CREATE_ACCESS")
    (access,) = struct.unpack_from("<I", qemu.read(place, TEST_COMMAND.size), ARGUMENTS)
    with closing(qemu, access):
        return _test(qemu, file, ACCESS_RW, access, struct.pack("<QQQI", IOVA, PAGE_SIZE, buffer, flags))


def _test(qemu: Puppet, file: int, operation: int, number: int, arguments: bytes) -> Done:
    return ioctl_on(qemu, file, TEST, _command(operation, number, arguments))[0]


def _command(operation: int, number: int, arguments: bytes) -> bytes:
    command = bytearray(TEST_COMMAND.pack(TEST_COMMAND.size, operation, number, 0, 0))
    command[ARGUMENTS : ARGUMENTS + len(arguments)] = arguments
    return bytes(command)


# linux/if_xdp.h
SOL_XDP = 283
MMAP_OFFSETS, TX_RING, UMEM_REG, UMEM_FILL_RING, UMEM_COMPLETION_RING = 1, 3, 4, 5, 6
XDP_COPY = 2
TX_PGOFF = 0x80000000
OFFSETS = struct.Struct("<16Q")  # struct xdp_mmap_offsets: of each ring producer, consumer, desc, flags


def test_qemu_cannot_send_private_page_by_af_xdp(attack: Attack) -> None:
    """QEMU cannot give an AF_XDP socket a private page of its guest as the memory of its packets."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with packets_of(qemu, LO) as wire, descriptor_of(qemu, "socket", AF_XDP, socket.SOCK_RAW, 0) as file:
            memory = qemu.memory(struct.pack("<QQIIII", page.hva, PAGE_SIZE, PAGE_SIZE, 0, 0, 0))
            done = qemu.syscall("setsockopt", file, SOL_XDP, UMEM_REG, memory, 32)
            if done.errno is None:
                _send_first_frame(qemu, file)
            return Answer(done, frame_of(qemu, wire, PAGE_SIZE))

    with pins_let_go(attack.host.ssh):
        attack.by_qemu("setsockopt(XDP_UMEM_REG)", probe)


def _send_first_frame(qemu: Puppet, file: int) -> None:
    """Send all of the socket's memory as one packet, over the loopback."""
    for ring in (UMEM_FILL_RING, UMEM_COMPLETION_RING, TX_RING):
        setting(qemu, file, SOL_XDP, ring, struct.pack("<I", 2))
    bind_to(qemu, file, struct.pack("<HHIII", AF_XDP, XDP_COPY, LO, 0, 0))
    with _ring(qemu, file) as (producer, descriptor):
        store_bytes(qemu, descriptor, struct.pack("<QII", 0, PAGE_SIZE, 0))
        store_bytes(qemu, producer, struct.pack("<I", 1))
        qemu.syscall("sendto", file, 0, 0, socket.MSG_DONTWAIT, 0, 0).require("send the ring's packets")


@contextmanager
def _ring(qemu: Puppet, file: int) -> Iterator[tuple[int, int]]:
    """The ring of packets to send: where its producer's index and its first descriptor lie."""
    options, size = qemu.memory(OFFSETS.size), qemu.memory(struct.pack("<I", OFFSETS.size))
    qemu.syscall("getsockopt", file, SOL_XDP, MMAP_OFFSETS, options, size).require("XDP_MMAP_OFFSETS")
    producer, _, descriptor, _ = OFFSETS.unpack(qemu.read(options, OFFSETS.size))[4:8]
    with map_file(qemu, PAGE_SIZE, file, TX_PGOFF) as ring:
        yield ring + producer, ring + descriptor


def test_qemu_cannot_map_private_page_for_a_device_by_vfio(trial: Trial) -> None:
    """QEMU cannot map a private page of its guest for a device that it has by VFIO (VFIO_IOMMU_MAP_DMA)."""
    # The emulation offers no IOMMU, so there is no VFIO, and no probe yet: with VFIO the claim is MISS.
