# SPDX-License-Identifier: GPL-2.0-or-later
"""C as a text, as far as one must know it to change a statement: comments and strings, brackets, functions."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

# Longest first: a quotation mark in a comment begins no string, and the reverse.
_HIDDEN = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
    re.DOTALL | re.MULTILINE,
)
_CLOSES = {"(": ")", "{": "}", "[": "]"}
_FAR = 4000  # characters: the longest comment between two statements, or head of a function, is shorter
_NAME = re.compile(r"(\w+)\s*\(")
_NO_NAMES = re.compile(r"__\w+|if|while|for|switch|sizeof|typeof|SYSCALL_DEFINE\d")


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a file: its name, and where its body begins and ends (offsets of the braces)."""

    name: str
    start: int
    end: int


class CText:
    """A file of the kernel.

    :ivar text: as it is. :ivar code: as long, with blanks in place of comments, literals and preprocessor lines.
    :ivar functions: in their order; the kernel's style is relied on, in which a body's braces stand in column 0.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.code = _HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        self._lines = [0, *(match.end() for match in re.finditer(r"\n", text))]
        self.functions = tuple(self._find_functions())

    def line(self, offset: int) -> int:
        """The number of the line that an offset is in, from 1."""
        return bisect_right(self._lines, offset)

    def before(self, offset: int) -> str:
        """The code that stands before an offset, without the blanks at its end; no more of it than decides anything."""
        return self.code[max(0, offset - _FAR) : offset].rstrip()

    def close(self, opening: int) -> int:
        """The offset of the bracket that closes the one at an offset; -1 if there is none."""
        depth, mine = 0, self.code[opening]
        for match in re.compile(f"[{re.escape(mine + _CLOSES[mine])}]").finditer(self.code, opening):
            depth += 1 if match[0] == mine else -1
            if depth == 0:
                return match.start()
        return -1

    def arguments(self, opening: int) -> list[str]:
        """The arguments of a call, as they are written.

        :param opening: the offset of its bracket.
        """
        end, begun, parts = self.close(opening), opening + 1, []
        place = begun
        while place < end:
            if self.code[place] in _CLOSES:
                place = self.close(place)
            elif self.code[place] == ",":
                parts.append(self.text[begun:place].strip())
                begun = place + 1
            place += 1
        return [*parts, self.text[begun:end].strip()]

    def _find_functions(self) -> list[Function]:
        functions = []
        for brace in re.finditer(r"^\{$", self.code, re.MULTILINE):
            end = self.close(brace.start())
            before = self.before(brace.start())
            if end < 0 or not before.endswith(")"):
                continue  # not a function's body, or one that the preprocessor has in two halves
            head = re.split(r"\n\s*\n|[;}]", before)[-1]
            names = [name for name in _NAME.findall(head) if not _NO_NAMES.fullmatch(name)] or _NAME.findall(head)
            if names:
                functions.append(Function(names[0], brace.start(), end))
        return functions
