# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run's record calls the machine that it is about."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from signoff.plugin import parse_machine
from tests.unit.test_signoff_plugin import ATTACK, WORKS, project, run
from verifier import bounds

__all__ = ["project"]  # a fixture


def test_a_real_machine_has_its_own_name_and_that_of_the_computer_that_drives_it(project: Path) -> None:
    """Or two of them, driven from one computer, would be one machine in a merged report."""
    conftest = project / "conftest.py"
    conftest.write_text(conftest.read_text().replace('"cpu": "TCG"', '"cpu": "EPYC", "machine": "rack1-07"'))
    run(project, ATTACK + WORKS, "--machine", "laptop")
    record = json.loads((project / "reports" / "latest" / "record.json").read_text())
    assert record["machine"] == "rack1-07, from laptop"


def test_a_machine_that_is_called_by_a_sentence_is_refused_before_the_run(project: Path) -> None:
    code, result, _, _ = run(project, ATTACK + WORKS, "--machine", "vm, witnessed by all")
    assert (code, result) == (4, None)


@pytest.mark.parametrize("name", ["vm, witnessed by all", "", "a\x1bb", "a\n", "x" * 70])
def test_a_machines_name_is_a_word(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no machine's name"):
        parse_machine(name)


@pytest.mark.parametrize("name", ["laptop", "rack1-07.example", "vm (127.0.0.1:2222)", "vm (fe80::1%eth0:22)"])
def test_a_machine_has_its_name_and_where_it_was_reached(name: str) -> None:
    assert parse_machine(name) == name
    fields: dict[str, Any] = dict.fromkeys(("series", "ended"), "") | {"host": {}, "made_of": {}, "kernel": None}
    fields |= {"machine": name, "commit": "unknown", "command": "pytest", "problems": [], "mode": "protected"}
    assert list(bounds.record(fields)) == []
