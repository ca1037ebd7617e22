# SPDX-License-Identifier: GPL-2.0-or-later
"""A ring of io_uring in a puppet, for one request at a time (linux/io_uring.h).

The ring lies in memory that the puppet gives (IORING_SETUP_NO_MMAP), so an attack can give a page of the guest. Linux
before 6.6 cannot do that: there the ring lies in memory of the kernel's, which the puppet maps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.steps import closing, load_bytes, map_file, store_bytes

SETUP_NO_MMAP, SETUP_NO_SQARRAY = 1 << 14, 1 << 16
ENTER_GETEVENTS = 1
REGISTER_BUFFERS, UNREGISTER_BUFFERS = 0, 1
READ_FIXED, WRITE_FIXED, READ, WRITE = 4, 5, 22, 23
PARAMS_BYTES, FLAGS, SQ_OFFSETS, CQ_OFFSETS = 120, 8, 40, 80  # struct io_uring_params: its size, and what lies where
SQ_TAIL, CQ_CQES, USER_ADDR = 4, 20, 32  # in struct io_sqring_offsets, struct io_cqring_offsets, and both
OFF_RINGS, OFF_ENTRIES = 0, 0x10000000  # where mmap() has both rings, and the submission queue's entries
SQE = struct.Struct("<BBHiQQIIQHHIQQ")
CQE = struct.Struct("<QiI")  # user_data, res, flags


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion queue entry: how the request ended, and the eight bytes that it was given to be known by."""

    done: Done
    user_data: bytes


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring with room for one request.

    :ivar file: its descriptor. :ivar entry: where the submission queue's entry lies. :ivar tail: where that queue's end
        is written. :ivar completion: where the kernel answers.
    """

    puppet: Puppet
    file: int
    entry: int
    tail: int
    completion: int

    def io(self, operation: int, file: int, address: int, size: int) -> Completion:
        """One request to read or write, from a file's start; the first of this ring."""
        request = SQE.pack(operation, 0, 0, file, 0, address, size, 0, 1, 0, 0, 0, 0, 0)
        store_bytes(self.puppet, self.entry, request)
        return self.submit()

    def submit(self) -> Completion:
        """Have the kernel take what stands in the submission queue's entry."""
        store_bytes(self.puppet, self.tail, struct.pack("<I", 1))
        self.puppet.syscall("io_uring_enter", self.file, 1, 1, ENTER_GETEVENTS, 0, 0).require("io_uring_enter")
        answer = load_bytes(self.puppet, self.completion, CQE.size)
        _, result, _ = CQE.unpack(answer)
        return Completion(Done.of_result(result), answer[:8])

    def register(self, operation: int, argument: int, count: int) -> Done:
        """io_uring_register()."""
        return self.puppet.syscall("io_uring_register", self.file, operation, argument, count)


@contextmanager
def ring_of(puppet: Puppet) -> Iterator[Ring]:
    """A ring, gone when the context ends."""
    done, ring = ring_at(puppet, puppet.memory(PAGE_SIZE))
    if done.errno == "EINVAL":
        with _map_ring(puppet) as ring:
            yield ring
    else:
        done.require("io_uring_setup")
        with closing(puppet, ring.file):
            yield ring


def ring_at(puppet: Puppet, entry: int) -> tuple[Done, Ring]:
    """How io_uring_setup() ended, and a ring whose submission queue's entry lies at an address of the puppet's.

    If it succeeded, the ring's descriptor is the caller's to close.
    """
    rings = puppet.memory(PAGE_SIZE)
    done, parameters = _set_up(puppet, SETUP_NO_MMAP | SETUP_NO_SQARRAY, entry, rings)
    return done, _ring(puppet, done.returned or 0, entry, rings, parameters)


@contextmanager
def _map_ring(puppet: Puppet) -> Iterator[Ring]:
    done, parameters = _set_up(puppet, 0)
    with (
        closing(puppet, done.require("io_uring_setup")) as file,
        map_file(puppet, PAGE_SIZE, file, OFF_RINGS) as rings,
        map_file(puppet, PAGE_SIZE, file, OFF_ENTRIES) as entry,
    ):
        yield _ring(puppet, file, entry, rings, parameters)


def _set_up(puppet: Puppet, flags: int, entry: int = 0, rings: int = 0) -> tuple[Done, bytes]:
    """How io_uring_setup() ended, and its struct io_uring_params afterwards."""
    params = bytearray(PARAMS_BYTES)
    struct.pack_into("<I", params, FLAGS, flags)
    struct.pack_into("<Q", params, SQ_OFFSETS + USER_ADDR, entry)
    struct.pack_into("<Q", params, CQ_OFFSETS + USER_ADDR, rings)
    place = puppet.memory(bytes(params))
    done = puppet.syscall("io_uring_setup", 1, place)
    return done, puppet.read(place, PARAMS_BYTES)


def _ring(puppet: Puppet, file: int, entry: int, rings: int, parameters: bytes) -> Ring:
    (tail,) = struct.unpack_from("<I", parameters, SQ_OFFSETS + SQ_TAIL)
    (completions,) = struct.unpack_from("<I", parameters, CQ_OFFSETS + CQ_CQES)
    return Ring(puppet, file, entry, rings + tail, rings + completions)
