# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends each of our commands: with its own status, or with an error's text on standard error."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from common.errors import SealproofError
from common.text import printable

FAILED = 2  # exit status: the error tells why
INTERRUPTED = 128 + 2  # as a shell says it: ended by SIGINT, or asked to end


def end_with(main: Callable[[list[str]], int], failed: int = FAILED) -> NoReturn:
    """Call ``main`` with the command line's arguments, and end this process with its status.

    Status 1 is a verdict of several commands, so no failure ends with it, as Python itself would.

    :param failed: the status of a failure.
    """
    _open_streams()
    end_as_by_ctrl_c()
    hear_how_programs_end()
    complaint = ""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # ./sealproof blocks it while Python starts
        status = main(sys.argv[1:])
    except SealproofError as error:
        status, complaint = failed, f"{printable(str(error))}\n"
    except KeyboardInterrupt:
        status, complaint = INTERRUPTED, "interrupted\n"
    except BrokenPipeError:  # the reader has gone
        status = failed
    except Exception:  # noqa: BLE001  a fault of ours
        status, complaint = failed, traceback.format_exc()
    # The status is known: nothing is told any more in the middle of Python's own end.
    for request in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(request) is signal.default_int_handler:
            signal.signal(request, signal.SIG_DFL)
    sys.exit(_report_status(complaint, status, failed))


def end_as_by_ctrl_c() -> None:
    """From now on SIGTERM (make died) and SIGHUP (the terminal closed) raise ``KeyboardInterrupt``, as SIGINT does."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup's wish
            signal.signal(signum, signal.default_int_handler)


def hear_how_programs_end() -> None:
    """A parent that ignores SIGCHLD hands that on. Nobody is told then how a program has ended; Python says: well."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _open_streams() -> None:
    """Let nothing that is opened later take the number of a standard stream that was closed."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, os.fdopen(number, mode))


def _report_status(complaint: str, status: int, failed: int) -> int:
    """The status after all output has gone out. A success whose output nobody could read is a failure."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, complaint)):
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python tries it again, and complains
            status = status or failed
    return status
