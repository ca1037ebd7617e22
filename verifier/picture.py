# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's memory as the page draws it: a dot for each page of 4 KiB, a line for each row of them.

Lines without memory are left out, and a gap stands for them. A page that several sweeps tried is drawn as it fared
worst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from verifier.contract import PAGE
from verifier.markup import safe
from verifier.words import FATES_MEAN

FATES = ("leaked", "lost", "shared", "readable", "absent", "private")
"""How a page may have fared, the worst first."""
BAD = ("leaked", "lost")
LISTED = 64
_LINES, _GAP, _TICK, _APART = 1024, 6, 32 << 20, 12
Span = tuple[int, int, str]
"""Address of the first page, how many pages, how they fared."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A guest's memory, over all sweeps of it.

    :ivar spans: pages in a row that fared alike. :ivar width: pages of a line. :ivar lines: how far down each line is.
    """

    guest: str
    sweeps: list[tuple[str, dict[str, Any]]]
    spans: list[Span]
    width: int
    lines: dict[int, int]

    @property
    def counts(self) -> dict[str, int]:
        """How many pages fared how."""
        return {fate: sum(pages for _, pages, pages_state in self.spans if pages_state == fate) for fate in FATES}

    @property
    def bad(self) -> list[Span]:
        """Pages that fared as none may."""
        return [span for span in self.spans if span[2] in BAD]

    @property
    def height(self) -> int:
        """In dots."""
        return max(self.lines.values(), default=0) + 1

    def layers(self) -> Iterator[tuple[str, str]]:
        """How pages fared, and the path that draws all of those."""
        for fate in FATES:
            strokes = [stroke for span in self.spans if span[2] == fate for stroke in self._strokes(span)]
            if strokes:
                yield fate, "".join(f"M{x} {y}h{count}" for x, y, count in strokes)

    def marks(self) -> Iterator[tuple[str, float, float, float]]:
        """Circles around pages that none may overlook: how they fared, centre, radius."""
        for span in self.bad[:LISTED]:
            strokes = list(self._strokes(span))
            left, right = min(x for x, _, _ in strokes), max(x + count for x, _, count in strokes)
            top, bottom = strokes[0][1], strokes[-1][1] + 1
            across = ((right - left) ** 2 + (bottom - top) ** 2) ** 0.5
            yield span[2], (left + right) / 2, (top + bottom) / 2, across / 2 + 5

    def ticks(self) -> Iterator[tuple[int, str]]:
        """How far down an address stands beside it."""
        before = None
        for line, height in self.lines.items():
            address = line * self.width * PAGE
            room = before is None or height - before >= _APART
            if line - 1 not in self.lines or (address % _TICK == 0 and room):
                yield height, hex(address)
                before = height

    def _strokes(self, span: Span) -> Iterator[tuple[int, int, int]]:
        """Pages in a row as their parts in each line: first dot, how far down, how many."""
        first, end = span[0] // PAGE, span[0] // PAGE + span[1]
        while first < end:
            line, x = divmod(first, self.width)
            count = min(end - first, self.width - x)
            yield x, self.lines[line], count
            first += count


def pictures(rows: dict[str, dict[str, Any]]) -> list[Picture]:
    """One for each guest that was swept, in the order in which the guests appear.

    :param rows: the claims' lines, in the contract's order.
    """
    sweeps: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, row in rows.items():
        for guest_map in row["maps"]:
            sweeps.setdefault(guest_map["guest"], []).append((name, guest_map))
    return [_picture(guest, sweep) for guest, sweep in sweeps.items()]


def _picture(guest: str, sweeps: list[tuple[str, dict[str, Any]]]) -> Picture:
    worst: dict[int, int] = {}
    for _, sweep in sweeps:
        for first, pages, fate in sweep["spans"]:
            bad = FATES.index(fate)
            for at in range(first // PAGE, first // PAGE + pages):
                worst[at] = min(bad, worst.get(at, bad))
    spans: list[Span] = []
    for at, bad in sorted(worst.items()):
        if spans and spans[-1][2] == FATES[bad] and spans[-1][0] + spans[-1][1] * PAGE == at * PAGE:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1, FATES[bad])
        else:
            spans.append((at * PAGE, 1, FATES[bad]))
    width = 256
    while len({at // width for at in worst}) > _LINES:
        width *= 2
    return Picture(guest, sweeps, spans, width, _heights(sorted({at // width for at in worst})))


def _heights(lines: Sequence[int]) -> dict[int, int]:
    heights: dict[int, int] = {}
    for number, line in enumerate(lines):
        before = lines[number - 1]
        heights[line] = 0 if number == 0 else heights[before] + (1 if line == before + 1 else 1 + _GAP)
    return heights


def _ranges(spans: Sequence[Span]) -> Iterator[str]:
    yield '<table class="ranges">'
    yield '<thead><tr><th>From</th><th>To</th><th class="n">Pages</th><th>Result</th></tr></thead>'
    yield "<tbody>"
    for first, pages, fate in spans:
        last = first + pages * PAGE - 1
        yield (
            f'<tr class="{fate}"><td><code>{first:#x}</code></td><td><code>{last:#x}</code></td>'
            f'<td class="n">{pages}</td><td>{fate}</td></tr>'
        )
    yield from ("</tbody>", "</table>")


def picture_part(picture: Picture) -> Iterator[str]:
    """The page's part on one guest."""
    counts, unit = picture.counts, picture.width / 256
    yield f'<figure class="picture{" leaking" if picture.bad else ""}">'
    yield "<figcaption>"
    yield f"  <b>Guest “{safe(picture.guest)}”</b>, {sum(counts.values())} pages"
    for fate in (each for each in BAD if counts[each]):
        yield f'  <span class="alarm">⚠ {counts[fate]} {fate}</span>'
    yield "</figcaption>"
    yield (
        f'<svg viewBox="{-62 * unit} {-4 * unit} {322 * unit} {picture.height + 8 * unit}" role="img" '
        f'aria-label="Memory of guest {safe(picture.guest)}">'
    )
    for height, address in picture.ticks():
        yield (
            f'<text x="{-5 * unit}" y="{height + 3 * unit}" font-size="{8 * unit}">{address}</text>'
            f'<path class="tick" d="M{-4 * unit} {height}h{3 * unit}" stroke-width="{unit / 2}"/>'
        )
    yield '<g transform="translate(0 .5)">'
    for fate, path in picture.layers():
        yield f'<path class="{fate}" d="{path}"><title>{fate}: {counts[fate]} pages, {FATES_MEAN[fate]}</title></path>'
    yield "</g>"
    for fate, x, y, radius in picture.marks():
        yield (
            f'<circle class="halo" cx="{x}" cy="{y}" r="{radius}" stroke-width="{5 * unit}"/>'
            f'<circle class="{fate}" cx="{x}" cy="{y}" r="{radius}" stroke-width="{3 * unit}"/>'
        )
    yield "</svg>"
    yield '<dl class="legend">'
    for fate, meaning in FATES_MEAN.items():
        none = "" if counts[fate] else " none"
        yield (
            f'<div class="{fate}{none}"><dt><i></i>{fate}</dt><dd class="n">{counts[fate]}</dd><dd>{meaning}</dd></div>'
        )
    yield "</dl>"
    yield '<ul class="ways">'
    for claim, sweep in picture.sweeps:
        yield (
            f'<li><a href="#{claim}">{safe(sweep["way"])}</a>: {sweep["size"]} bytes of each page, {sweep["rate"]} '
            "pages each second</li>"
        )
    yield "</ul>"
    if picture.bad:
        yield from _ranges(picture.bad)
    yield '<details class="dump"><summary>Ranges of pages</summary>'
    yield from _ranges(picture.spans[:LISTED])
    if (more := len(picture.spans) - LISTED) > 0:
        yield f'<p class="soft">and {more} more, in <a href="signoff.json">signoff.json</a></p>'
    yield "</details>"
    yield "</figure>"
