# SPDX-License-Identifier: GPL-2.0-or-later
"""A ring of io_uring in a puppet, for one request at a time (linux/io_uring.h).

The ring lies in memory that the puppet gives (IORING_SETUP_NO_MMAP): so it needs no mapping of its own, and an attack
can give a page of the guest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.steps import ended

SETUP_NO_MMAP, SETUP_NO_SQARRAY = 1 << 14, 1 << 16
ENTER_GETEVENTS = 1
REGISTER_BUFFERS, UNREGISTER_BUFFERS = 0, 1
READ_FIXED, WRITE_FIXED, READ, WRITE = 4, 5, 22, 23
PARAMS_BYTES, FLAGS, SQ_OFFSETS, CQ_OFFSETS = 120, 8, 40, 80  # struct io_uring_params: its size, and what lies where
SQ_TAIL, CQ_CQES, USER_ADDR = 4, 20, 32  # in struct io_sqring_offsets, struct io_cqring_offsets, and both
SQE = struct.Struct("<BBHiQQIIQHHIQQ")
CQE = struct.Struct("<QiI")  # user_data, res, flags


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion queue entry: how the request ended, and the eight bytes that it was given to be known by."""

    done: Done
    user_data: bytes


class Ring:
    """A ring with room for one request.

    :param entries: where the submission queue's entry is to lie; the puppet's own memory if None.
    :ivar setup: how io_uring_setup() ended. :ivar file: the caller's to close; -1 if it failed.
    """

    def __init__(self, puppet: Puppet, entries: int | None = None) -> None:
        self._puppet = puppet
        self._entry = puppet.memory(PAGE_SIZE) if entries is None else entries
        self._rings = puppet.memory(PAGE_SIZE)
        params = bytearray(PARAMS_BYTES)
        struct.pack_into("<I", params, FLAGS, SETUP_NO_MMAP | SETUP_NO_SQARRAY)
        struct.pack_into("<Q", params, SQ_OFFSETS + USER_ADDR, self._entry)
        struct.pack_into("<Q", params, CQ_OFFSETS + USER_ADDR, self._rings)
        place = puppet.memory(bytes(params))
        self.setup = puppet.syscall("io_uring_setup", 1, place)
        self.file = -1 if self.setup.errno is not None else self.setup.require("io_uring_setup")
        told = puppet.read(place, PARAMS_BYTES)
        (self._tail,) = struct.unpack_from("<I", told, SQ_OFFSETS + SQ_TAIL)
        (self._completions,) = struct.unpack_from("<I", told, CQ_OFFSETS + CQ_CQES)

    def io(self, operation: int, file: int, address: int, size: int) -> Completion:
        """One request to read or write, from a file's start; the first of this ring."""
        self._puppet.write(self._entry, SQE.pack(operation, 0, 0, file, 0, address, size, 0, 1, 0, 0, 0, 0, 0))
        return self.submit()

    def submit(self) -> Completion:
        """Have the kernel take what stands in the submission queue's entry."""
        self._puppet.write(self._rings + self._tail, struct.pack("<I", 1))
        self._puppet.syscall("io_uring_enter", self.file, 1, 1, ENTER_GETEVENTS, 0, 0).require("io_uring_enter")
        entry = self._puppet.read(self._rings + self._completions, CQE.size)
        _, result, _ = CQE.unpack(entry)
        return Completion(ended(result), entry[:8])

    def register(self, operation: int, argument: int, count: int) -> Done:
        """io_uring_register()."""
        return self._puppet.syscall("io_uring_register", self.file, operation, argument, count)
