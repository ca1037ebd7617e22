# SPDX-License-Identifier: GPL-2.0-or-later
"""A night's claims as annotations at their lines of the contract: for GitHub's job log, and for GitLab's code quality.

GitHub: workflow commands (``::error file=...,line=...::``), of which it shows ten of each level a step. GitLab: an
artifact ``codequality``, in the form of Code Climate's issues.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from common.errors import UserInputError
from common.paths import PROJECT
from common.text import printable
from history.compare import Change, Line
from history.review import CellReview, Review
from history.summary import lines_of
from signoff import contract_files

FOLDER = "tests_e2e/contract"


class Form(StrEnum):
    """Whom the annotations are for."""

    GITHUB = "github"
    GITLAB = "gitlab"


class Level(StrEnum):
    """How bad it is, in GitHub's words."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


_SEVERITY = {Level.ERROR: "critical", Level.WARNING: "minor", Level.NOTICE: "info"}
_LEVELS = {Change.REGRESSED: Level.ERROR, Change.FIXED: Level.NOTICE, Change.SLOWER: Level.NOTICE}


@dataclass(frozen=True, slots=True)
class Annotation:
    """One claim of one cell, at its line of the contract."""

    level: Level
    file: str
    line: int
    title: str
    words: str


def annotate(review: Review, contract: Path = PROJECT / FOLDER) -> Iterator[Annotation]:
    """The annotations of a night's claims, the worst first.

    :param contract: of the checkout, for a run whose own is not there any more.
    """
    notes = [annotation for cell in review.cells for annotation in _of_cell(cell, contract)]
    yield from sorted(notes, key=lambda annotation: list(Level).index(annotation.level))


def _of_cell(cell: CellReview, contract: Path) -> Iterator[Annotation]:
    for word, line in lines_of(cell):
        places = _places(line, contract)
        file, number = places.get(line.claim, ("", 1))
        level = _LEVELS.get(line.change, Level.WARNING) if word in list(Change) else Level.WARNING
        cause = cell.cause(line.claim)
        first_bad = f"\nfirst bad: {cause.told}" if cause is not None and cause.told else ""
        repeat = line.after.claim.command if line.after is not None else ""
        words = f"{cell.cell}: {line.words}{first_bad}{f'{chr(10)}repeat: {repeat}' if repeat else ''}"
        yield Annotation(level, f"{FOLDER}/{file}".rstrip("/"), number, f"{word}: {line.claim}", printable(words))


def _places(line: Line, contract: Path) -> dict[str, tuple[str, int]]:
    """File and line of each claim, in the contract of the run, or else of the checkout."""
    own = Path(line.after.run.folder) / "contract" if line.after is not None else contract
    for folder in (own, contract):
        try:
            if folder.is_dir():
                return contract_files.places(contract_files.files(folder))
        except (OSError, ValueError, UserInputError):
            continue
    return {}


def to_github(notes: Iterator[Annotation]) -> str:
    """Workflow commands, a line each."""
    return "".join(
        f"::{annotation.level} file={_property(annotation.file)},line={annotation.line},"
        f"title={_property(annotation.title)}::{_data(annotation.words)}\n"
        for annotation in notes
    )


def to_gitlab(notes: Iterator[Annotation]) -> str:
    """The content of an artifact ``codequality``."""
    issues = [
        {
            "description": f"{annotation.title}\n{annotation.words}",
            "check_name": annotation.title.partition(": ")[2],
            "fingerprint": hashlib.sha256(f"{annotation.title}\n{annotation.words}".encode()).hexdigest(),
            "severity": _SEVERITY[annotation.level],
            "location": {"path": annotation.file, "lines": {"begin": annotation.line}},
        }
        for annotation in notes
    ]
    return json.dumps(issues, indent=1) + "\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
