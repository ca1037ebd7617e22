# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes reports from a run's folder: ``signoff.html``, ``signoff.json``, ``junit.xml``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.store import disk_errors
from signoff.evidence import Evidence
from signoff.report.data import Report, assemble
from signoff.report.document import to_json
from signoff.report.junit import to_junit
from signoff.report.page import to_css, to_html

__all__ = ["Report", "assemble", "made", "write"]


def write(folder: Path, problems: Sequence[str] = ()) -> Report:
    """Write all reports of the run in ``folder``, finished or not, and then the checksums.

    :param problems: what makes it no proof, beside what the folder says.
    :raises UserInputError: if ``folder`` is not a run's. :raises NoSpaceError: if the disk is full.
    """
    report = assemble(folder, problems)
    with disk_errors(folder):
        for name, content in made(report).items():
            (folder / name).write_bytes(content)
    Evidence(folder).seal()
    return report


def made(report: Report) -> dict[str, bytes]:
    """What a report is made into, by the names of the files."""
    return {
        "signoff.json": to_json(report).encode(),
        "signoff.html": to_html(report).encode(),
        "signoff.css": to_css().encode(),
        "junit.xml": to_junit(report),
    }
