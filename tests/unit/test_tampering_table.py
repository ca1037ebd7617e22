# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of attempts in ``docs/tampering.md``: each test and each attempt that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.paths import PROJECT

TABLE = PROJECT / "docs/tampering.md"
FILES = [*(PROJECT / "tests/unit").glob("test_*.py"), *(PROJECT / "tests_e2e").rglob("test_*.py")]


def named(text: str) -> list[str]:
    """Tests and attempts: names in a table's row with two words or more."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [name for row in rows for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", row)]


def test_the_table_is_long() -> None:
    assert len(named(TABLE.read_text(encoding="utf-8"))) > 80


@pytest.mark.parametrize("file", sorted((PROJECT / "tests/unit").glob("test_tampering_*.py")), ids=lambda one: one.stem)
def test_each_group_of_attempts_has_a_row(file: Path) -> None:
    if file == Path(__file__):
        return
    text = file.read_text(encoding="utf-8")
    of_file = set(re.findall(r'^    "(\w+)": \(|^def (test_\w+)\(', text, re.MULTILINE))
    assert {name for pair in of_file for name in pair} & set(named(TABLE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", sorted(set(named(TABLE.read_text(encoding="utf-8")))))
def test_what_the_table_names_is_there(name: str) -> None:
    text = "\n".join(_of(name))
    assert re.search(rf"(?:^def {name}\(|^ +\"{name}\": |^def {name}\()", text, re.MULTILINE) or f"({name}," in text


def _of(name: str) -> list[str]:
    """The files that name it."""
    found: list[Path] = [file for file in FILES if name in file.read_text(encoding="utf-8")]
    return [file.read_text(encoding="utf-8") for file in found]
