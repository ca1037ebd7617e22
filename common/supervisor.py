# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one command as a process of its own, and ends the whole tree below it when standard input ends.

Standard library alone and no project import: it must start fast and work under ``python -S``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def descendants(root: int) -> list[int]:
    """The process ids of all that a process has started, directly or not, and that still run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it ended while we looked
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    pids: list[int] = []
    queue = [root]
    while queue:
        for child in children.get(queue.pop(), []):
            pids.append(child)
            queue.append(child)
    return pids


def _supervise(argv: Sequence[str]) -> int:
    """Run ``argv``; kill it and all its descendants when standard input ends. Runs as a process of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_supervisor() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=die_with_supervisor)  # noqa: PLW1509  no thread yet
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201  it is the command's own output
        return 127  # as a shell says it

    def kill_all() -> None:
        # New processes may appear while we kill: until none is left.
        while pids := descendants(os.getpid()):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    continue
            except ChildProcessError:
                return
            time.sleep(0.01)

    def end(*_: object) -> None:
        kill_all()
        os._exit(128 + signal.SIGTERM)

    def leash() -> None:
        while os.read(0, 1):
            continue
        end()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=leash, daemon=True).start()
    status = child.wait()
    kill_all()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(_supervise(sys.argv[1:]))
