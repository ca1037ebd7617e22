# SPDX-License-Identifier: GPL-2.0-or-later
"""What kbuild prints: how far it is, and what is wrong with the code."""

from __future__ import annotations

import re

from common.progress import Step

_ACTION = re.compile(r"  ([A-Z][A-Z0-9_]*)(?: \[M\])?\s+(\S+)")  # "  CC      mm/memory.o", "  LD [M]  x.ko"
_ERROR = re.compile(
    r"(?:fatal )?error: |undefined reference to|multiple definition of|ERROR: modpost: |\*\*\* (?!\[|Waiting)"
)
_BEFORE = re.compile(r"In file included from |\s+from |.*: In function |.*: At top level:|.*: note: ")
_AFTER = re.compile(r"\s+\d* \| |.*: note: ")  # the source line, the caret below it, and remarks
MOST_LINES = 60


class Progress:
    """Counts what kbuild says it does, one line an object.

    :param step: shows it. :param expected: how many lines a whole build has.
    """

    def __init__(self, step: Step, expected: int) -> None:
        self._step = step
        self._expected = expected
        self.lines = 0

    def __call__(self, line: str) -> None:
        """Take a line of the build's output."""
        match = _ACTION.match(line)
        if match:
            self.lines += 1
            target = "/".join(match[2].split("/")[-3:])  # tools are named by their whole path
            self._step.update(min(0.99, self.lines / self._expected), f"{match[1]} {target}")


def errors(log: str) -> str:
    """The error messages in a build's log, each with what belongs to it; empty if there is none.

    With several jobs an error is often far from the end: other compilers finish their work after it.
    """
    lines = log.splitlines()
    shown_lines: set[int] = set()
    for at, line in enumerate(lines):
        if not _ERROR.search(line):
            continue
        first = at
        while first > 0 and _BEFORE.match(lines[first - 1]):
            first -= 1
        last = at
        while last + 1 < len(lines) and _AFTER.match(lines[last + 1]):
            last += 1
        shown_lines.update(range(first, last + 1))
    shown = [lines[at] for at in sorted(shown_lines)]
    more = [f"... and {len(shown) - MOST_LINES} more lines"] if len(shown) > MOST_LINES else []
    return "\n".join([*shown[:MOST_LINES], *more])


def first_failure(log: str) -> str | None:
    """The object that make gave up on first, as a target for make.

    Of the form ``make[4]: *** [../scripts/Makefile.build:229: mm/memory.o] Error 1``.
    """
    match = re.search(r"^make(?:\[\d+\])?: \*\*\* \[[^]]*?([^\s:\]]+\.o)\] Error", log, re.M)
    return match[1] if match else None
