# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of files: what a person sees of them, and what a shell makes of it again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from common.names import path_text, shell_word

ODD = [
    b"plain",
    b"two words",
    b"caf\xc3\xa9",
    b"caf\xe9",
    b"new\nline\t",
    b"it's",
    b"it's\n\\x",
    b"\xff$HOME`id`",
    b"\xe2\x80\x8b",
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_shown_on_one_line_that_can_be_written(name: str) -> None:
    assert path_text(Path(os.fsdecode(name))).isprintable()
    assert path_text(os.fsdecode(name)).encode()


def test_what_can_be_read_is_shown_as_it_is() -> None:
    assert path_text("/home/a b/caf\xe9") == "/home/a b/caf\xe9"
    assert path_text(os.fsdecode(b"caf\xe9\n")) == "caf\\xe9\\n"


@pytest.mark.parametrize("name", ODD)
def test_a_shell_makes_the_name_of_its_word_again(name: bytes) -> None:
    word = shell_word(os.fsdecode(name))
    assert word.isprintable()
    argv = ["bash", "-c", f"printf %s {word}"]
    environment = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    assert subprocess.run(argv, env=environment, capture_output=True, check=True).stdout == name
