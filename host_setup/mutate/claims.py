# SPDX-License-Identifier: GPL-2.0-or-later
"""Which claims are tried on a fault, and in which order: those that cover it, those that are about it, all others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from common import toml_file
from common.errors import UserInputError
from host_setup.mutate.faults import Fault

STAGE = "mutate"
HINTS = Path(__file__).with_name("first.toml")


class _Hint(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at: tuple[str, ...] = Field(min_length=1)
    claims: tuple[str, ...] = Field(min_length=1)


class _Hints(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first: tuple[_Hint, ...]


Coverage = Mapping[str, Mapping[str, Sequence[str]]]
"""Which claims execute a line: by file, relative to the tree, and by the line's number, as text."""


def coverage(file: Path) -> Coverage:
    """Read which claims execute which lines.

    :raises UserInputError: it is no such file.
    """
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): {str(line): list(claims) for line, claims in lines.items()} for name, lines in read.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserInputError(
            f"{file} is not a coverage file: {error}", stage=STAGE, hint='{"mm/gup.c": {"1284": ["CLAIM", ...]}} is one'
        ) from error


def hints(file: Path = HINTS) -> tuple[_Hint, ...]:
    """Which claims are about a place.

    :raises UserInputError: the file is not right.
    """
    return toml_file.load(file, _Hints, stage=STAGE).first


class Order:
    """The order of the claims for each fault.

    :param all_claims: all claims that have a test.
    :param covered: what each line is executed by; None: nobody has measured.
    """

    def __init__(self, all_claims: Sequence[str], about: Sequence[_Hint], covered: Coverage | None = None) -> None:
        self._all_claims = tuple(all_claims)
        self._about = about
        self._covered = covered
        self._width: dict[str, int] = {}
        for lines in (covered or {}).values():
            for claims in lines.values():
                for claim in claims:
                    self._width[claim] = self._width.get(claim, 0) + 1

    def first(self, fault: Fault) -> tuple[str, ...]:
        """The claims that must name it, then those about it, then those that cover it, the most special first.

        With a coverage, none of the second that do not execute it.
        """
        covering = self._covering(fault)
        about = [
            claim
            for hint in self._about
            if any(fnmatchcase(place, pattern) for place in _spelt(fault) for pattern in hint.at)
            for pattern in hint.claims
            for claim in self._all_claims
            if fnmatchcase(claim, pattern) and (covering is None or claim in covering)
        ]
        special = sorted(covering or (), key=lambda claim: (self._width.get(claim, 0), claim))
        return tuple(dict.fromkeys(claim for claim in (*fault.must, *about, *special) if claim in self._all_claims))

    def rest(self, fault: Fault) -> tuple[str, ...]:
        """All others."""
        first = set(self.first(fault))
        return tuple(claim for claim in self._all_claims if claim not in first)

    def _covering(self, fault: Fault) -> frozenset[str] | None:
        if self._covered is None:
            return None
        covered = self._covered
        return frozenset(claim for name, line in fault.places for claim in covered.get(name, {}).get(str(line), ()))


def _spelt(fault: Fault) -> list[str]:
    return sorted({f"{name}:{fault.function}" for name, _ in fault.places})
