# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes reports from a run's folder: ``signoff.html``, ``signoff.json``, and exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.store import REPORTS, disk_errors
from signoff.contract_files import files, places
from signoff.evidence import CONTRACT, Evidence
from signoff.report.data import Report, assemble
from signoff.report.document import to_json
from signoff.report.junit import to_junit
from signoff.report.kcidb import to_kcidb
from signoff.report.page import to_css, to_html
from signoff.report.sarif import to_sarif
from signoff.report.tap import to_tap

__all__ = ["Report", "assemble", "made", "write"]


def write(folder: Path, problems: Sequence[str] = ()) -> Report:
    """Write all reports of the run in ``folder``, finished or not, and then the checksums.

    :param problems: what makes it no proof, beside what the folder says.
    :raises UserInputError: if ``folder`` is not a run's. :raises NoSpaceError: if the disk is full.
    """
    report = assemble(folder, problems)
    with disk_errors(folder, REPORTS):
        for name, content in render(report, folder).items():
            (folder / name).write_bytes(content)
    Evidence(folder).seal()
    return report


def render(report: Report, folder: Path) -> dict[str, bytes]:
    """What the report of the run in ``folder`` is made into, by the names of the files."""
    return {
        "signoff.json": to_json(report).encode(),
        "signoff.html": to_html(report).encode(),
        "signoff.css": to_css().encode(),
        "junit.xml": to_junit(report),
        "signoff.tap": to_tap(report).encode(),
        "signoff.sarif": to_sarif(report, places(files(folder / CONTRACT))).encode(),
        "kcidb.json": to_kcidb(report).encode(),
    }
