# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines that a series adds to a kernel's tree, each with the patch that it comes from.

The patches are applied and committed one after the other, to the touched files alone; ``git blame`` tells the rest.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.commands import git
from host_setup.coverage.counters import STAGE
from host_setup.kernel.arrival import Patch
from host_setup.kernel.patches import apply

_NAME = re.compile(rb'^(?:---|\+\+\+) "?[ab]/([^\t\n"]+)', re.MULTILINE)
CODE = (".c", ".h", ".S")
_AUTHOR = ("-c", "user.name=sealproof", "-c", "user.email=sealproof@localhost")


@dataclass(frozen=True, slots=True)
class AddedLines:
    """What a series adds to a file.

    :ivar text: the file's lines, with all patches applied. :ivar patches: by line number, for each line that was added,
        the name of the patch.
    """

    text: tuple[str, ...]
    patches: Mapping[int, str]


def lines_added(pristine: Path, patches: Sequence[Patch], work: Path) -> dict[str, AddedLines]:
    """What a series adds, by file of the tree; of code alone.

    :param pristine: the tree without the patches. :param work: a folder that does not exist yet; it is of no use
        afterwards.
    :raises SealproofError: a patch does not apply.
    """
    names = sorted({name.decode() for patch in patches for name in _NAME.findall(patch.change)})
    tree = work / "tree"
    tree.mkdir(parents=True)
    for name in names:
        if (pristine / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pristine / name, tree / name)
    git(tree, "init", "--quiet", stage=STAGE)
    commits = {_commit(tree): ""}
    for patch in patches:
        apply(tree, [patch], work / "logs", pristine)
        commits[_commit(tree)] = patch.name
    there = [name for name in names if name.endswith(CODE) and (tree / name).is_file()]
    by_file = {name: _blame(tree, name, commits) for name in there}
    return {name: lines for name, lines in by_file.items() if lines.patches}


def _commit(tree: Path) -> str:
    git(tree, "add", "--all", "--force", stage=STAGE)
    git(tree, *_AUTHOR, "commit", "--quiet", "--allow-empty", "--message=patch", stage=STAGE)
    return git(tree, "rev-parse", "HEAD", stage=STAGE).decode().strip()


def _blame(tree: Path, name: str, commits: Mapping[str, str]) -> AddedLines:
    output = git(tree, "blame", "--incremental", "--", name, stage=STAGE)
    patches: dict[int, str] = {}
    for commit, first, number in re.findall(rb"^([0-9a-f]{40}) \d+ (\d+) (\d+)$", output, re.MULTILINE):
        patch = commits[commit.decode()]
        if patch:
            patches.update(dict.fromkeys(range(int(first), int(first) + int(number)), patch))
    text = (tree / name).read_text(encoding="utf-8", errors="replace").split("\n")
    return AddedLines(tuple(text), dict(sorted(patches.items())))
