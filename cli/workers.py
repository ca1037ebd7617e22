# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof signoff --workers N``: N runs at the same time on this machine, each of a share of the claims on hosts of
its own, then one report of all of them.

A host that is emulated keeps less than one processor busy, as its guests wait for each other. Each run is a process and
leaves a part of its own, signed like any other; ``signoff.merge`` looks at all of them before it takes a word of one.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cli import running, tests
from common.errors import SealproofError, UserInputError
from common.names import path_text
from common.paths import PROJECT, parse_path, require_reports
from common.program import FAILED, INTERRUPTED
from common.progress import clock
from fleet.bundles import bundles
from fleet.groups import Group, claims_of, groups
from fleet.job import Workers
from fleet.merging import sign_merged
from fleet.plan import mode_of, say_plan
from host_setup.this_machine import HostKind, choose_host_kind, survey
from signoff.forecast import last_seconds
from signoff.merge import lost_claims
from signoff.record import new_run_id

_VERDICT = re.compile(
    r"=+ sealproof =+"
)  # from here on a part says what it proves alone, which is never the whole list
_TELLS_ONLY = ("--collect-only", "--co")
_TOLD_TO_END = (INTERRUPTED, 128 + signal.SIGTERM)  # the latter before it can say so
AUTO = "auto"
MOST = 8  # workers: each costs the start of a run and a host's health, and beyond that the longest file decides
MEMORY = 4 << 30  # bytes that a worker needs, with room to spare: docs/measured.md
_HARMLESS = (  # options that say what is tested, not which claims
    *("--mode", "--series", "--kernel", "--kernel-source", "--layers", "--compiler", "--jobs", "--cache-folder"),
    *("--reports", "--inventory"),
)
_LOUDER = ("-v", "-q", "--verbose", "--quiet")


def split_workers(argv: Sequence[str]) -> tuple[int, list[str]]:
    """The number of workers that a command line names or means, and its other words.

    :raises UserInputError: it is no number of workers.
    """
    parser = argparse.ArgumentParser(prog="sealproof signoff", add_help=False, allow_abbrev=False)
    parser.add_argument("--workers", default=tests.WORKERS)
    chosen, words = parser.parse_known_args(argv)
    if chosen.workers == AUTO:
        return suggest(words), words
    if not re.fullmatch(r"[1-9][0-9]?", chosen.workers):
        raise UserInputError(
            f"--workers {chosen.workers}: neither {AUTO} nor a number from 1 to 99",
            stage="options",
            hint="two for a machine with two processors; each worker takes about 3 GiB of memory",
        )
    return int(chosen.workers), words


def suggest(words: Sequence[str]) -> int:
    """The number of workers for a command line without one, at least 1.

    Several pay for the whole list on emulated hosts, as far as this machine has processors and memory. A selection is
    over sooner in one run, and who wants to watch a run, or to keep its host, wants one.

    :param words: of the command line, without ``--workers``.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in _HARMLESS:
        parser.add_argument(name)
    for name in _LOUDER:
        parser.add_argument(name, action="store_true")
    parser.add_argument("--host", default=AUTO)
    try:
        chosen, others = parser.parse_known_args(words)
    except (argparse.ArgumentError, SystemExit):
        return 1  # pytest tells what is wrong with it
    if others or chosen.host not in (AUTO, HostKind.EMULATED):
        return 1
    machine = survey()
    if chosen.host == AUTO and choose_host_kind(machine).kind is not HostKind.EMULATED:
        return 1
    processors = min(machine.processor.cores, machine.processor.quota or math.inf)
    return max(1, int(min(processors, machine.memory.available // MEMORY, MOST)))


def run(workers: int, words: Sequence[str]) -> int:
    """Sign off with that many runs at a time; returns the exit status of the merged verdict.

    :param words: the other options, the same for all.
    :raises UserInputError: no claim is selected. :raises SetupError: the reports cannot be written.
    """
    if any(word in words for word in _TELLS_ONLY):
        raise UserInputError("--workers and --collect-only do not go together", stage="options", hint="leave one out")
    chosen, rest = _own_options(words)
    reports = PROJECT / chosen.reports
    collected = groups(shlex.join(["tests_e2e", *rest]))
    if chosen.dry_run:
        return 0 if say_plan(collected, Workers(workers), reports, each=False, say=_say) else FAILED
    require_reports(reports)
    shares = bundles(collected, last_seconds(reports, mode_of(rest)), workers)
    folder = reports / f"workers-{new_run_id()}"
    together = f"{len(shares)} run{'s' if len(shares) > 1 else ''} at a time"
    _say(f"{len(claims_of(collected))} claims, {together}")
    begun = time.monotonic()
    of_run = [_Output(number) for number in range(1, len(shares) + 1)]
    statuses = running.run_together(
        [
            _signoff(files, collected[0], [*rest, "--reports", str(_place(folder, number))])
            for number, files in enumerate(shares, 1)
        ],
        lambda number, line: of_run[number].take(line),
    )
    seconds = round(time.monotonic() - begun, 1)
    parts = {part: 0.0 for number in range(1, len(shares) + 1) for part in _parts(_place(folder, number))}
    if not parts and any(status in _TOLD_TO_END for status in statuses):
        shutil.rmtree(folder, ignore_errors=True)  # no run came as far as its first claim
        raise KeyboardInterrupt
    problems = [
        f"run {output.number} left no report (exit {status}): {output.last}"
        for output, status in zip(of_run, statuses, strict=True)
        if not _parts(_place(folder, output.number))
    ]
    if lost := lost_claims(parts, claims_of(collected)):
        problems.append(f"{len(lost)} claims were lost, as their run did not come to its end")
    command = shlex.join(["sealproof", "signoff", *sys.argv[2:]])
    try:
        status = sign_merged(parts, reports, command, _say, problems=problems, durations={together: seconds})
    except SealproofError:
        if parts:
            _say(f"the parts stay in {path_text(folder)}")
        raise
    shutil.rmtree(folder)  # the merged report has each part, byte for byte
    _say(f"{together}: {clock(seconds)}")
    return status


def _own_options(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="sealproof signoff", add_help=False, allow_abbrev=False)
    parser.add_argument("--reports", type=parse_path, default=Path("reports"))
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_known_args(words)


def _signoff(files: Sequence[str], group: Group, words: Sequence[str]) -> list[str]:
    """The run of some files, and of the claims about the host's health, which each run has."""
    return tests.start([*files, *group.health, *words])


def _place(folder: Path, number: int) -> Path:
    return (folder / str(number)).absolute()


def _parts(place: Path) -> list[Path]:
    """The folder of the one run below a folder; beside it is a link to it, "latest"."""
    return [path.parent for path in place.glob("*/record.json") if not path.parent.is_symlink()]


class _Output:
    """What one run prints, up to its verdict."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.last = "it printed nothing"
        self._over = False

    def take(self, line: str) -> None:
        """One line."""
        self._over = self._over or _VERDICT.fullmatch(line) is not None
        if line.strip() and not self._over:
            self.last = line.strip()
            _say(f"{self.number}| {line}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
