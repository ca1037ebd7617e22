# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof signoff --kernel A --kernel B``: a sign-off for each kernel, one after the other, then a page that puts
them side by side. Each is a process and a report of its own, so no kernel's verdict depends on another's.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cli import running
from common.errors import UserInputError
from common.names import path_text
from common.paths import PROJECT, parse_path, require_reports
from common.store import REPORTS, disk_errors
from history.side_by_side import PAGE, Column, column, to_html, to_text
from host_setup.kernel.source import OPTIONS
from signoff.overall import INTERRUPTED, Exit

_NOT_BEGUN = "not begun: the run before did not come to its end"
_LEAVE_NOTHING = ("--dry-run", "--collect-only", "--co")


def split_kernels(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The kernels that a command line names, and its other words."""
    parser = argparse.ArgumentParser(prog="sealproof signoff", add_help=False, allow_abbrev=False)
    parser.add_argument(*OPTIONS, dest="kernels", action="append", default=[])
    chosen, words = parser.parse_known_args(argv)
    return chosen.kernels, words


def run(kernels: Sequence[str], words: Sequence[str]) -> int:
    """Sign off each kernel; returns 1 if a claim failed on one of them, else 2 if one is not proven, else 0.

    :param words: the other options, the same for all.
    :raises UserInputError: a kernel is named twice. :raises SetupError: the reports cannot be written.
    """
    if len(set(kernels)) < len(kernels):
        raise UserInputError("--kernel names the same kernel twice", stage="options")
    reports, words = _reports(words)
    if any(word in _LEAVE_NOTHING for word in words):
        return _worst([running.run([*_signoff(kernel), *words]) for kernel in kernels])
    require_reports(reports)
    folder = reports / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}-kernels"
    columns: list[Column] = []
    missing: dict[str, str] = {}
    statuses = []
    for number, kernel in enumerate(kernels, 1):
        if any(column.run.summary.startswith(INTERRUPTED) for column in columns) or missing:
            missing[kernel] = _NOT_BEGUN
            continue
        place = folder / f"{number}-{_slug(kernel)}"
        sys.stdout.write(f"kernel {kernel} ({number} of {len(kernels)})\n")
        sys.stdout.flush()
        statuses.append(running.run([*_signoff(kernel), *words, "--reports", str(place.absolute())]))
        try:
            columns.append(column(kernel, _run_folder(place)))
        except UserInputError as error:
            missing[kernel] = error.message
    lines = list(to_text(columns, missing))
    if columns:
        with disk_errors(folder, REPORTS):
            (folder / PAGE).write_text(to_html(columns, missing, folder / PAGE), encoding="utf-8")
        lines.append(f"side by side: {path_text(folder / PAGE)}")
    sys.stdout.write("\n".join([*lines, ""]))
    return _worst([*statuses, *(Exit.NOT_PROVEN for _ in missing)])


def _signoff(kernel: str) -> list[str]:
    return ["env", "--block-signal=INT", sys.executable, "-E", "-m", "cli", "signoff", "--kernel", kernel]


def _reports(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder for reports, and the words without it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--reports", type=parse_path, default=Path("reports"))
    chosen, rest = parser.parse_known_args(words)
    return PROJECT / chosen.reports, rest


def _run_folder(place: Path) -> Path:
    """The folder of the one run below a folder.

    :raises UserInputError: there is none: the run could not begin.
    """
    folders = [path for path in place.glob("*") if path.is_dir() and not path.is_symlink()]
    if len(folders) != 1:
        raise UserInputError("it left no report: see its output above", stage="report")
    return folders[0]


def _slug(kernel: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(kernel).name)[:40].lstrip("-.") or "kernel"


def _worst(statuses: Sequence[int]) -> int:
    if Exit.FAILED in statuses:
        return Exit.FAILED
    return Exit.NOT_PROVEN if any(statuses) else Exit.PROVEN
