# SPDX-License-Identifier: GPL-2.0-or-later
"""Which added lines and branches ran, and for which claims: counters laid over the lines that the patches add."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from common.errors import UserInputError
from host_setup.coverage import notes
from host_setup.coverage.added_lines import AddedLines
from host_setup.coverage.collector import CLAIMS
from host_setup.kernel.profile import Explained

GOAL_LINES, GOAL_BRANCHES = 1.0, 0.95  # of what has code, beside what is explained


@dataclass(slots=True)
class Code:
    """A line that the compiler made code of.

    :ivar claims: for which it ran. :ivar branches: for which each branch was taken. Copies of a line (it is inlined, or
        in a header) count as one where they have as many branches; the key is how many, and which of them.
    """

    functions: set[str] = field(default_factory=set)
    claims: set[str] = field(default_factory=set)
    branches: dict[tuple[int, int], set[str]] = field(default_factory=dict)

    @property
    def branches_taken(self) -> int:
        """How many of its branches were taken."""
        return sum(1 for claims in self.branches.values() if claims)


@dataclass(frozen=True, slots=True)
class Gap:
    """An added line that never ran, or of which some branches were never taken.

    :ivar branches: how many were not taken; 0: the line itself never ran.
    """

    file: str
    number: int
    text: str
    function: str
    branches: int
    reason: str


@dataclass(frozen=True)
class Coverage:
    """The result.

    :ivar added: what the series adds. :ivar code: by file and number, the added lines that have code.
    :ivar claims: those that were run, in order. :ivar explained: what the series says of what does not run.
    """

    added: Mapping[str, AddedLines]
    code: Mapping[str, Mapping[int, Code]]
    claims: Sequence[str]
    explained: Sequence[Explained]

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """Lines that never ran, and lines with branches that were never taken."""
        return tuple(self._gaps())

    def _gaps(self) -> Iterator[Gap]:
        for file, lines in self.code.items():
            for number, code in lines.items():
                text = self.added[file].text[number - 1].strip()
                open_branches = len(code.branches) - code.branches_taken if code.claims else 0
                if code.claims and not open_branches:
                    continue
                functions = ", ".join(sorted(code.functions))
                explanations = [
                    explanation
                    for explanation in self.explained
                    if _explains(explanation, file, text, code, branch=bool(code.claims))
                ]
                yield Gap(file, number, text, functions, open_branches, explanations[0].reason if explanations else "")

    @property
    def stale(self) -> list[Explained]:
        """Explanations of what does run, or is not there."""
        return [
            explanation for explanation in self.explained if not any(self._meets(explanation, gap) for gap in self.gaps)
        ]

    def _meets(self, explained: Explained, gap: Gap) -> bool:
        code = self.code[gap.file][gap.number]
        return _explains(explained, gap.file, gap.text, code, branch=bool(gap.branches))

    def totals(self, file: str | None = None) -> Totals:
        """Numbers of a file, or of all."""
        files = list(self.added) if file is None else [file]
        codes = [code for name in files for code in self.code.get(name, {}).values()]
        gaps = [gap for gap in self.gaps if gap.file in files]
        return Totals(
            added=sum(len(self.added[name].patches) for name in files),
            code=len(codes),
            ran=sum(1 for code in codes if code.claims),
            explained=sum(1 for gap in gaps if not gap.branches and gap.reason),
            branches=sum(len(code.branches) for code in codes),
            branches_taken=sum(code.branches_taken for code in codes),
            branches_explained=sum(
                gap.branches or len(self.code[gap.file][gap.number].branches) for gap in gaps if gap.reason
            ),
        )

    def by_line(self) -> dict[str, dict[str, list[str]]]:
        """For ``coverage.json``: for each added line with code, the claims for which it ran."""
        return {
            file: {str(number): sorted(code.claims) for number, code in sorted(lines.items())}
            for file, lines in sorted(self.code.items())
        }


@dataclass(frozen=True, slots=True)
class Totals:
    """Lines and branches: how many there are, ran, and did not run and are explained."""

    added: int
    code: int
    ran: int
    explained: int
    branches: int
    branches_taken: int
    branches_explained: int

    @property
    def missing(self) -> int:
        """Lines that never ran, with nobody saying why."""
        return self.code - self.ran - self.explained

    @property
    def has_reached_goal(self) -> bool:
        """Whether the goal is: each line ran, and 95 % of the branches were taken, or it is said why not."""
        countable = self.branches - self.branches_explained
        return self.missing == 0 and (not countable or self.branches_taken >= GOAL_BRANCHES * countable)


def _explains(explained: Explained, file: str, text: str, code: Code, *, branch: bool) -> bool:
    """Whether an explanation is about a line (of which some branches, or all of it, did not run)."""
    if (
        explained.file != file
        or explained.code != text
        or (explained.branch and not branch)
        or (branch and not explained.branch)
    ):
        return False
    return not explained.function or explained.function in code.functions


def gather(
    gcov: str,
    folder: Path,
    functions: Mapping[str, Collection[int]],
    added: Mapping[str, AddedLines],
    explained: Sequence[Explained],
    order: Sequence[str] = (),
) -> Coverage:
    """Lay what was counted over the added lines.

    :param folder: with a folder ``notes`` of ``.gcno`` files, and what a ``Collector`` left.
    :param functions: the objects. :param order: claims that come first, in this order.
    :raises UserInputError: nothing was counted.
    """
    code: dict[str, dict[int, Code]] = {}
    prepared = folder / NOTES_FOLDER

    def lay(lines: Iterator[tuple[str, notes.Line]], claim: str | None) -> None:
        for _, line in lines:
            if line.number not in added.get(line.file, NOTHING).patches:
                continue
            entry = code.setdefault(line.file, {}).setdefault(line.number, Code())
            if line.function:
                entry.functions.add(line.function)
            if claim is not None and line.count > 0:
                entry.claims.add(claim)
            for place, count in enumerate(line.branches):
                numbers = entry.branches.setdefault((len(line.branches), place), set())
                if claim is not None and count > 0:
                    numbers.add(claim)

    lay(notes.lines(gcov, prepared, list(functions)), None)
    there = sorted(entry.name for entry in (folder / CLAIMS).iterdir()) if (folder / CLAIMS).is_dir() else []
    if not there:
        raise UserInputError(f"{folder} holds no counters", stage="coverage", hint="run 'make coverage' first")
    claims = [*(claim for claim in order if claim in there), *(claim for claim in there if claim not in order)]
    for claim in claims:
        counted = folder / CLAIMS / claim
        names = [str(file.relative_to(counted).with_suffix("")) for file in counted.rglob("*.gcda")]
        work = folder / "work"
        for name in names:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(prepared / f"{name}.gcno", work / f"{name}.gcno")
            shutil.copyfile(counted / f"{name}.gcda", work / f"{name}.gcda")
        lay(notes.lines(gcov, work, names), claim)
        shutil.rmtree(work, ignore_errors=True)
    return Coverage(added, code, claims, explained)


NOTES_FOLDER = "notes"
NOTHING = AddedLines((), {})
