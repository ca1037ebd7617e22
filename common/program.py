# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends each of our commands: with its own status, or with an error's text on standard error."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from common.errors import SealproofError
from common.text import printable

FAILED = 2  # exit status: the error tells why
INTERRUPTED = 128 + 2  # as a shell says it: ended by SIGINT, or asked to end


def end_with(main: Callable[[list[str]], int]) -> NoReturn:
    """Call ``main`` with the command line's arguments, and end this process with its status."""
    for request in (signal.SIGTERM, signal.SIGHUP):  # make died, or the terminal closed: end as after Ctrl-C
        if signal.getsignal(request) is not signal.SIG_IGN:  # nohup's wish
            signal.signal(request, signal.default_int_handler)
    try:
        status = main(sys.argv[1:])
    except SealproofError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        status = FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = INTERRUPTED
    sys.exit(status)
