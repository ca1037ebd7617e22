# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a program of ours to its end, as a shell script would, and ends it in order when this process is told to end."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from common.paths import PROJECT

_DEATH = ("/usr/bin/setpriv", "--pdeathsig", "TERM", "--")  # also when this process is killed


def run(argv: Sequence[str]) -> int:
    """Run it in the checkout; returns its exit status, as a shell says it where a signal ended it.

    Ctrl-C reaches the program by itself: it is in the terminal's process group, as this one is, which waits for it.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []  # what came before there was a process to tell

    def end(signum: int, _: FrameType | None) -> None:
        if process is None:
            early.append(signum)
        elif signum != signal.SIGINT:
            process.terminate()

    # Before the program begins: a signal in between would end this process alone. The program inherits no handler of
    # ours.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, end)}
    requests = [
        signum for signum in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(signum) is not signal.SIG_IGN
    ]  # nohup
    before |= {request: signal.signal(request, end) for request in requests}
    try:
        process = subprocess.Popen([*_DEATH, *argv], cwd=PROJECT)
        if early:
            process.terminate()
        status = process.wait()
    finally:
        for request, handler in before.items():
            signal.signal(request, handler)
    return status if status >= 0 else 128 - status
