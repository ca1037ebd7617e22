# SPDX-License-Identifier: GPL-2.0-or-later
"""Pieces of the page: texts that are safe to show, counts, durations."""

from __future__ import annotations

import html
from collections.abc import Iterator

from verifier.run import STATUSES
from verifier.text import for_page
from verifier.words import SYMBOLS

DASH = "\N{EN DASH}"


def safe(value: object) -> str:
    """A value as text of the page."""
    text = for_page(str(value))
    return html.escape(text, quote=False).replace('"', "&#34;").replace("'", "&#39;")


def first_line(text: str) -> str:
    """A text's first line."""
    return safe(text.partition("\n")[0])


def clock(seconds: float) -> str:
    """A duration as a person reads it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def mark(word: str) -> str:
    """A status, with its sign."""
    return f'<span class="status {word}"><i aria-hidden="true">{SYMBOLS[word]}</i>{word}</span>'


def _number(count: int) -> str:
    """A cell with how many of something there are."""
    return f'<td class="n{"" if count else " zero"}">{count or "·"}</td>'


def numbers(counts: dict[str, int]) -> Iterator[str]:
    """Cells with how many claims have each status."""
    return (_number(counts[status]) for status in STATUSES)


def heads() -> str:
    """The heads of such cells."""
    return "".join(f'<th class="n">{mark(status)}</th>' for status in STATUSES)


def scroll(label: str) -> str:
    """The begin of a part that scrolls sideways, for the keyboard as well.

    :param label: what it is.
    """
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">'


def hex_dump(digits: str) -> str:
    """Lines of sixteen bytes, each with its offset."""
    pairs = [digits[at : at + 2] for at in range(0, len(digits), 2)]
    return "\n".join(f"{at:04x}  {' '.join(pairs[at : at + 16])}" for at in range(0, len(pairs), 16))
