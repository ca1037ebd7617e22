# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs programs of ours to their end, as a shell script would, and ends them in order when this process shall end."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from common.paths import PROJECT
from common.threads import workers

_DEATH = ("/usr/bin/setpriv", "--pdeathsig", "TERM", "--")  # also when this process is killed


def run(argv: Sequence[str]) -> int:
    """Run it in the checkout; returns its exit status, as a shell says it where a signal ended it.

    Ctrl-C reaches the program by itself: it is in the terminal's process group, as this one is, which waits for it.
    """
    with _end_in_order() as start:
        return _status(start(argv, None))


def run_together(argvs: Sequence[Sequence[str]], say: Callable[[int, str], None]) -> list[int]:
    """Run several at the same time; returns their exit statuses, as ``run`` does.

    :param say: takes each line that one of them prints, after its number in ``argvs``; each has a thread of its own.
    """
    with _end_in_order() as start:
        processes = [start(argv, subprocess.PIPE) for argv in argvs]
        with workers(len(processes)) as readers:
            done = [readers.submit(_read, process.stdout, number, say) for number, process in enumerate(processes)]
        for reader in done:
            reader.result()
        return [_status(process) for process in processes]


def _read(output: IO[bytes] | None, number: int, say: Callable[[int, str], None]) -> None:
    for line in output or ():
        try:
            say(number, line.decode(errors="replace").rstrip("\r\n"))
        except OSError:
            continue  # nobody hears it any more; unread, the program would wait for room in its pipe for ever


def _status(process: subprocess.Popen[bytes]) -> int:
    status = process.wait()
    return status if status >= 0 else 128 - status


@contextmanager
def _end_in_order() -> Iterator[Callable[[Sequence[str], int | None], subprocess.Popen[bytes]]]:
    """Yields what starts a program, whose output goes where it is told, or where ours goes.

    When this process is told to end, it tells all of them; so it does a program that begins after that.
    """
    started: list[subprocess.Popen[bytes]] = []
    signals: list[int] = []

    def start(argv: Sequence[str], output: int | None) -> subprocess.Popen[bytes]:
        errors = None if output is None else subprocess.STDOUT
        process = subprocess.Popen([*_DEATH, *argv], cwd=PROJECT, stdout=output, stderr=errors)
        started.append(process)
        if signals:
            process.terminate()
        return process

    def end(signum: int, _: FrameType | None) -> None:
        signals.append(signum)
        if signum != signal.SIGINT:
            for process in started:
                process.terminate()

    # Before a program begins: a signal in between would end this process alone. The program inherits no handler of
    # ours.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, end)}
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup's wish
            before[signum] = signal.signal(signum, end)
    try:
        yield start
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
