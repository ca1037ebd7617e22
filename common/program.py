# SPDX-License-Identifier: GPL-2.0-or-later
"""How each command of ours ends: its own status, or an error's text on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from common.errors import SealproofError

FAILED = 2  # exit status: the error tells why
INTERRUPTED = 128 + 2  # as a shell says it: ended by SIGINT


def end_with(main: Callable[[list[str]], int]) -> NoReturn:
    """Call ``main`` with the command line's arguments, and end this process with its status."""
    try:
        status = main(sys.argv[1:])
    except SealproofError as error:
        sys.stderr.write(f"{error}\n")
        status = FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = INTERRUPTED
    sys.exit(status)
