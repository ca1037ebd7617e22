# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m cli.tests WORDS``: pytest, in a process that ends as our commands do.

Who starts it blocks SIGINT, as ``start`` does, which waits until the program can take it: Python, as it starts, would
show a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from common.program import FAILED, end_with

WORKERS = "1"  # where --workers does not say another number
VERDICTS = (0, 1)  # every claim PASS, or all tests; a claim FAIL, or a test that failed


def start(words: Sequence[str]) -> list[str]:
    """The command that is a process of its own."""
    return ["env", "--block-signal=INT", sys.executable, "-E", "-m", __name__, *words]


def main(argv: Sequence[str]) -> int:
    """Run pytest; returns the exit status of the verdict.

    Whatever else pytest ends with (an internal error, a wrong option) is "not proven".
    """
    sys.argv = ["pytest", *argv]  # as `python -m pytest` has it: the report tells this command
    status = int(pytest.main())  # its console_main() ends with 1 where the reader of the output has gone
    return status if status in VERDICTS else FAILED


if __name__ == "__main__":
    end_with(main)
