# SPDX-License-Identifier: GPL-2.0-or-later
"""A sequence in a file: an operation a line, and remarks after ``#``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from common.errors import UserInputError
from host_setup.search.trial import is_defined


def sequence_text(operations: Sequence[str], remarks: Sequence[str]) -> str:
    """The text of a file.

    :param remarks: what a reader wants to know of the sequence, a line each.
    """
    lines = [*(f"# {line}" for remark in remarks for line in remark.splitlines()), *operations]
    return "".join(f"{line}\n" for line in lines)


def write(file: Path, operations: Sequence[str], remarks: Sequence[str]) -> None:
    """Write a sequence."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(sequence_text(operations, remarks), encoding="utf-8")


def note(file: Path, line: str) -> None:
    """Add a line to the list of searches, with the time of day, UTC."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as searches:
        searches.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n")


def read(file: Path) -> tuple[str, ...]:
    """Read one.

    :raises UserInputError: there is no such file, or the model cannot say how its operations must end.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError(f"no sequence in {file}: {error}", stage="search") from error
    words = (line.partition("#")[0].strip() for line in text.splitlines())
    operations = tuple(line for line in words if line)
    if not is_defined(operations):
        raise UserInputError(
            f"the model cannot predict the sequence of operations in {file}",
            stage="search",
            hint="guest_images/programs/README.md lists the operations of driven_vm",
        )
    return operations
