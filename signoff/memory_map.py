# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's memory as a sweep of all its pages found it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from signoff.observation import PAGE_SIZE


class Fate(StrEnum):
    """What became of a page; the worst first: over several sweeps a page keeps the worst."""

    LEAKED = "leaked"
    """The guest's alone, and yet the host read it."""
    LOST = "lost"
    """Not the guest's alone, and yet the host was refused."""
    SHARED = "shared"
    """Shared by the guest, and readable."""
    READABLE = "readable"
    """Never made private, and readable: of a plain guest, or content that its VMM gave it."""
    ABSENT = "absent"
    """The host has no page there: the guest has not touched it."""
    PRIVATE = "private"
    """The guest's alone, and the host was refused."""


_WORST_FIRST = tuple(Fate)


class Span(NamedTuple):
    """Pages in a row that fared alike: guest-physical address of the first (bytes), how many, how they fared."""

    first: int
    pages: int
    fate: Fate


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """One sweep of one guest.

    :ivar way: how the pages were read: ``process_vm_readv``. :ivar size: bytes asked for of each page.
    :ivar rate: pages tried each second.
    :ivar spans: ascending; where there is none the guest has no memory.
    """

    guest: str
    way: str
    size: int
    rate: int
    spans: tuple[Span, ...]

    @property
    def counts(self) -> dict[Fate, int]:
        """How many pages fared how."""
        return {fate: sum(span.pages for span in self.spans if span.fate is fate) for fate in Fate}


def spans(fates: Mapping[int, Fate]) -> tuple[Span, ...]:
    """Run-length encode.

    :param fates: by guest-physical address of the page.
    """
    joined: list[Span] = []
    for gpa in sorted(fates):
        last = joined[-1] if joined else None
        if last and last.fate is fates[gpa] and gpa == last.first + last.pages * PAGE_SIZE:
            joined[-1] = last._replace(pages=last.pages + 1)
        else:
            joined.append(Span(gpa, 1, fates[gpa]))
    return tuple(joined)


def overlay(maps: Iterable[Sequence[Span]]) -> tuple[Span, ...]:
    """Several sweeps of one guest as one: each page as it fared worst."""
    worst: dict[int, Fate] = {}
    for sweep in maps:
        for first, pages, fate in sweep:
            for gpa in range(first, first + pages * PAGE_SIZE, PAGE_SIZE):
                before = worst.get(gpa, fate)
                worst[gpa] = min(before, fate, key=_WORST_FIRST.index)
    return spans(worst)
