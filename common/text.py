# SPDX-License-Identifier: GPL-2.0-or-later
"""Text of machines under test, made safe to show: a kernel, a guest or a stranger's report may say anything."""

from __future__ import annotations

_BLANKS = frozenset(" \n\t")


def printable(text: str) -> str:
    """Text without the characters that move a terminal's cursor or hide what stands beside them.

    These are control characters, those that change the direction of text, and halves of surrogate pairs: what Unicode
    does not call printable. Each becomes U+FFFD. Newlines and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char in _BLANKS or char.isprintable() else "\ufffd" for char in text)
