# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's memory drawn page by page: what the page's SVG is made from.

A dot is a page; a line is 1 MiB of guest-physical memory, or more where the guest is large. Lines without memory are
left out, and a gap says so. Pages that fared alike are one path, a stroke of it for each run of them in a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from signoff.memory_map import Fate, MemoryMap, Span, overlay
from signoff.observation import PAGE_SIZE
from signoff.results import Row

NARROWEST = 256  # pages of a line
MOST_LINES = 1024
GAP = 6  # dots between lines that do not follow one another
TICK_EVERY = 32 << 20  # bytes
TICKS_APART = 12  # dots at least, or the text of one runs into the next
LISTED = 64
"""Runs of pages that are listed, and bad ones that are circled; all are in signoff.json."""
BAD = (Fate.LEAKED, Fate.LOST)


@dataclass(frozen=True, slots=True)
class Mark:
    """A circle around pages that a reader must not overlook; units are dots."""

    x: float
    y: float
    radius: float
    fate: Fate


@dataclass(frozen=True, slots=True)
class Picture:
    """A guest's memory, over all sweeps of it.

    :ivar sweeps: the claim that each belongs to, and the sweep. :ivar width: dots, as ``height``.
    :ivar layers: how pages fared, and the path of all of them. :ivar ticks: height, and the address there.
    :ivar bad: runs of pages that fared as none may, all of them. :ivar spans: the first ``SHOWN`` runs of all;
        ``more`` are not among them.
    """

    guest: str
    sweeps: tuple[tuple[str, MemoryMap], ...]
    counts: dict[Fate, int]
    width: int
    height: int
    layers: tuple[tuple[Fate, str], ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]
    bad: tuple[Span, ...]
    spans: tuple[Span, ...]
    more: int


def pictures(rows: Iterable[Row]) -> list[Picture]:
    """One for each guest that was swept, in the order in which the guests appear."""
    sweeps: dict[str, list[tuple[str, MemoryMap]]] = {}
    for row in rows:
        for sweep in row.result.maps:
            sweeps.setdefault(sweep.guest, []).append((row.result.id, sweep))
    return [_picture(guest, of_guest) for guest, of_guest in sweeps.items()]


def _picture(guest: str, sweeps: Sequence[tuple[str, MemoryMap]]) -> Picture:
    spans = overlay(sweep.spans for _, sweep in sweeps)
    width = _width(spans)
    lines = _heights(spans, width)
    strokes: dict[Fate, list[str]] = {}
    marks: list[Mark] = []
    for span in spans:
        parts = [(x, lines[line], count) for line, x, count in _strokes(span, width)]
        strokes.setdefault(span.fate, []).extend(f"M{x} {y}h{count}" for x, y, count in parts)
        if span.fate in BAD and len(marks) < LISTED:
            marks.append(_mark(parts, span.fate))
    return Picture(
        guest=guest,
        sweeps=tuple(sweeps),
        counts={fate: sum(span.pages for span in spans if span.fate is fate) for fate in Fate},
        width=width,
        height=max(lines.values(), default=0) + 1,
        layers=tuple((fate, "".join(strokes[fate])) for fate in Fate if fate in strokes),
        ticks=tuple(_ticks(lines, width)),
        marks=tuple(marks),
        bad=tuple(span for span in spans if span.fate in BAD),
        spans=spans[:LISTED],
        more=max(0, len(spans) - LISTED),
    )


def _width(spans: Sequence[Span]) -> int:
    """Pages of a line: so many that the picture is not too high."""
    width = NARROWEST
    while len({line for span in spans for line in _lines(span, width)}) > MOST_LINES:
        width *= 2
    return width


def _lines(span: Span, width: int) -> range:
    first = span.first // PAGE_SIZE
    return range(first // width, (first + span.pages - 1) // width + 1)


def _heights(spans: Sequence[Span], width: int) -> dict[int, int]:
    """For each line that has memory, how far down it is drawn."""
    lines = sorted({line for span in spans for line in _lines(span, width)})
    heights = dict.fromkeys(lines[:1], 0)
    for before, line in pairwise(lines):
        heights[line] = heights[before] + (1 if line == before + 1 else 1 + GAP)
    return heights


def _strokes(span: Span, width: int) -> list[tuple[int, int, int]]:
    """A run of pages as its parts in each line: line, first dot, how many."""
    first = span.first // PAGE_SIZE
    end = first + span.pages
    strokes = []
    for line in _lines(span, width):
        start, stop = max(first, line * width), min(end, (line + 1) * width)
        strokes.append((line, start - line * width, stop - start))
    return strokes


def _mark(parts: Sequence[tuple[int, int, int]], fate: Fate) -> Mark:
    """A circle around all parts of a run, and a little more."""
    left, right = min(x for x, _, _ in parts), max(x + count for x, _, count in parts)
    top, bottom = parts[0][1], parts[-1][1] + 1
    across = ((right - left) ** 2 + (bottom - top) ** 2) ** 0.5
    return Mark((left + right) / 2, (top + bottom) / 2, across / 2 + 5, fate)


def _ticks(heights: dict[int, int], width: int) -> list[tuple[float, str]]:
    """Where an address stands beside the picture: at the start of each block, and evenly within it."""
    ticks: list[tuple[float, str]] = []
    size = width * PAGE_SIZE
    for line, height in heights.items():
        begins = line - 1 not in heights
        even = line * size % TICK_EVERY == 0
        room = not ticks or height - ticks[-1][0] >= TICKS_APART
        if begins or (even and room):
            ticks.append((height, f"{line * size:#x}"))
    return ticks
