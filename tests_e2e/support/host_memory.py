# SPDX-License-Identifier: GPL-2.0-or-later
"""All of a host's memory, seen from outside: what its own kernel may or may not map makes no difference."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE
from tests_e2e.support.live_memory import HostMemory, frames_in, live_memory_of
from tests_e2e.support.outside import standing_still

PIECE = 16  # bytes that tell a canary
FURTHER = (PAGE_SIZE // 4, PAGE_SIZE // 2, PAGE_SIZE * 3 // 4)  # where in a canary pieces beside the first are from


@contextmanager
def memory_of(host: Host) -> Iterator[HostMemory]:
    """The host's memory as it is now; the host stands still while it is copied."""
    with live_memory_of(host) as live, live.empty_copy() as memory:
        with standing_still(host):
            live.copy_to(memory)
        yield memory


def pages_with(memory: mmap.mmap | bytes, canaries: Sequence[bytes]) -> list[bytes]:
    """For each canary all page frames with a piece of it: its first one anywhere, others where they are in a page."""
    where: list[set[int]] = [set() for _ in canaries]
    for at in FURTHER:
        number_of = {canary[at : at + PIECE]: number for number, canary in enumerate(canaries)}
        for page in (frame * PAGE_SIZE for frame in frames_in(memory)):
            number = number_of.get(memory[page + at : page + at + PIECE])
            if number is not None:
                where[number].add(page)
    for canary, frames in zip(canaries, where, strict=True):
        place = memory.find(canary[:PIECE])
        while place >= 0:
            frames.update(end // PAGE_SIZE * PAGE_SIZE for end in (place, place + PAGE_SIZE - 1))
            place = memory.find(canary[:PIECE], place + 1)
    return [b"".join(memory[frame : frame + PAGE_SIZE] for frame in sorted(frames)) for frames in where]
