# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's memory while the host runs on, seen in the QEMU that it runs in: for what is there for microseconds only."""

from __future__ import annotations

import itertools
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import MachineError
from host_setup.channels.qmp import Qmp
from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE
from tests_e2e.support.outside import outside

PIECE = 1 << 26  # bytes that are read at once
ABOVE = 1 << 32  # QEMU 10.0, hw/i386/pc.c: the rest of the memory begins here if not all of it lies below
NO_RESERVE = 0x4000  # asm-generic/mman.h MAP_NORESERVE: what is not there takes no memory


@dataclass(frozen=True, slots=True)
class Stretch:
    """Memory without a hole.

    :ivar start: its host-physical address. :ivar size: in bytes. :ivar at: where QEMU has it.
    """

    start: int
    size: int
    at: int

    @property
    def frames(self) -> range:
        """Its page frames."""
        return range(self.start // PAGE_SIZE, (self.start + self.size) // PAGE_SIZE)


class HostMemory(mmap.mmap):
    """A copy of a host's memory, by host-physical address. What the host does not have is empty, and takes no memory.

    :param stretches: what there is, from the lowest address on.
    """

    stretches: tuple[Stretch, ...]

    def __new__(cls, stretches: Sequence[Stretch]) -> HostMemory:
        """One that is empty."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
        memory = super().__new__(cls, -1, stretches[-1].start + stretches[-1].size, flags)
        memory.stretches = tuple(stretches)
        return memory

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        """All is done."""

    def find(self, content: bytes, start: int = 0) -> int:  # type: ignore[override]
        """The first place of some bytes from an address on, in one stretch; -1 if there is none."""
        for stretch in self.stretches:
            end = stretch.start + stretch.size
            if start < end and (at := super().find(content, max(start, stretch.start), end)) >= 0:
                return at
        return -1


def frame_ranges(memory: mmap.mmap | bytes | bytearray) -> tuple[range, ...]:
    """The page frames that a memory has, each range without a hole."""
    if isinstance(memory, HostMemory):
        return tuple(stretch.frames for stretch in memory.stretches)
    return (range(len(memory) // PAGE_SIZE),)


def frames_in(memory: mmap.mmap | bytes | bytearray) -> Iterator[int]:
    """All of them, one by one."""
    return itertools.chain.from_iterable(frame_ranges(memory))


class LiveMemory:
    """Memory that changes under the reader's eyes.

    :param file: a descriptor of QEMU's memory. :param stretches: where the host's is in it.
    """

    def __init__(self, file: int, stretches: Sequence[Stretch]) -> None:
        self._file = file
        self._stretches = tuple(stretches)

    def __len__(self) -> int:
        """The address after its last byte."""
        return self._stretches[-1].start + self._stretches[-1].size

    def page(self, frame: int) -> bytes:
        """A page as it is now; zeros where there is no memory."""
        for stretch in self._stretches:
            if frame in stretch.frames:
                return os.pread(self._file, PAGE_SIZE, stretch.at + frame * PAGE_SIZE - stretch.start)
        return bytes(PAGE_SIZE)

    def empty_copy(self) -> HostMemory:
        """Room for a copy."""
        return HostMemory(self._stretches)

    def all(self) -> HostMemory:
        """All of it, one page after the other: of one moment only if the host stands still."""
        memory = self.empty_copy()
        self.copy_to(memory)
        return memory

    def copy_to(self, memory: HostMemory) -> None:
        """Copy all of it.

        :param memory: from ``empty_copy``. :raises MachineError: some of it cannot be read.
        """
        with memoryview(memory) as view:
            for stretch in self._stretches:
                self._copy(stretch, view[stretch.start : stretch.start + stretch.size])

    def _copy(self, stretch: Stretch, view: memoryview) -> None:
        done = 0
        with view:
            while done < stretch.size:
                with view[done : done + PIECE] as piece:
                    read = os.preadv(self._file, [piece], stretch.at + done)
                if not read:
                    raise MachineError(f"{done} of {stretch.size} bytes of the host's memory could be read")
                done += read


@contextmanager
def live_memory_of(host: Host) -> Iterator[LiveMemory]:
    """The memory of a host that runs on.

    :raises MachineError: QEMU does not tell where it is.
    """
    qmp = outside(host)
    size = qmp.execute("query-memory-size-summary")["base-memory"]
    start, above = _place(qmp, 0), _place(qmp, ABOVE)
    if start is None or host.qemu is None:
        raise MachineError("QEMU does not tell where it has the host's memory (gpa2hva 0)")
    # One block of QEMU's, of which the rest begins at ABOVE.
    low = size if above is None else above - start
    if not 0 < low <= size:
        raise MachineError(f"QEMU has the host's memory in an order of its own: {start:#x}, then {above:#x}")
    stretches = [Stretch(0, low, start), *([] if above is None else [Stretch(ABOVE, size - low, above)])]
    file = os.open(f"/proc/{host.qemu.pid}/mem", os.O_RDONLY)
    try:
        yield LiveMemory(file, stretches)
    finally:
        os.close(file)


def _place(qmp: Qmp, address: int) -> int | None:
    """Where QEMU has what is at a host-physical address; None if that is no memory."""
    match = re.search(r" is (0x[0-9a-f]+)$", qmp.monitor(f"gpa2hva {address:#x}").strip())
    return int(match[1], 16) if match else None
