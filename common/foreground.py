# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs an interactive program: it has the terminal until it ends, and it ends with this process.

On a terminal it gets a process group of its own, in the foreground, as a shell does it for a job: Ctrl-C is the
program's then, and neither this one nor the make that called it takes it for an order to end (tcsetpgrp(3)).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from common.errors import DeadlineError
from common.waiting import Deadline, poll_until

POLL = 0.05  # seconds between two looks
GRACE = 5.0  # seconds that it gets to end in order
_DEATH = ("setpriv", "--pdeathsig", "TERM", "--")  # not KILL: ssh puts the terminal back before it ends


def run(argv: Sequence[str], *, over: Callable[[], bool] = lambda: False) -> int | None:
    """Run a program to its end, with this one's standard input and output.

    :param over: whether there is nothing left to talk to; it is asked again and again, and ends the program.
    :returns: its exit status, negative for a signal; None if ``over`` ended it.
    :raises KeyboardInterrupt: this process is told to end; the program has ended by then.
    """
    with _terminal() as terminal:
        process = subprocess.Popen([*_DEATH, *argv], process_group=None if terminal is None else 0)
        try:
            if terminal is not None:
                _hand_over(terminal, process.pid)
            poll_until(
                lambda: _exit_status(process) is not None or over(),
                Deadline(math.inf),
                f"{argv[0]} to end",
                interval=POLL,
            )
            return _exit_status(process)
        finally:
            _end(process)


def interactive() -> bool:
    """Whether standard input and output are a terminal, so a program may draw on it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def _terminal() -> Iterator[int | None]:
    """The terminal, if there is one and it is ours to hand on; afterwards it is as it was, and ours again."""
    try:
        terminal = sys.stdin.fileno()
        ours = os.tcgetpgrp(terminal) == os.getpgrp()
        before = termios.tcgetattr(terminal)
    except (OSError, ValueError, termios.error):
        yield None
        return
    if not ours:
        yield None
        return
    try:
        yield terminal
    finally:
        with contextlib.suppress(OSError, termios.error):  # it was closed
            _hand_over(terminal, os.getpgrp())
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _hand_over(terminal: int, group: int) -> None:
    # Who is not in the foreground is stopped by SIGTTOU for this, and by SIGTTIN for reading too early.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        signal.signal(signal.SIGTTOU, before)
    if group != os.getpgrp():
        os.killpg(group, signal.SIGCONT)


def _exit_status(process: subprocess.Popen[bytes]) -> int | None:
    """The status of a program that has ended. One that was stopped by Ctrl-Z goes on: no shell is there to wake it."""
    if process.returncode is not None:
        return process.returncode
    pid, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED)
    if not pid:
        return None
    if os.WIFSTOPPED(status):
        os.kill(process.pid, signal.SIGCONT)
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, in order if it will."""
    if _exit_status(process) is not None:
        return
    process.terminate()
    try:
        poll_until(lambda: _exit_status(process) is not None, Deadline(GRACE), "it to end", interval=POLL)
    except DeadlineError:
        process.kill()
        process.wait()
