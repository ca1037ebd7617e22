# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run's record calls the machine that it is about."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.test_signoff_plugin import ATTACK, WORKS, project, run

__all__ = ["project"]  # a fixture


def test_a_real_machine_has_its_own_name_and_that_of_the_computer_that_drives_it(project: Path) -> None:
    """Or two of them, driven from one computer, would be one machine in a merged report."""
    conftest = project / "conftest.py"
    conftest.write_text(conftest.read_text().replace('"cpu": "TCG"', '"cpu": "EPYC", "machine": "rack1-07"'))
    run(project, ATTACK + WORKS, "--machine", "laptop")
    record = json.loads((project / "reports" / "latest" / "record.json").read_text())
    assert record["machine"] == "rack1-07, from laptop"
