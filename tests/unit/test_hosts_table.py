# SPDX-License-Identifier: GPL-2.0-or-later
"""The table at the end of 'make test-hosts', from made-up reports."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from tests.hosts.table import CASE, SAID, table


def report(node: str, *, when: Literal["setup", "call", "teardown"] = "call", start: float = 0.0, **more: Any) -> Any:
    fields = {"outcome": "passed", "longrepr": None, "duration": 1.5, **more}
    return pytest.TestReport(node, ("f", 1, node), {}, when=when, start=start, **fields)


def test_each_case_has_a_line_with_all_its_time_in_the_order_of_their_runs() -> None:
    properties = [(CASE, "It comes back"), (SAID, "6 claims PASS")]
    stats = {
        "passed": [
            report("d/f.py::test_b", start=9.0),
            report("d/f.py::test_a", start=3.0, user_properties=properties),
        ],
        "": [report("d/f.py::test_a", when="setup", duration=40.0), report("d/f.py::test_b", when="setup", start=8.0)],
    }
    first, second, last = table(stats)
    assert first.split() == ["PASS", "It", "comes", "back", "41.5", "s", "6", "claims", "PASS"]
    assert second.split() == ["PASS", "b", "3.0", "s"]
    assert last == "2 of 2 cases went as they must"


def test_case_that_left_something_behind_did_not_go_as_it_must() -> None:
    stats = {
        "passed": [report("f.py::test_a", user_properties=[(SAID, "all well")])],
        "error": [report("f.py::test_a", when="teardown", outcome="failed", longrepr="not as it was:\n+ /boot/x")],
    }
    line, last = table(stats)
    assert line.startswith("FAIL")
    assert line.endswith("not as it was:")
    assert last == "0 of 1 cases went as they must"


def test_skipped_case_says_why() -> None:
    skipped = report("f.py::test_a", when="setup", outcome="skipped", longrepr=("f.py", 3, "Skipped: no sshd"))
    line, last = table({"skipped": [skipped]})
    assert line.startswith("SKIP")
    assert line.endswith("Skipped: no sshd")
    assert last == "0 of 1 cases went as they must"


def test_without_a_case_there_is_no_table() -> None:
    assert table({"warnings": ["something"]}) == []
