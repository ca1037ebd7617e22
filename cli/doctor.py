# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof doctor [INVENTORY]``: what this machine offers and lacks, or each machine of an inventory.

Without an inventory it needs the standard library alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from host_setup.tools import doctor


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof doctor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "inventory", nargs="?", metavar="INVENTORY", help="a TOML file of machines; each is tried, nothing is changed"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Say it. Exit status 1 if a sign-off cannot run."""
    file = options_parser().parse_args(argv).inventory
    if file is None:
        return doctor.main()
    from host_setup.tools import remote_doctor as remote  # noqa: PLC0415  needs what may not be installed yet

    return remote.main([file])
