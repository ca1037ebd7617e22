# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults: what is changed in a series' tree, made by an operator or by hand.

A fault by hand is ``host_setup/kernel/faults/SERIES/NAME.patch``. It goes on the series, and says at its beginning
which mistake it is, and which claims must name it::

    Mistake: the memory of a guest that was reset is handed over as it was.
    Claim: host_has_no_copy_of_private_page_after_reset
    Claim: host_finds_nothing_of_private_memory_after_reset
"""

from __future__ import annotations

import difflib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserInputError
from common.store import digest
from host_setup.kernel import arrival, patches
from host_setup.kernel.arrival import Patch
from host_setup.mutate.added_lines import files_touched, lines_added
from host_setup.mutate.operators import Mutant, mutants, predicates

STAGE = "fault"
FOLDER = Path(__file__).parent.parent / "kernel/faults"
_LAST = "9999"  # behind all patches of a series
_FIELD = re.compile(r"^(Mistake|Claim):\s*(.+(?:\n[ \t]+\S.*)*)$", re.MULTILINE)
_OLD_LINES = re.compile(rb"^@@ -(\d+)(?:,(\d+))? ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    :ivar name: of the file, or the mutant's. :ivar mistake: a sentence, or the line with the fault.
    :ivar operator: ``by hand``, or the mutant's. :ivar before: the line as it is; empty if made by hand.
    :ivar places: files and lines of the series' tree that it changes. :ivar function: that it is in, if known.
    :ivar must: the claims that must name it, by hand alone. :ivar patch: goes on the series.
    """

    name: str
    mistake: str
    operator: str
    patch: bytes
    places: tuple[tuple[str, int], ...]
    function: str = ""
    before: str = ""
    must: tuple[str, ...] = ()
    changes: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """Hash of what it changes."""
        return digest(self.patch)


def of_mutant(mutant: Mutant, text: str) -> Fault:
    """The fault that a mutant is.

    :param text: the file as the series leaves it.
    """
    changed = mutant.apply_to(text)
    names = (f"a/{mutant.file}", f"b/{mutant.file}")
    old, new = text.splitlines(keepends=True), changed.splitlines(keepends=True)
    diff = "".join(_cut_at_end(difflib.unified_diff(old, new, *names)))
    head = f"diff --git {names[0]} {names[1]}\n"
    mistake = mutant.after if mutant.after != mutant.before else mutant.operator.value
    return Fault(
        mutant.id, mistake, mutant.operator, (head + diff).encode(), ((mutant.file, mutant.line),), mutant.function,
        mutant.before, changes={mutant.file: changed},
    )  # fmt: skip


def _cut_at_end(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def machine_mutants(pristine: Path, patched: Path, series: Sequence[Patch]) -> list[Mutant]:
    """All mutants of what a series adds.

    :param pristine: the tree without the series. :param patched: the tree with it.
    """
    files = files_touched(series)
    texts = {name: (patched / name).read_text(encoding="utf-8") for name in files if (patched / name).is_file()}
    added = {name: lines_added(pristine / name, patched / name) for name in texts}
    gates = frozenset[str]().union(*(predicates(_only(text, added[name])) for name, text in texts.items()))
    return [mutant for name, text in texts.items() for mutant in mutants(name, text, added[name], gates)]


def _only(text: str, lines: frozenset[int]) -> str:
    return "\n".join(line for number, line in enumerate(text.split("\n"), 1) if number in lines)


def by_hand(folder: Path, tree: Path, logs: Path) -> list[Fault]:
    """The faults of a folder, by name; none if there is no such folder.

    :param tree: with the series. :param logs: where the log of a patch that does not apply stays.
    :raises UserInputError: a file does not say what it is. :raises KernelError: it does not apply.
    """
    return [_by_hand(file, tree, logs) for file in sorted(folder.glob("*.patch"))]


def _by_hand(file: Path, tree: Path, logs: Path) -> Fault:
    head = file.read_text(encoding="utf-8").partition("\ndiff --git ")[0]
    fields = [(name, " ".join(words.split())) for name, words in _FIELD.findall(head)]
    mistakes = [words for name, words in fields if name == "Mistake"]
    claims = tuple(words for name, words in fields if name == "Claim")
    if len(mistakes) != 1 or not claims:
        raise UserInputError(
            f"{file.name} does not describe its mistake", stage=STAGE, artefact=file,
            hint="begin it with one line 'Mistake: ...' and a line 'Claim: ID' for each claim that must name it",
        )  # fmt: skip
    file_patches = tuple(arrival.read(file))
    names = files_touched(file_patches)
    with tempfile.TemporaryDirectory(prefix="sealproof-fault-") as scratch:
        copy = Path(scratch) / "linux"
        for name in names:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            if (tree / name).exists():
                shutil.copyfile(tree / name, copy / name)
        patches.apply(copy, file_patches, logs, tree)
        changes = {name: (copy / name).read_text(encoding="utf-8") for name in names}
    return Fault(
        file.stem, mistakes[0], "by hand", file.read_bytes(), _places(file_patches), must=claims, changes=changes
    )


def _places(changes: Sequence[Patch]) -> tuple[tuple[str, int], ...]:
    places: list[tuple[str, int]] = []
    for patch in changes:
        for part in re.split(rb"^(?=diff --git )", patch.change, flags=re.MULTILINE):
            names = files_touched([Patch(patch.name, part, part)])
            for first, count in _OLD_LINES.findall(part):
                lines = range(int(first), int(first) + int(count or 1))
                places += [(name, line) for name in names for line in lines]
    return tuple(places)


@contextmanager
def as_series(base: Path, fault: Fault) -> Iterator[Path]:
    """A folder that is a series as another one, with a fault behind its patches; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sealproof-mutant-") as scratch:
        folder = Path(scratch) / f"{base.name}-with-a-fault"
        shutil.copytree(base, folder)
        plain = re.sub(r"[^\w.+-]", "_", fault.name)
        (folder / f"{_LAST}-{plain}.patch").write_bytes(fault.patch)
        yield folder
