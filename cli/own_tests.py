# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof test``: check the files, then run the project's own tests, unit and end to end.

All claims are tried in mode protected. The quick list is also tried in mode plain, where every probe must get through.
With --quick only the quick list is tried, in both modes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cli import tests
from cli.running import run

LINT = ("bash", ".ci/lint")
ALL = ("tests/unit", "tests/machines", "tests_e2e", "--mode", "protected", "--series", "protected-memory")
QUICK = tuple(word for word in ALL if word != "tests_e2e")  # tests/machines has the quick list


def options_parser() -> argparse.ArgumentParser:
    """All other arguments are pytest's."""
    parser = argparse.ArgumentParser(
        usage="sealproof test [OPTIONS OF PYTEST]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the quick list in place of all claims")
    parser.add_argument("-k", metavar="EXPRESSION", help="only tests whose name fits")
    parser.add_argument("-x", "--exitfirst", action="store_true", help="end at the first failure")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run them. Exit status 0 if all went well, else that of the first run that did not."""
    chosen = QUICK if "--quick" in argv else ALL
    rest = [word for word in argv if word != "--quick"]
    return run(LINT) or run(tests.start([*chosen, *rest]))
