# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof bisect``: finds the first patch of a series, or the first commit of a git tree, with which a claim fails.

``./sealproof try CLAIM ...`` tries one kernel, for ``git bisect run``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.errors import UserInputError
from common.names import path_text, shell_word
from common.program import end_with
from common.progress import Terminal, clock
from common.store import Store, digest
from host_setup.bisect import attempt
from host_setup.bisect.attempt import Observation, Workshop, add_options, settings_of, trial_line
from host_setup.bisect.notes import Note, Notes
from host_setup.bisect.search import STAGE, FirstBad, Search, Vote, WrongEndError
from host_setup.bisect.steps import Commits, Prefixes, Steps, is_number
from host_setup.kernel import source
from host_setup.provision import Settings

ONE_FOUND, SEVERAL_FOUND = 0, 1  # exit status
_WIDTH = 120  # columns of a file
_ROWS = ("status", "why", "expected", "observed", "control", "shared")


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="sealproof bisect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument(
        "--good",
        metavar="N|REV",
        help="known good: the first N patches of the series, or a commit of --kernel; default: no patch",
    )
    parser.add_argument("--bad", metavar="N|REV", help="known bad, in the same form; default: all patches, or HEAD")
    parser.add_argument(
        "--trust-ends",
        action="store_true",
        help="both ends were seen before: try an end only if the answer rests on it",
    )
    parser.add_argument("--afresh", action="store_true", help="forget what an earlier search has observed")
    return parser


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """The command line of the other command, by its word."""
    return {"try": attempt.options_parser()}


def steps_of(option: argparse.Namespace, settings: Settings, store: Store, folder: Path) -> Steps:
    """The range that the options mean: commits if an end is named that is no number.

    :param folder: for kernels of our own.
    :raises UserInputError: there is no such range.
    """
    ends = [end for end in (option.good, option.bad) if end is not None]
    if all(map(is_number, ends)):
        identity = source.resolve(settings.kernel_source, store).identity
        return Prefixes(settings, identity, option.good, option.bad, folder / "series")
    if option.good is None:
        raise UserInputError("which commit is good?", stage=STAGE, hint="name it with --good")
    return Commits(settings, option.good, option.bad or "HEAD", folder / "tree")


class Searcher:
    """A search, with what was observed so far.

    :param question: hash of what is asked of each step.
    """

    def __init__(self, steps: Steps, search: Search, notes: Notes, question: str) -> None:
        self.steps = steps
        self._search = search
        self._notes = notes
        self._question = question
        self._seen: dict[str, list[Observation]] = {}

    def observations_of(self, step: str) -> list[Observation]:
        """What was observed on a step."""
        if step not in self._seen:
            self._seen[step] = self._notes.of(self._identity(step))
        return self._seen[step]

    def next(self) -> str | FirstBad:
        """The step to be tried, or the answer.

        :raises WrongEndError: an end is not what the user says; names it, and what was observed.
        """
        try:
            return self._search.next(_Votes(self))
        except WrongEndError as error:
            why = self.observations_of(error.step)[-1].why.partition("\n")[0]
            words = f"{error.message}: {self.steps.name(error.step)}: {why}"
            raise WrongEndError(words, error.step, hint=error.hint) from error

    def add(self, step: str, observation: Observation) -> None:
        """Take an observation in."""
        self.observations_of(step).append(observation)
        self._notes.add(Note(self._identity(step), step, observation))

    def other_observations(self, step: str) -> list[Observation]:
        """What was observed on other steps."""
        return [
            observation for other, observations in self._seen.items() if other != step for observation in observations
        ]

    def _identity(self, step: str) -> str:
        return digest(self._question, self.steps.identity(step))


class _Votes(dict[str, list[Vote]]):
    """The votes on each step, looked up when they are asked for: there may be thousands of steps."""

    def __init__(self, searcher: Searcher) -> None:
        super().__init__()
        self._searcher = searcher

    def get(self, step: str, _: object = ()) -> list[Vote]:
        self[step] = [observation.vote for observation in self._searcher.observations_of(step)]
        return self[step]


def answer(searcher: Searcher, result: FirstBad, repeat: str, width: int) -> str:
    """What was found, for people: the first bad step, and both observations side by side.

    :param repeat: the command that tries one step, without naming the step. :param width: in columns.
    """
    steps = searcher.steps
    suspects = steps.in_order(result.suspects)
    good = steps.in_order(result.good)[-1]
    lines = []
    if len(suspects) == 1:
        lines.append(f"the first bad one: {steps.name(result.bad)}")
    else:
        lines.append(f"the first bad one is among these {len(suspects)}:")
        lines += [f"  {steps.name(step)}{_reason_skipped(searcher, step)}" for step in suspects]
    lines += [f"flaky: {steps.name(step)}: {_tally(searcher, step)}" for step in steps.in_order(result.flaky)]
    table = Table(box=box.SIMPLE_HEAD, width=width, pad_edge=False)
    table.add_column("")
    for title in ("last good", "first bad" if len(suspects) == 1 else "bad"):
        table.add_column(title, ratio=1, overflow="fold")
    columns = [_column(searcher, step, vote) for step, vote in ((good, Vote.GOOD), (result.bad, Vote.BAD))]
    for name in ("step", *_ROWS, "seen", "report"):
        cells = [column.get(name, "") for column in columns]
        if any(cells):
            table.add_row(Text(name), *map(Text, cells))
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as text:
        console.print(table)
    repeats = [f"repeat: {repeat} --at={step}" for step in (good, result.bad)]
    return "\n".join([*lines, text.get().rstrip(), "", *repeats, ""])


def facts(searcher: Searcher, result: FirstBad) -> dict[str, object]:
    """What was found, for programs: each step by its name, what was observed on both sides, and the range's ends."""
    steps = searcher.steps
    good = steps.in_order(result.good)[-1]
    return {
        "suspects": {step: steps.name(step) for step in steps.in_order(result.suspects)},
        "last_good": {"id": good, **_column(searcher, good, Vote.GOOD)},
        "bad": {"id": result.bad, **_column(searcher, result.bad, Vote.BAD)},
        "flaky": {step: _tally(searcher, step) for step in steps.in_order(result.flaky)},
        "searched": {"what": steps.plural, "good": steps.good, "bad": steps.bad},
    }


def _column(searcher: Searcher, step: str, vote: Vote) -> dict[str, str]:
    newest = next(observation for observation in reversed(searcher.observations_of(step)) if observation.vote is vote)
    return {
        "step": searcher.steps.name(step), **newest.claim, "why": newest.why,
        "seen": _tally(searcher, step), "report": newest.report,
    }  # fmt: skip


def _tally(searcher: Searcher, step: str) -> str:
    votes = [observation.vote for observation in searcher.observations_of(step)]
    return ", ".join(f"{votes.count(vote)} times {vote}" for vote in Vote if vote in votes)


def _reason_skipped(searcher: Searcher, step: str) -> str:
    observations = searcher.observations_of(step)
    if not observations or observations[-1].vote in (Vote.GOOD, Vote.BAD):
        return ""
    return f" ({observations[-1].vote}: {observations[-1].why.partition(chr(10))[0]})"


def find(searcher: Searcher, shop: Workshop, reports: Path, terminal: Terminal) -> FirstBad:
    """Try steps until the first bad one is found.

    :raises WrongEndError: an end is not what the user says.
    """
    steps = searcher.steps
    count = len(steps.suspects([steps.good], steps.bad))
    terminal.say(f"{steps.plural}: {count} suspects, about {math.ceil(math.log2(count)) + 2} kernels to be tried")
    with shop.alone():
        while not isinstance(step := searcher.next(), FirstBad):
            terminal.say(f"trying {steps.name(step)}")
            cast = len(searcher.observations_of(step))
            folder = reports / f"{step[:12]}-{cast + 1}"
            observation = shop.attempt(steps.settings(step), folder, searcher.other_observations(step), cast)
            searcher.add(step, observation)
            print(f"{steps.name(step)}: {trial_line(observation)}", flush=True)  # noqa: T201
        return step


def main(argv: list[str]) -> int:
    """Run it."""
    if argv[:1] == ["try"]:
        return attempt.main(argv[1:])
    option = options_parser().parse_args(argv)
    begun = time.monotonic()
    terminal = Terminal()
    settings = settings_of(option)
    shop = Workshop(settings.store(), option.claim, terminal, harm=option.harm)
    folder: Path = option.folder.absolute() / option.claim
    notes = Notes(folder / "observations.jsonl")
    if option.afresh:
        notes.forget()
    steps = steps_of(option, settings, settings.store(), shop.folder)
    identity = digest(option.claim, *_options_asked(option))
    search = Search(steps, steps.good, steps.bad, times=option.times, trust_ends=option.trust_ends)
    searcher = Searcher(steps, search, notes, identity)
    result = find(searcher, shop, folder / "runs", terminal)
    repeat = " ".join(shell_word(word) for word in _repeat(option))
    (folder / "answer.txt").write_text(answer(searcher, result, repeat, _WIDTH), encoding="utf-8")
    (folder / "answer.json").write_text(json.dumps(facts(searcher, result), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(answer(searcher, result, repeat, Console().width if sys.stdout.isatty() else _WIDTH))
    print(f"{clock(time.monotonic() - begun)}; {path_text(folder / 'answer.txt')}")  # noqa: T201
    return ONE_FOUND if len(result.suspects) == 1 else SEVERAL_FOUND


def _options_asked(option: argparse.Namespace) -> list[str]:
    """The options that a result depends on, besides the step."""
    chosen = [f"--mode={option.mode}", f"--host={option.host}", f"--compiler={option.compiler}"]
    chosen += [f"--layers={','.join(option.layers)}"] if option.layers else []
    return [*chosen, *(["--harm"] if option.harm else [])]


def _repeat(option: argparse.Namespace) -> list[str]:
    words = [sys.executable, "-m", "host_setup.bisect", "try", option.claim, *_options_asked(option)]
    words += [f"--series={option.series}"]
    return words if option.kernel_source is None else [*words, f"--kernel={option.kernel_source}"]


if __name__ == "__main__":
    end_with(main)
