# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m signoff reports/<run id>``: write a run's reports from its folder, also after the run was killed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.errors import SealproofError
from signoff.overall import Exit
from signoff.report import write
from signoff.report.terminal import lines


def main() -> int:
    """Write the reports, print the verdict; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m signoff", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run's folder below reports/")
    folder = parser.parse_args().folder.resolve()
    try:
        report = write(folder)
    except SealproofError as error:
        sys.stderr.write(f"{error}\n")
        return Exit.NOT_PROVEN
    sys.stdout.write("".join(f"{line}\n" for line, _ in lines(report, folder, 100)))
    return report.overall.exit_code


if __name__ == "__main__":
    sys.exit(main())
