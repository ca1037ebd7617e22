# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof lint``: check types, style, layout, shell and licences; prints only what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cli.own_tests import LINT
from cli.running import run

CHECKS = ("types", "style", "layout", "shell", "licences")


def options_parser() -> argparse.ArgumentParser:
    """The checks."""
    parser = argparse.ArgumentParser(prog="sealproof lint", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"only these: {', '.join(CHECKS)}; default: all")
    return parser


def main(argv: Sequence[str]) -> int:
    """Check; the exit status is 1 if something is wrong."""
    return run((*LINT, *options_parser().parse_args(argv).checks))
