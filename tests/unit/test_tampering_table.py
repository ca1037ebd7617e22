# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of attempts in ``docs/tampering.md``: what it names is there, and programs say what it quotes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.paths import PROJECT

_VALUE = "\0"
TABLE = PROJECT / "docs/tampering.md"
FILES = [*(PROJECT / "tests/unit").glob("test_*.py"), *(PROJECT / "tests_e2e").rglob("test_*.py")]


def named(text: str) -> list[str]:
    """Tests and attempts: names in a table's row with two words or more."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [name for row in rows for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", row)]


def literals(file: Path) -> Iterator[list[str]]:
    """The texts in a program, each in pieces: between two of them stands a value."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            whole = [value.value if isinstance(value, ast.Constant) else _VALUE for value in node.values]
            yield "".join(map(str, whole)).split(_VALUE)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield [node.value]


def words(text: str) -> dict[str, str]:
    """What the last column quotes: each piece of it between two values, and its row."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return {
        piece: row[0]
        for row in rows
        if len(row) == 4
        for piece in (word.strip(" ,:") for word in re.split(r";|\.\.\.", row[3]))
        if len(piece) > 3
    }


def is_of(piece: str, text: list[str]) -> bool:
    """Whether a program may say a piece of a sentence: it stands in a text, or is made of one and of values."""
    if len(text) == 1:
        return piece in text[0]
    at = covered = 0
    for part in (part.strip(" :'") for part in text):
        result = piece.find(part, at) if len(part) > 2 else -1
        if result >= 0:
            at, covered = result + len(part), covered + len(part)
    return covered >= 0.4 * len(piece)


def test_programs_say_what_the_table_quotes() -> None:
    files = [file for name in ("verifier", "signoff", "tests/unit") for file in (PROJECT / name).glob("*.py")]
    texts = [text for file in files if file != Path(__file__) for text in literals(file)]
    quoted = words(TABLE.read_text(encoding="utf-8"))
    assert len(quoted) > 60
    assert {piece: row for piece, row in quoted.items() if not any(is_of(piece, text) for text in texts)} == {}


@pytest.mark.parametrize("piece", ["the report was weighed and found wanting", "no verifier of ours says so at all"])
def test_what_no_program_says_is_found(piece: str) -> None:
    texts = [text for file in (PROJECT / "verifier").glob("*.py") for text in literals(file)]
    assert not any(is_of(piece, text) for text in texts)


def test_the_table_is_long() -> None:
    assert len(named(TABLE.read_text(encoding="utf-8"))) > 80


@pytest.mark.parametrize(
    "file", sorted((PROJECT / "tests/unit").glob("test_tampering_*.py")), ids=lambda path: path.stem
)
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
    results: list[Path] = [file for file in FILES if name in file.read_text(encoding="utf-8")]
    return [file.read_text(encoding="utf-8") for file in results]
