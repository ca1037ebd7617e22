# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m signoff reports/<run id>``: show a run's verdict; of a run that was killed write the reports first.

A finished run has signed reports, which stay as they are. The verdict is shown only if the user's own key signed it.
Reports of a killed run are not signed, and prove nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import SealproofError, UserInputError
from common.paths import config_root, expand_home, parse_path
from common.text import printable
from signoff.attestation import verify
from signoff.evidence import ATTESTATION
from signoff.keys import fingerprint, own_key
from signoff.overall import Exit
from signoff.report import assemble, render, write
from signoff.report.terminal import lines
from signoff.ssh import sign as ssh_sign

CHANGED = 3
UNSIGNED = "this run was not signed at its end, so nobody vouches for its files"


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof report", description=__doc__)
    parser.add_argument("folder", type=parse_path, metavar="REPORT", help="a run's folder below reports/")
    parser.add_argument(
        "--same", action="store_true", help="make the page and the exports again, and compare byte for byte"
    )
    parser.add_argument("--ssh-key", type=parse_path, metavar="KEY", help="sign a run of yours with an SSH key as well")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the reports, print the verdict; returns its exit code."""
    arguments = options_parser().parse_args(argv)
    folder = arguments.folder.resolve()
    try:
        if arguments.same:
            return _same(folder)
        if (folder / ATTESTATION).is_file():
            verify(folder, fingerprint(own_key(config_root()).public_key()))
            if arguments.ssh_key:
                ssh_sign(folder, expand_home(arguments.ssh_key))
            report = assemble(folder)
        elif arguments.ssh_key:
            raise UserInputError(f"{folder} was not signed at its end, so nobody vouches for it", stage="sign")
        else:
            report = write(folder, problems=[UNSIGNED])
    except SealproofError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return Exit.NOT_PROVEN
    sys.stdout.write("".join(f"{line}\n" for line, _ in lines(report, folder, 100)))
    return report.overall.exit_code


def _same(folder: Path) -> int:
    """Whether the reports are those that the evidence makes; returns 0 or the status for what was changed."""
    fresh = render(assemble(folder), folder)
    wrong = [name for name, content in fresh.items() if not _holds(folder / name, content)]
    if wrong:
        sys.stderr.write(
            f"{', '.join(wrong)}: differs from the evidence, or was made by another version of sealproof\n"
        )
        return CHANGED
    sys.stdout.write(f"made again from the evidence, and identical byte for byte: {', '.join(fresh)}\n")
    return 0


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file is there, and has this content."""
    return path.is_file() and path.read_bytes() == content


if __name__ == "__main__":
    sys.exit(main())
