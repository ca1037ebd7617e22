# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines of a patched tree the series has added."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from common.errors import CommandError
from common.processes import spawn
from host_setup.kernel.arrival import Patch

STAGE = "mutate"
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


def files_touched(patches: Iterable[Patch]) -> tuple[str, ...]:
    """The C files that patches change, relative to the tree, sorted. Selftests are no part of a kernel."""
    names = {name for patch in patches for name in patch.written}
    return tuple(sorted(name for name in names if name.endswith((".c", ".h")) and not name.startswith("tools/")))


def lines_added(pristine: Path, patched: Path) -> frozenset[int]:
    """The numbers of the lines, from 1, that a file has beyond an earlier state of it, which may not be there.

    :raises CommandError: diff fails.
    """
    argv = ["diff", "--unified=0", "--new-file", str(pristine), str(patched)]
    process = spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    if process.returncode > 1:  # 1: they differ
        raise CommandError(argv, process.returncode, err.decode(errors="replace"), log=None, stage=STAGE)
    lines: set[int] = set()
    for first, count in _HUNK.findall(out.decode(errors="replace")):
        lines |= set(range(int(first), int(first) + int(count or 1)))
    return frozenset(lines)
