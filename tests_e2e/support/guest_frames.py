# SPDX-License-Identifier: GPL-2.0-or-later
"""In which page frames of the host a guest's pages are: those that it keeps to itself, and the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import PAGE
from tests_e2e.support.pagemap import places
from tests_e2e.support.sweep import FEW_BYTES, sweep


@dataclass(frozen=True, slots=True)
class GuestFrames:
    """A guest's pages by the host's page frame: guest-physical addresses in bytes.

    :ivar private: of pages that the guest has not shared. :ivar open: of the others.
    :ivar unshared: guest-physical addresses of all pages that it has not shared, whether or not the host has a frame
        there.
    :ivar address: of each page of the guest, by its guest-physical address, the address in the VMM.
    """

    private: Mapping[int, int]
    open: Mapping[int, int]
    unshared: frozenset[int] = frozenset()
    address: Mapping[int, int] = field(default_factory=dict)

    @property
    def all(self) -> frozenset[int]:
        """All frames."""
        return frozenset(self.private) | frozenset(self.open)

    def still(self, later: GuestFrames) -> GuestFrames:
        """What was so before and afterwards: a guest that runs may share pages, and the host may move them."""
        return GuestFrames(
            _both(self.private, later.private),
            _both(self.open, later.open),
            self.unshared & later.unshared,
            self.address,
        )


def frames_of(host: Host, guest: Guest) -> GuestFrames:
    """Where a guest's pages are now. Memory that the VMM gives the guest to read alone is not looked at."""
    book = sweep(host, guest, "process_vm_readv", FEW_BYTES)
    frames = {
        gpa: place.frame
        for gpas, address in runs(book.address)
        for gpa, place in zip(gpas, places(host.ssh, guest.pid, address, len(gpas)), strict=True)
    }
    private = book.private
    ours = frozenset(book.address) - book.vmms - private
    # Of a page that was only read from the host has no frame but that of all empty pages; others it may merge.
    everybodys = _of_several(frames, book.address)
    rest = {frame: gpa for frame, gpa in _by_frame(frames, ours).items() if frame not in everybodys}
    return GuestFrames(_by_frame(frames, private), rest, private, book.address)


def _by_frame(frames: Mapping[int, int | None], pages: Iterable[int]) -> dict[int, int]:
    return {frame: gpa for gpa in pages if (frame := frames.get(gpa)) is not None}


def _of_several(frames: Mapping[int, int | None], address: Mapping[int, int]) -> frozenset[int]:
    """Frames that several pages of a VMM have."""
    holds = {(frame, address[gpa]) for gpa, frame in frames.items() if frame is not None}
    counted = Counter(frame for frame, _ in holds)
    return frozenset(frame for frame, count in counted.items() if count > 1)


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
