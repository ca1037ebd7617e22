# SPDX-License-Identifier: GPL-2.0-or-later
"""From a run's folder to what people and machines read: ``signoff.html``, ``signoff.json``, ``junit.xml``."""

from __future__ import annotations

from pathlib import Path

from common.store import disk_errors
from signoff.evidence import Evidence
from signoff.report.data import Report, assemble
from signoff.report.document import to_json
from signoff.report.junit import to_junit
from signoff.report.page import to_html

__all__ = ["Report", "assemble", "write"]


def write(folder: Path) -> Report:
    """Write all reports of the run in ``folder``, finished or not, and then the checksums.

    :raises UserInputError: if ``folder`` is not a run's. :raises NoSpaceError: if the disk is full.
    """
    report = assemble(folder)
    with disk_errors(folder):
        (folder / "signoff.json").write_text(to_json(report), encoding="utf-8")
        (folder / "signoff.html").write_text(to_html(report), encoding="utf-8")
        (folder / "junit.xml").write_bytes(to_junit(report))
    Evidence(folder).seal()
    return report
