# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's memory while the host runs on, seen in the QEMU that it runs in: for what is there for microseconds only."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import MachineError
from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE
from tests_e2e.support.outside import outside

PIECE = 1 << 26  # bytes that are read at once


class LiveMemory:
    """Memory that changes under the reader's eyes.

    :param file: a descriptor of QEMU's memory. :param start: where the host's is in it. :ivar size: in bytes.
    """

    def __init__(self, file: int, start: int, size: int) -> None:
        self.size = size
        self._file = file
        self._start = start

    def __len__(self) -> int:
        """Its size in bytes."""
        return self.size

    def page(self, frame: int) -> bytes:
        """A page as it is now."""
        return os.pread(self._file, PAGE_SIZE, self._start + frame * PAGE_SIZE)

    def all(self) -> bytearray:
        """All of it, one page after the other: of one moment only if the host stands still."""
        memory = bytearray(self.size)
        self.copy_to(memory)
        return memory

    def copy_to(self, memory: bytearray | mmap.mmap) -> None:
        """Copy all of it.

        :param memory: of the same size. :raises MachineError: some of it cannot be read.
        """
        done = 0
        with memoryview(memory) as view:
            while done < self.size:
                with view[done : done + PIECE] as piece:
                    read = os.preadv(self._file, [piece], self._start + done)
                if not read:
                    raise MachineError(f"{done} of {self.size} bytes of the host's memory could be read")
                done += read


@contextmanager
def live_memory_of(host: Host) -> Iterator[LiveMemory]:
    """The memory of a host that runs on.

    :raises MachineError: QEMU does not tell where it is.
    """
    qmp = outside(host)
    size = qmp.execute("query-memory-size-summary")["base-memory"]
    answer = qmp.monitor("gpa2hva 0")
    match = re.search(r" is (0x[0-9a-f]+)$", answer.strip())
    if match is None or host.qemu is None:
        raise MachineError(f"gpa2hva 0 of the host: {answer}")
    file = os.open(f"/proc/{host.qemu.pid}/mem", os.O_RDONLY)
    try:
        yield LiveMemory(file, int(match[1], 16), size)
    finally:
        os.close(file)
