# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that die with the run, also when the run is killed with SIGKILL.

A single process (a QEMU) gets a parent-death signal. A tree (make and its compilers) runs under a supervisor that is
the tree's subreaper: when the run dies, or asks for it, the supervisor kills every descendant. ``PR_SET_PDEATHSIG``
fires when the *thread* that forked ends (prctl(2)), so both must be called from a thread that lives as long as the run:
the main thread.

They get the environment that ``common.environment`` makes, not this process's own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from common.environment import environment, shell_line
from common.errors import CommandError, SetupError

SUPERVISOR = Path(__file__).with_name("supervisor.py")
TAIL_LINES = 30


def _with_death_signal(argv: Sequence[str]) -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def _require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "start processes from the main thread: the death signal is tied to the thread that starts them"
        )


def spawn(
    argv: Sequence[str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start one process that dies with this one; it must not have children that outlive it.

    It leads its own session, so that Ctrl-C reaches the run alone, which then ends it in order.

    :param env: what it gets beside ``common.environment``'s.
    :raises SetupError: if the program is not there.
    """
    _require_main_thread()
    variables = environment(env)
    if shutil.which(argv[0], path=variables["PATH"]) is None:
        raise SetupError(f"{argv[0]} is not installed", hint="run 'make doctor': it names the Debian package")
    return subprocess.Popen(
        _with_death_signal(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        env=variables,
        start_new_session=True,
    )


def run_tree(
    argv: Sequence[str],
    *,
    log: Path,
    stage: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    more_names: Sequence[str] = (),
    on_line: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a command and all that it starts, to its end; every line goes to ``log`` and to ``on_line``.

    The log's first line is the command itself, ready to be pasted into a shell. When this process is interrupted or
    dies, the whole tree is killed.

    :param env: what it gets beside ``common.environment``'s. :param more_names: which variables of this process it gets
        beside.
    :raises CommandError: when the command fails; carries the last lines.
    """
    _require_main_thread()
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: list[str] = []
    # A path may be any bytes, and people paste the command.
    with log.open("a", encoding="utf-8", errors="surrogateescape") as out:
        out.write(f"$ {shell_line(argv, env, cwd=cwd)}\n")
        out.flush()
        # The supervisor's standard input is its leash: it ends when this process does, however that happens. A death
        # signal would be wrong here: it would end the supervisor before it has ended the tree.
        supervisor = subprocess.Popen(
            [sys.executable, "-S", str(SUPERVISOR), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment(env, more_names=more_names),
            start_new_session=True,
            text=True,
            errors="replace",
            bufsize=1,
        )
        try:
            for line in supervisor.stdout or ():
                out.write(line)
                out.flush()
                tail = [*tail[-TAIL_LINES + 1 :], line]
                on_line(line.rstrip("\n"))
            returncode = supervisor.wait()
        finally:
            if supervisor.stdin is not None:
                supervisor.stdin.close()
            supervisor.wait()
    if returncode != 0:
        raise CommandError(list(argv), returncode, "".join(tail), log=log, stage=stage)
