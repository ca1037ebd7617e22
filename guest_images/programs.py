# SPDX-License-Identifier: GPL-2.0-or-later
"""The small C programs that run inside host and guest, compiled on this machine as one static binary."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from common.environment import environment
from common.errors import CommandError, ImageError
from common.paths import PROJECT
from common.processes import run_tree
from common.progress import Terminal
from common.store import Store, digest

SOURCES = PROJECT / "guest_images" / "programs"
MODULES = PROJECT / "guest_images" / "modules"
EXPECTED = 8.0  # seconds
PATIENCE = 30.0  # seconds for a measure that takes a fiftieth of one
PROGRAM = "sealproof"  # all in one


@dataclass(frozen=True, slots=True)
class Programs:
    """The compiled programs, by name."""

    folder: Path
    key: str

    def read(self, name: str) -> bytes:
        """One program.

        :raises ImageError: there is no such program.
        """
        path = self.folder / name
        if not path.is_file():
            raise ImageError(f"no program {name} was compiled", hint=f"there must be a {name}.c in {SOURCES}")
        return path.read_bytes()

    def tsc_khz(self) -> int:
        """How fast this machine's time-stamp counter runs, measured now; good for a few parts in a million.

        :raises ImageError: the program does not run here.
        """
        try:
            done = self._run("tsc_rate")
            done.check_returncode()
            return int(json.loads(done.stdout)["khz"])
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            raise ImageError(
                f"this machine's time-stamp counter cannot be measured: {error}",
                hint=f"run it by hand: {self.folder / 'tsc_rate'}",
            ) from error

    def rows(self) -> list[str]:
        """The rows of ``tiny_vm``, as it names them where it is called without any.

        :raises ImageError: the program does not run here, or names none.
        """
        reason = "it names none"
        try:
            if rows := self._run("tiny_vm").stderr.partition("rows:")[2].split():
                return rows
        except (OSError, subprocess.SubprocessError) as error:
            reason = str(error)
        raise ImageError(
            f"tiny_vm does not say which rows it has: {reason}", hint=f"run it by hand: {self.folder / 'tiny_vm'}"
        )

    def _run(self, name: str) -> subprocess.CompletedProcess[str]:
        program = str(self.folder / name)
        return subprocess.run(
            [program], env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def names(self) -> list[str]:
        """All of them: the names that the one program goes by."""
        return sorted(p.name for p in self.folder.iterdir() if p.is_symlink())


def programs(store: Store, terminal: Terminal) -> Programs:
    """The programs, compiled with ``-Wall -Wextra -Werror`` if the cache lacks them.

    :raises ImageError: with the compiler's lines.
    """
    sources = sorted(path for path in SOURCES.rglob("*") if path.suffix in (".c", ".h") or path.name == "Makefile")
    compiler = subprocess.run(
        ["gcc", "--version"], env=environment(), capture_output=True, text=True, check=False
    ).stdout
    key = digest(compiler, *sources, *sorted(MODULES.glob("*.h")))

    def make(folder: Path) -> None:
        log = store.root / "logs" / f"programs-{key}.log"
        log.unlink(missing_ok=True)
        try:
            with terminal.step("programs of host and guest", expected=EXPECTED):
                run_tree(["make", "-C", str(SOURCES), f"OUT={folder}"], log=log, stage="programs")
        except CommandError as error:
            raise ImageError(f"a program does not compile\n{error.tail}", artefact=log) from error

    return Programs(store.get_or_make("programs", key, make), key)
