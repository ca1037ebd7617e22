# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from common import errors
from common.errors import CommandError, MachineLostError, NoSpaceError, SealproofError


def test_error_says_stage_message_artefact_and_next_step() -> None:
    error = SealproofError("it broke", stage="kernel build", hint="try again", artefact=Path("/logs/x.log"))
    assert str(error) == "kernel build: it broke\n  see:  /logs/x.log\n  next: try again"


def test_error_without_more_to_say_is_one_line() -> None:
    assert str(SealproofError("it broke")) == "run: it broke"


def test_own_stage_of_one_error_does_not_stick_to_its_class() -> None:
    SealproofError("it broke", stage="elsewhere")
    assert SealproofError.stage == "run"
    assert NoSpaceError("full").stage == "disk"
    assert MachineLostError("gone").stage == "machine"


def test_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, SealproofError)]
    lines = [line for line in (errors.__doc__ or "").splitlines() if "+--" in line]
    drawn = [line.index("+--") // 4 for line in lines]
    names = [line.split("+-- ")[1].split()[0] for line in lines]
    assert sorted(names) == sorted(cls.__name__ for cls in classes if cls is not SealproofError)
    path = ["SealproofError"]
    for name, depth in zip(names, drawn, strict=True):
        path = [*path[: depth - min(drawn) + 1], name]
        assert getattr(errors, name).__base__.__name__ == path[-2]


@pytest.mark.parametrize(("returncode", "words"), [(2, "make ended with status 2"), (-9, "make ended with signal 9")])
def test_failed_command_tells_status_and_last_lines(returncode: int, words: str) -> None:
    error = CommandError(["make", "-j2"], returncode, "cc: no\nmake: stop\n", log=Path("/l"), stage="kernel build")
    assert str(error).startswith(f"kernel build: {words}\ncc: no\nmake: stop\n  see:  /l\n")
