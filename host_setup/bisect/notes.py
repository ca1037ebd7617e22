# SPDX-License-Identifier: GPL-2.0-or-later
"""What was observed on which step: lines of a file, written at once, so that a search may be ended at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import UserInputError
from host_setup.bisect.attempt import Observation
from host_setup.bisect.search import STAGE, Vote


@dataclass(frozen=True, slots=True)
class Note:
    """One observation.

    :ivar identity: of the step (``Steps.identity``) and of what was asked.
    """

    identity: str
    step: str
    seen: Observation


class Notes:
    """The observations in a file.

    :param file: made when missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._notes = list(_read_notes(file))

    def of(self, identity: str) -> list[Observation]:
        """What was observed on a step, in the order in which it was."""
        return [note.seen for note in self._notes if note.identity == identity]

    def add(self, note: Note) -> None:
        """Keep an observation; it is on the disk when this returns."""
        self._notes.append(note)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        whole = not self._file.exists() or self._file.read_bytes()[-1:] in (b"", b"\n")
        with self._file.open("a", encoding="utf-8") as out:
            out.write(("" if whole else "\n") + json.dumps(asdict(note)) + "\n")
            out.flush()
            os.fsync(out.fileno())

    def forget(self) -> None:
        """Begin anew; the old file stays beside the new one."""
        if self._file.exists():
            self._file.replace(self._file.with_name(f"{self._file.name}.old"))
        self._notes = []


def _read_notes(file: Path) -> Iterator[Note]:
    """The lines of a file; the last one may be cut off, as its writer was killed.

    :raises UserInputError: another one is no note.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            observation = Observation(**{**line["seen"], "vote": Vote(line["seen"]["vote"])})
            yield Note(str(line["identity"]), str(line["step"]), observation)
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise UserInputError(
                    f"{file}, line {number}: {error}", stage=STAGE, hint="--afresh starts again without these notes"
                ) from error
