# SPDX-License-Identifier: GPL-2.0-or-later
"""Short commands whose output is the answer; the long ones, with a log, are ``common.processes.run_tree``'s."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from common.errors import CommandError
from common.processes import spawn


def output(argv: Sequence[str], *, stage: str, env: Mapping[str, str] | None = None) -> bytes:
    """What a command writes to its standard output.

    :param env: added to this process's environment.
    :raises SetupError: the program is not there.
    :raises CommandError: it failed; carries what it wrote to standard error.
    """
    if env:
        argv = ["env", *(f"{name}={value}" for name, value in env.items()), *argv]
    process = spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise CommandError(list(argv), process.returncode, err.decode(errors="replace"), log=None, stage=stage)
    return out
