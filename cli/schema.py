# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof schema``: print the JSON schema of signoff.json, or check files against it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonschema import Draft202012Validator

from common.paths import parse_path
from signoff.report.document import SCHEMA

WRONG = 1  # exit status


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof schema", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check",
        nargs="+",
        default=[],
        type=parse_path,
        metavar="FILE",
        help="signoff.json of a report",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Print it, or what is wrong with the files."""
    text = SCHEMA.read_text(encoding="utf-8")
    files: list[Path] = options_parser().parse_args(argv).check
    if not files:
        sys.stdout.write(text)
        return 0
    validator = Draft202012Validator(json.loads(text))
    faults = [f"{file}: {fault}" for file in files if (fault := _fault(validator, file))]
    sys.stdout.write("".join(f"{line}\n" for line in faults or [f"{file}: valid" for file in files]))
    return WRONG if faults else 0


def _fault(validator: Draft202012Validator, file: Path) -> str:
    """What is wrong with a file first; empty if nothing is."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return getattr(error, "strerror", None) or f"not JSON: {error}"
    fault = next(iter(validator.iter_errors(document)), None)
    if fault is None:
        return ""
    return f"at {'/'.join(map(str, fault.absolute_path)) or 'its root'}: {fault.message[:300]}"
