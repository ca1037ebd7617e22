# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups of claims: each becomes one Avocado test, which is one pytest run on one machine.

A group costs a start of pytest and a restored host, some seconds, whatever is in it. So by default it is a file: its
claims share that host. ``--group-size N`` cuts longer files into slices of about N claims, for many machines.

Claims that judge the host (kind ``health``) belong to every group: each part looks after its own host.
"""

from __future__ import annotations

import argparse
import math
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from common.environment import environment
from common.errors import DeadlineError, UserInputError
from common.paths import PROJECT
from signoff.contract import Kind
from signoff.contract_files import load
from signoff.plugin import ONLY_COLLECTED

CONTRACT = PROJECT / "tests_e2e" / "contract"
COLLECTING = 600  # seconds; a second or two on a machine that has nothing else to do
_NOTHING_COLLECTED = 5  # pytest's exit status


@dataclass(frozen=True, slots=True)
class Group:
    """Some claims of one file.

    :ivar file: relative to the project. :ivar health: files of the health claims that go with it.
    :ivar slice: which of how many slices of the file, from 1. :ivar claims: their ids, health apart.
    :ivar options: pytest's, as the user gave them.
    """

    file: str
    health: tuple[str, ...]
    slice: tuple[int, int]
    claims: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name as an Avocado test; nothing in it means anything to a shell."""
        number, of = self.slice
        return self.file if of == 1 else f"{self.file}:{number}of{of}"

    @property
    def arguments(self) -> list[str]:
        """Of the pytest run."""
        number, of = self.slice
        cut = ["-p", "fleet.only", "--only-slice", f"{number}/{of}"] if of > 1 else []
        return [self.file, *self.health, *cut, *self.options]


def groups(words: str) -> list[Group]:
    """The groups of what would be run by ``pytest WORDS``.

    :param words: paths of tests and options of pytest, as in a shell, and ``--group-size``.
    :raises UserInputError: if there is nothing to run, or pytest does not take it. :raises DeadlineError: it hangs.
    """
    size, arguments = _split(words)
    collected = _collect(arguments)
    options = tuple(_options(arguments, collected))
    of_health = {claim.id for claim in load(CONTRACT).claims if claim.kind is Kind.HEALTH}
    by_file: dict[str, list[str]] = {}
    health: dict[str, None] = {}
    for file, claim in collected:
        if claim in of_health:
            health[file] = None
        else:
            by_file.setdefault(file, []).append(claim)
    if not by_file:  # the health of a host on which nothing is tried
        every = tuple(claim for _, claim in collected)
        return [Group(next(iter(health)), tuple(health)[1:], (1, 1), every, options)]
    slices = []
    for file, claims in by_file.items():
        of = math.ceil(len(claims) / size) if size else 1
        slices += [
            Group(file, tuple(health), (number + 1, of), tuple(claims[number::of]), options) for number in range(of)
        ]
    return slices


def claims_of(groups: Sequence[Group]) -> list[str]:
    """The ids of the claims of groups, health apart."""
    return [claim for group in groups for claim in group.claims]


def _split(words: str) -> tuple[int, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--group-size", type=int, default=0)
    try:
        own, rest = parser.parse_known_args(shlex.split(words))
    except (ValueError, argparse.ArgumentError) as error:
        raise UserInputError(f"{words!r}: {error}", stage="groups") from error
    if own.group_size < 0:
        raise UserInputError("--group-size must be a number of claims", stage="groups")
    return own.group_size, rest


def _collect(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """File and claim of every test that pytest would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--no-header", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=PROJECT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=COLLECTING,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"pytest did not collect {shlex.join(arguments)} within {COLLECTING} s") from error
    items = []
    for line in done.stdout.splitlines():
        file, colons, test = line.partition("::")
        if colons and file.endswith(".py") and " " not in line:
            items.append((file, test.rpartition("::")[2].partition("[")[0].removeprefix("test_")))
    if done.returncode not in (0, _NOTHING_COLLECTED) and ONLY_COLLECTED not in done.stdout:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise UserInputError(f"pytest does not accept {shlex.join(arguments)}\n{words}", stage="groups")
    if not items:
        raise UserInputError(
            f"no test is selected by: {shlex.join(arguments)}", stage="groups", hint="for instance: tests_e2e -k ptrace"
        )
    return list(dict.fromkeys(items))


def _options(arguments: Sequence[str], options: Sequence[tuple[str, str]]) -> list[str]:
    """The arguments that are not paths of what was collected; each group names its own file."""
    files = {file for file, _ in options}

    def is_path(word: str) -> bool:
        there = PROJECT / word.partition("::")[0]
        return there.exists() and any((PROJECT / file).is_relative_to(there.resolve()) for file in files)

    if several := [word for word in arguments if "::" in word and is_path(word)]:
        raise UserInputError(
            f"a group is a whole file, but {several[0]} is a single test",
            stage="groups",
            hint="select tests with -k instead",
        )
    return [word for word in arguments if not is_path(word)]
