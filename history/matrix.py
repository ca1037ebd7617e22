# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of a night, from one TOML file: cells, each a sign-off with its own options.

A table ``[[cells]]`` names options of the sign-off, each with the values that it takes; all combinations are cells.
Which options there are is asked of the plugins that have them, so a new one can be used here at once.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from _pytest.mark.expression import Expression
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from common import toml_file
from common.errors import SealproofError, UserInputError
from common.names import path_text
from common.paths import expand_home
from host_setup import plugin as machines
from host_setup.kernel import series
from signoff import plugin as judge

STAGE = "nightly"
MOST, LONGEST = 500, 500  # cells, and characters of one's name
_OF_THE_NIGHT = ("reports", "dry-run", "keep-on-failure")
"""Options that the night itself decides about."""
SHARED = ("cache-folder", "inventory", "jobs", "machine")
"""Options that change no result, so that they do not make a cell."""
_HINT = "docs/nightly.md shows a matrix; './sealproof nightly MATRIX --dry-run' reads one and runs nothing"
_NAMES = "names"
"""Of an option: all that it is called, beside what pytest's parser was given."""
_SELECTIONS = {"mark": "-m", "only": "-k"}
"""Which claims a cell tries: pytest's own options, by names that say it."""


class ExitOn(StrEnum):
    """What makes a night's exit status 1."""

    REGRESSIONS = "regressions"
    FLAKY = "flaky"
    FAILURES = "failures"


@dataclass(frozen=True, slots=True)
class Cell:
    """A sign-off with its own options.

    :ivar name: its options, as the history knows it. :ivar words: the same for pytest. :ivar selection: which claims.
    """

    name: str
    words: tuple[str, ...]
    selection: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matrix:
    """What a night is to do.

    :ivar minutes: begin nothing later, and end what runs then. :ivar again: how often a claim that failed is run again.
    :ivar shared: options of each cell for pytest that change no result. :ivar pull: git trees that are updated first.
    :ivar bisect: of how many claims that regressed the first bad patch is searched for.
    """

    cells: tuple[Cell, ...]
    minutes: float
    again: int = 1
    exit_on: ExitOn = ExitOn.REGRESSIONS
    shared: tuple[str, ...] = ()
    pull: tuple[Path, ...] = ()
    bisect: int = 0

    @property
    def digest(self) -> str:
        """What names the matrix: its cells."""
        return hashlib.sha256("\n".join(cell.name for cell in self.cells).encode()).hexdigest()


_Value = StrictStr | StrictBool | StrictInt  # no float: 6.10 would be 6.1
_KINDS = ("str", "bool", "int")  # how pydantic names the members of that union


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    minutes: Annotated[float, Field(strict=True, gt=0, le=7 * 24 * 60)]
    again: Annotated[StrictInt, Field(ge=0, le=10)] = 1
    exit_on: ExitOn = ExitOn.REGRESSIONS
    pull: list[str] = []
    bisect: Annotated[StrictInt, Field(ge=0, le=100)] = 0
    options: dict[str, _Value] = {}
    cells: Annotated[list[dict[str, _Value | list[_Value]]], Field(min_length=1)]


class _OptionNotes:
    """Takes the place of pytest's parser, and notes which options a plugin has."""

    def __init__(self) -> None:
        self.options: dict[str, dict[str, Any]] = {}

    def getgroup(self, *_: object) -> _OptionNotes:
        return self

    def addini(self, *_: object, **__: object) -> None:
        """Settings of a file are not asked for."""

    def addoption(self, *names: str, **about: Any) -> None:
        aliases = tuple(name.removeprefix("--") for name in names)
        self.options |= {name: {**about, _NAMES: aliases} for name in aliases}


def options() -> dict[str, dict[str, Any]]:
    """The options of a sign-off that a night may set, as they were given to pytest's parser, by name."""
    notes = _OptionNotes()
    for plugin in (machines, judge):
        plugin.pytest_addoption(cast("pytest.Parser", notes))
    return {name: about for name, about in notes.options.items() if name not in _OF_THE_NIGHT}


def load(file: Path) -> Matrix:
    """Read a matrix.

    :raises UserInputError: it is not right; one line says where.
    """
    try:
        content = _File.model_validate(toml_file.parse(file, stage=STAGE, hint=_HINT)[1])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(_place(part) for part in first["loc"] if "[" not in str(part) and part not in _KINDS)
        is_release = first["loc"][0] == "cells" and isinstance(first["input"], float)
        raise _matrix_error(
            file, f"{where}: {'write the value as text, in quotes' if is_release else first['msg']}"
        ) from error
    all_options = options()
    cells = [cell for number, table in enumerate(content.cells, 1) for cell in _cells(file, number, table, all_options)]
    if len(cells) > MOST:
        raise _matrix_error(file, f"{len(cells)} cells; at most {MOST}")
    names = [cell.name for cell in cells]
    if too_long := [name for name in names if len(name) > LONGEST]:
        raise _matrix_error(file, f"a cell's options have more than {LONGEST} characters: {too_long[0][:60]} ...")
    if twice := [name for name in names if names.count(name) > 1]:
        raise _matrix_error(file, f"the cell {twice[0]} stands there twice")
    shared = []
    for name, value in content.options.items():
        option = name.replace("_", "-")
        if option not in SHARED:
            raise _matrix_error(
                file, f"options: {name} is none of {', '.join(SHARED)}; what makes a cell stands in [[cells]]"
            )
        shared += _words(file, "options", option, value, all_options)
    pull = _trees(file, content.pull)
    return Matrix(tuple(cells), content.minutes, content.again, content.exit_on, tuple(shared), pull, content.bisect)


def _place(part: int | str) -> str:
    """A part of a place in the file; tables are counted from 1."""
    return str(part + 1) if isinstance(part, int) else part


def _trees(file: Path, names: list[str]) -> tuple[Path, ...]:
    trees = tuple(expand_home(name).absolute() for name in names)
    if missing := [tree for tree in trees if not (tree / ".git").exists()]:
        raise _matrix_error(file, f"pull: {path_text(missing[0])} is not a git tree")
    return trees


def _cells(
    file: Path, number: int, table: Mapping[str, _Value | list[_Value]], all_options: Mapping[str, Mapping[str, Any]]
) -> list[Cell]:
    """The cells of one table."""
    where = f"cells, table {number}"
    axes: dict[str, list[Cell]] = {}
    for key, setting in table.items():
        name = key.replace("_", "-")
        values = setting if isinstance(setting, list) else [setting]
        if name in SHARED:
            raise _matrix_error(file, f"{where}: {key} changes no result; it stands in [options]")
        if name not in all_options and name not in _SELECTIONS:
            there = sorted({*all_options, *_SELECTIONS} - {*SHARED})
            raise _matrix_error(file, f"{where}: the sign-off has no option --{name}; there are: {', '.join(there)}")
        if not values:
            raise _matrix_error(file, f"{where}: {key} has no value")
        if twice := axes.keys() & all_options.get(name, {}).get(_NAMES, (name,)):
            raise _matrix_error(file, f"{where}: {twice.pop()} and {name} are one option")
        axes[name] = [_axis(file, where, name, value, all_options) for value in values]
    if (many := prod(map(len, axes.values()))) > MOST:
        raise _matrix_error(file, f"{many} cells; at most {MOST}")
    return [_cell(chosen) for chosen in product(*axes.values())]


def _axis(file: Path, where: str, name: str, value: _Value, all_options: Mapping[str, Mapping[str, Any]]) -> Cell:
    """One value of one option, as a cell that has no other."""
    words = [] if name in _SELECTIONS else _words(file, where, name, value, all_options)
    selection = [_SELECTIONS[name], _expression(file, where, name, value)] if name in _SELECTIONS else []
    return Cell(f"{name}={path_text(_text(value))}", tuple(words), tuple(selection))


def _cell(chosen: Sequence[Cell]) -> Cell:
    """A cell of one value of each option."""
    return Cell(
        " ".join(cell.name for cell in chosen) or "the default",
        tuple(word for cell in chosen for word in cell.words),
        tuple(word for cell in chosen for word in cell.selection),
    )


def _expression(file: Path, where: str, name: str, value: _Value) -> str:
    """Which claims, as pytest takes it."""
    text = str(value)
    if isinstance(value, bool) or not text.strip():
        raise _matrix_error(file, f"{where}: {name} needs a value")
    try:
        Expression.compile(text)
    except SyntaxError as error:
        raise _matrix_error(file, f"{where}: {name}: {path_text(text)} is no expression: {error.msg}") from error
    return text


def _words(file: Path, where: str, name: str, value: _Value, all_options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """An option with its value as pytest takes it; whether pytest takes it is asked now, and not at midnight."""
    about = all_options[name]
    if about.get("action") == "store_true":
        if not isinstance(value, bool):
            raise _matrix_error(file, f"{where}: {name} is true or false")
        return [f"--{name}"] if value else []
    text = str(value)
    if isinstance(value, bool) or not text:
        raise _matrix_error(file, f"{where}: {name} needs a value")
    if name == "series" and "/" not in text:  # what is wrong with a folder is found, and told, by its cell
        _require_series(file, where, text)
    if text.startswith("~/"):
        text = str(expand_home(text))
    convert: Callable[[str], Any] = about.get("type", str)
    try:
        converted = convert(text)
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise _matrix_error(file, f"{where}: {name}: {error}") from error
    choices = about.get("choices")
    if choices is not None and converted not in choices:
        raise _matrix_error(file, f"{where}: {name} is one of {', '.join(map(str, choices))}")
    return [f"--{name}={text}"]


def _require_series(file: Path, where: str, name: str) -> None:
    try:
        series.load(name)
    except SealproofError as error:
        raise _matrix_error(file, f"{where}: series: {error.message}") from error


def _text(value: _Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _matrix_error(file: Path, words: str) -> UserInputError:
    return UserInputError(f"{path_text(file)}: {' '.join(words.split())}", stage=STAGE, hint=_HINT)
