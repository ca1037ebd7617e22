# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's TOML file: each fault is told with its line and field."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from common import toml_file
from common.errors import UserInputError


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    code: str
    times: int = 1


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    title: str
    entry: list[Entry] = []


GOOD = 'title = "T"\n\n[[entry]]\ncode = "a"\n\n[[entry]]\ncode = "b"\ntimes = 2\n'


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "file.toml").write_text(text, encoding="utf-8")
    return tmp_path / "file.toml"


def refusal_of(file: Path) -> UserInputError:
    with pytest.raises(UserInputError) as caught:
        toml_file.load(file, Whole, stage="test")
    return caught.value


def test_a_good_file_is_read(tmp_path: Path) -> None:
    whole = toml_file.load(write(tmp_path, GOOD), Whole, stage="test")
    assert (whole.title, [entry.times for entry in whole.entry]) == ("T", [1, 2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("times = 2", 'times = "2"'), "file.toml:8: entry.1.times: Input should be a valid integer"),
        (GOOD.replace("times = 2", "tims = 2"), "file.toml:8: entry.1.tims: Extra inputs are not permitted"),
        (GOOD.replace('code = "a"', ""), "file.toml:3: entry.0.code: Field required"),
        (GOOD.replace('code = "b"', ""), "file.toml:6: entry.1.code: Field required"),
        (GOOD.replace('"T"', "1"), "file.toml:1: title: Input should be a valid string"),
    ],
)
def test_a_fault_is_told_with_line_and_field(tmp_path: Path, text: str, words: str) -> None:
    assert refusal_of(write(tmp_path, text)).message == words


def test_all_faults_are_told(tmp_path: Path) -> None:
    lines = refusal_of(write(tmp_path, GOOD.replace('"T"', "1").replace('"b"', "2"))).message.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["file.toml:1", "title"], ["file.toml:7", "entry.1.code"]]


def test_what_is_no_toml_is_told_with_what_to_write(tmp_path: Path) -> None:
    file = write(tmp_path, "title = T\n")
    with pytest.raises(UserInputError, match=r"is not TOML: .*line 1") as caught:
        toml_file.load(file, Whole, stage="test", example='title = "T"')
    assert caught.value.hint == 'write it as UTF-8 text, one entry a line: title = "T"'
    file.write_bytes("title = 'T'\n".encode("utf-16"))
    assert "is not TOML" in refusal_of(file).message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "file.toml cannot be read: No such file" in refusal_of(tmp_path / "file.toml").message
