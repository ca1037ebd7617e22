# SPDX-License-Identifier: GPL-2.0-or-later
"""In which page frames of the host a guest's pages are: those that it keeps to itself, and the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from host_setup.hosts.base import Host
from host_setup.hosts.guest import PAGE, Guest
from tests_e2e.support.pagemap import places
from tests_e2e.support.sweep import sweep

SOME_BYTES = 64  # of each page, so that the sweep is quick: what it finds is not what is wanted here


@dataclass(frozen=True, slots=True)
class GuestFrames:
    """A guest's pages by the host's page frame: guest-physical addresses in bytes.

    :ivar private: of pages that the guest has not shared. :ivar open: of the others.
    """

    private: Mapping[int, int]
    open: Mapping[int, int]

    @property
    def all(self) -> frozenset[int]:
        """All frames."""
        return frozenset(self.private) | frozenset(self.open)

    def still(self, later: GuestFrames) -> GuestFrames:
        """What was so before and afterwards: a guest that runs may share pages, and the host may move them."""
        return GuestFrames(_both(self.private, later.private), _both(self.open, later.open))


def frames_of(host: Host, guest: Guest) -> GuestFrames:
    """Where a guest's pages are now. Memory that the VMM gives the guest to read alone is not looked at."""
    book = sweep(host, guest, "process_vm_readv", SOME_BYTES)[0]
    frames = {
        gpa: place.frame
        for gpas, address in runs(book.address)
        for gpa, place in zip(gpas, places(host.ssh, guest.pid, address, len(gpas)), strict=True)
    }
    private = book.private
    ours = frozenset(book.address) - book.vmms - private
    return GuestFrames(_by_frame(frames, private), _by_frame(frames, ours))


def _by_frame(frames: Mapping[int, int | None], pages: Iterable[int]) -> dict[int, int]:
    return {frame: gpa for gpa in pages if (frame := frames.get(gpa)) is not None}


def _both(before: Mapping[int, int], later: Mapping[int, int]) -> dict[int, int]:
    return {frame: gpa for frame, gpa in before.items() if later.get(frame) == gpa}


def runs(address: Mapping[int, int]) -> Iterator[tuple[list[int], int]]:
    """Pages that follow each other in the VMM: their guest-physical addresses, and where the first is."""
    gpas: list[int] = []
    for gpa in sorted(address, key=lambda page: address[page]):
        if gpas and address[gpa] != address[gpas[-1]] + PAGE:
            yield gpas, address[gpas[0]]
            gpas = []
        gpas.append(gpa)
    if gpas:
        yield gpas, address[gpas[0]]
