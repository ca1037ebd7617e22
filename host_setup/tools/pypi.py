# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs from PyPI that a run can do without: each is installed when it is first asked for.

It comes as a lock file pins it, with hashes, into an environment of its own in the cache.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from common.environment import PIP
from common.processes import run_tree
from common.progress import Terminal
from common.store import GIB, Store, digest


def version_in_lock(lock: str, name: str) -> str:
    """The version that a lock file's text pins.

    :raises ValueError: it pins none.
    """
    match = re.search(rf"^{re.escape(name)}==(\S+)", lock, re.MULTILINE)
    if match is None:
        raise ValueError(f"the lock file does not pin {name}")
    return match[1]


def key(lock: Path, store: Store) -> str:
    """Of a program's entry in the cache. The folder counts: a virtual environment does not survive being moved."""
    return digest(lock, sys.version, str(store.root))


def install(
    name: str,
    lock: Path,
    commands: Sequence[str],
    store: Store,
    terminal: Terminal,
    *,
    run: Callable[..., None] = run_tree,
) -> Path:
    """Install a program if it is not there.

    :param commands: of it, that will be called. :param run: runs a command.
    :returns: the folder of its commands.
    :raises CommandError: pip could not.
    """
    entry = key(lock, store)
    log = store.root / "logs" / f"{name}-{entry}.log"
    programs = store.path(name, entry) / "bin"

    def make(folder: Path) -> None:
        pip = [str(folder / "bin/python"), "-I", "-m", "pip", "install", "--quiet", "--no-input"]
        with terminal.step(f"install {name} {version_in_lock(lock.read_text(encoding='utf-8'), name)}"):
            run([sys.executable, "-I", "-m", "venv", str(folder)], log=log, stage=name)
            locked = [*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
            run(locked, more_names=PIP, log=log, stage=name)
        for command in commands:  # they name their Python by its path, and the folder is about to get its final name
            script = folder / "bin" / command
            text = script.read_text(encoding="utf-8")
            script.write_text(text.replace(str(folder / "bin"), str(programs)), encoding="utf-8")
        log.unlink()

    store.get_or_make(name, entry, make, need=GIB // 8)
    return programs
