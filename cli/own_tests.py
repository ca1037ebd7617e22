# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof test``: check the files, then run the project's own tests, unit and end to end.

All claims are tried where something protects, and a quick selection where nothing does, which each probe must get
through. Arguments go to both runs of pytest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cli.running import run

LINT = ("bash", ".ci/lint")
ALL = ("tests_unit", "tests_machines", "tests_e2e", "--mode", "protected", "--series", "protected-memory")
CONTROLS = ("tests_e2e", "--mode", "plain", "--series", "protected-memory", "-m", "quick")
NOTHING_CHOSEN = 5  # pytest's exit status: the arguments chose no test


def options_parser() -> argparse.ArgumentParser:
    """All arguments are pytest's."""
    parser = argparse.ArgumentParser(
        usage="sealproof test [OPTIONS OF PYTEST]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-k", metavar="EXPRESSION", help="only tests whose name fits")
    parser.add_argument("-x", "--exitfirst", action="store_true", help="end at the first failure")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run them. Exit status 0 if all went well, else that of the first run that did not."""
    pytest = (sys.executable, "-E", "-m", "pytest")
    for words in (LINT, (*pytest, *ALL, *argv)):
        if status := run(words):
            return status
    status = run((*pytest, *CONTROLS, *argv))
    return 0 if status == NOTHING_CHOSEN else status  # the arguments chose tests, and none of these
