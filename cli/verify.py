# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof verify REPORT``: the verifier, which trusts this checkout's contract and the user's own key.

More may be named. Of a report that is sound, page and exports are then made again and compared byte for byte, which the
verifier alone cannot do.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from common.paths import config_root
from fleet.groups import CONTRACT
from signoff import __main__ as reports
from signoff.keys import PRIVATE_KEY
from verifier import __main__ as verifier
from verifier.tree import load

NAME = "sealproof verify"


def options_parser() -> argparse.ArgumentParser:
    """The verifier's command line."""
    return verifier.parser(NAME)


def main(argv: Sequence[str]) -> int:
    """Check it; returns the verifier's exit status, or that of the comparison."""
    key = config_root() / PRIVATE_KEY
    words = ["--contract", str(CONTRACT), *(("--key", str(key)) if key.is_file() else ()), *argv]
    status = verifier.main(words, NAME)
    if status:
        return status
    report: Path = options_parser().parse_args(argv).report
    if report.is_dir():
        return reports.main(["--same", str(report)])
    with TemporaryDirectory(prefix="sealproof-verify-") as folder:
        tree = load(report)
        for name in tree.names:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tree.read(name))
        return reports.main(["--same", folder])
