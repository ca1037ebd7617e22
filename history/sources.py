# SPDX-License-Identifier: GPL-2.0-or-later
"""Brings git trees of the user up to date before a night, where the matrix says so: ``git pull --ff-only``.

It is the user's own pull: with the user's configuration and keys, and never a merge. A tree that cannot be updated is
used as it is, and the night says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import DeadlineError
from common.names import path_text
from common.processes import spawn
from common.store import disk_errors
from common.text import printable
from common.waiting import Deadline, poll_until

PATIENCE = 900.0  # seconds for one tree
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}  # nobody is there to answer


def update(trees: Sequence[Path], folder: Path, patience: float = PATIENCE) -> Iterator[str]:
    """Update each tree; yields what went wrong, a line each.

    :param folder: for git's words. :param patience: seconds for each tree.
    :raises NoSpaceError: its disk is full.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number, tree in enumerate(trees, 1):
        log = folder / f"pull-{number}.log"
        with log.open("wb") as out:
            argv = ["git", "-C", str(tree), "pull", "--ff-only", "--quiet"]
            process = spawn(argv, stdout=out, stderr=subprocess.STDOUT, env=_QUIET)
            try:
                poll_until(lambda: process.poll() is not None, Deadline(patience), "git pull", interval=0.2)  # noqa: B023  called here alone
            except DeadlineError:
                yield f"{path_text(tree)} was not updated: git pull took longer than {patience:.0f} s"
                continue
            finally:
                process.kill()
                process.wait()
        if process.returncode:
            log_lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
            yield printable(f"{path_text(tree)} was not updated: {log_lines[-1][:300]}")
