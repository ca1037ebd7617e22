# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs short commands for their output. ``common.processes.run_tree`` runs long commands with a log."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import CommandError
from common.processes import spawn

# No settings of the user or the machine, no lock on the user's index, no question, nothing fetched.
GIT_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
# The repository may belong to somebody else; none of its settings may start a program, or hide a file.
GIT = (
    "git",
    *("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "core.excludesFile=/dev/null", "-c", "protocol.allow=never"),
)


def output(
    argv: Sequence[str], *, stage: str, env: Mapping[str, str] | None = None, complaints: list[str] | None = None
) -> bytes:
    """Run a command and return its standard output.

    :param env: what it gets beside ``common.environment``'s.
    :param complaints: gets the lines that it writes to standard error though it succeeds.
    :raises SetupError: the program is not there.
    :raises CommandError: it failed; carries what it wrote to standard error.
    """
    process = spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    try:
        out, err = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise CommandError(list(argv), process.returncode, err.decode(errors="replace"), log=None, stage=stage)
    if complaints is not None:
        complaints += err.decode(errors="replace").splitlines()
    return out


def git(folder: Path, *arguments: str, stage: str, complaints: list[str] | None = None) -> bytes:
    """Run git on a folder, independent of the user's git configuration; parameters and errors as of ``output``."""
    argv = [*GIT, "-C", str(folder), *arguments]
    return output(argv, stage=stage, env=GIT_ENVIRONMENT, complaints=complaints)
