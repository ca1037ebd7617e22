# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof mutate``: puts faults into a series, one by one, and sees whether a claim names each."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout

from common.commands import git
from common.errors import CommandError, SetupError, UserInputError
from common.numbers import minutes_from_0, whole_number
from common.paths import PROJECT, cache_root, expand_home, parse_path
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from host_setup.claim_runs import claim_tests
from host_setup.kernel import series, source
from host_setup.kernel.kept_build import KeptBuild
from host_setup.kernel.patches import source_tree
from host_setup.mutate.book import Book, Line, MutantVerdict, equivalents, summary, table
from host_setup.mutate.claims import Order, coverage, hints
from host_setup.mutate.faults import FOLDER, Fault, by_hand, machine_mutants, of_mutant
from host_setup.mutate.operators import Mutant
from host_setup.mutate.trial import Trials, kernel_request
from host_setup.provision import Settings, prepare

STAGE = "mutate"
PROVEN, SURVIVORS, NOT_ALL_TRIED = 0, 1, 2


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof mutate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", default=series.DEFAULT, metavar="NAME", help="patch series, a name or a folder")
    parser.add_argument("--kernel-source", type=parse_path, metavar="PATH", help="kernel source, a tree or a tarball")
    parser.add_argument("--faults", type=parse_path, metavar="DIR", help="faults by hand; default: those of the series")
    parser.add_argument(
        "--kind",
        choices=("hand", "machine", "all"),
        default="all",
        help="faults written by hand, made by a machine, or all (default)",
    )
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="faults whose name fits")
    parser.add_argument("--sample", type=whole_number(1), metavar="N", help="a random sample of this size")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random sample; default: 0")
    parser.add_argument("--coverage", type=parse_path, metavar="FILE", help="which claims execute which line, JSON")
    parser.add_argument(
        "--whole", action="store_true", help="if no claim about a fault's place notices it, try all other claims"
    )
    parser.add_argument(
        "--failures",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="try no more claims on a fault after N failures; the claims that must name it are all tried",
    )
    parser.add_argument(
        "--minutes", type=minutes_from_0, metavar="N", help="start no new fault after this many minutes"
    )
    parser.add_argument(
        "--again", action="append", default=[], type=MutantVerdict, choices=list(MutantVerdict), metavar="VERDICT",
        help=f"try faults with this verdict again ({', '.join(MutantVerdict)})",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=parse_path, default=Path("reports/mutation"), metavar="DIR", help="keeps results"
    )
    parser.add_argument(
        "--table", type=parse_path, metavar="FILE", help="write the mutation table of all results, Markdown"
    )
    parser.add_argument("--list", action="store_true", help="list the faults, and the claims for each")
    return parser


def options(argv: list[str]) -> argparse.Namespace:
    """What the command line asks for."""
    return options_parser().parse_args(argv)


@dataclass(frozen=True, slots=True)
class Ground:
    """What faults are put into, and all that there are.

    :ivar base: the folder of the series. :ivar patched: the tree with it.
    """

    base: Path
    kept_build: KeptBuild
    patched: Path
    hand: tuple[Fault, ...]
    machine: tuple[Mutant, ...]
    equivalents: dict[str, str]

    def fault(self, entry: Fault | Mutant) -> Fault:
        """A fault, or the one that a mutant is."""
        return (
            entry
            if isinstance(entry, Fault)
            else of_mutant(entry, (self.patched / entry.file).read_text(encoding="utf-8"))
        )


def choose_faults(
    hand: Sequence[Fault], machine: Sequence[Mutant], kind: str, only: Sequence[str], sample: int | None, seed: int
) -> list[Fault | Mutant]:
    """The faults that are asked for, in the order in which they are tried: those by hand first.

    :param kind: ``hand``, ``machine`` or ``all``. :param only: patterns of names; none: all.
    :raises UserInputError: there are none.
    """
    faults: list[Fault | Mutant] = [*(hand if kind != "machine" else ()), *(machine if kind != "hand" else ())]
    matching = [fault for fault in faults if not only or any(fnmatchcase(fault.name, pattern) for pattern in only)]
    if not matching:
        raise UserInputError("no fault fits", stage=STAGE, hint="'make mutate ARGS=--list' lists them")
    if sample is None or sample >= len(matching):
        return matching
    return random.Random(seed).sample(sorted(matching, key=lambda fault: fault.name), sample)  # noqa: S311  no secret


def exit_status(chosen: Sequence[Fault], judged: Sequence[Line]) -> int:
    """What the results say of the faults that were asked for."""
    by_name = {line.name: line for line in judged}
    lines = [by_name.get(fault.name) for fault in chosen]
    if any(
        line is not None and not line.verdict.is_settled and line.verdict is not MutantVerdict.UNTRIED for line in lines
    ):
        return SURVIVORS
    return PROVEN if all(line is not None and line.verdict.is_settled for line in lines) else NOT_ALL_TRIED


def main(argv: list[str]) -> int:
    """Run it."""
    option = options(argv)
    terminal = Terminal()
    store = Store(cache_root())
    folder: Path = option.folder.absolute()
    ground = _ground(option, store, folder, terminal)
    tests = claim_tests(PROJECT)
    order = Order(tuple(tests), hints(), coverage(option.coverage) if option.coverage else None)
    chosen = choose_faults(ground.hand, ground.machine, option.kind, option.only, option.sample, option.seed)
    if option.list:
        for fault in map(ground.fault, chosen):
            print(f"{fault.name}: {fault.mistake}\n    {', '.join(order.first(fault))}")  # noqa: T201
        return PROVEN
    faults = [ground.fault(fault) for fault in chosen]
    book = Book(folder)
    try:
        with _alone(store):
            _try(faults, book, _trials(option, ground, store, folder, order, tests, terminal), option, terminal)
    finally:
        judged = book.verdicts(ground.equivalents)
        for words in summary(judged):
            print(words)  # noqa: T201
        if option.table:
            command = " ".join(["make mutate", *([f"ARGS='{' '.join(argv)}'"] if argv else [])])
            option.table.write_text(
                table(judged, tuple(tests), command, len(ground.hand) + len(ground.machine)), encoding="utf-8"
            )
    return exit_status(faults, judged)


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """There is one folder that is kept, and one fault in it.

    :raises SetupError: another run has it.
    """
    builds = store.root / "kept"
    builds.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(builds / "lock", timeout=0):
            yield
    except Timeout as error:
        raise SetupError("another 'make mutate' is at work", stage=STAGE, hint="end it, or wait for it") from error


def _ground(option: argparse.Namespace, store: Store, folder: Path, terminal: Terminal) -> Ground:
    base = expand_home(option.series).resolve() if "/" in option.series else series.FOLDER / option.series
    request = kernel_request(source.resolve(option.kernel_source, store), base)
    logs = folder / "logs/patches"
    logs.mkdir(parents=True, exist_ok=True)
    pristine = source_tree(request.source, (), store, terminal, logs)
    patched = source_tree(request.source, request.series.patches, store, terminal, logs)
    machine = tuple(machine_mutants(pristine, patched, request.series.patches))
    where: Path = option.faults or FOLDER / base.name
    kept_build = KeptBuild(store.root / "kept" / base.name, request, store, terminal)
    reasons = equivalents(where / "equivalent.toml", {mutant.name: mutant.before for mutant in machine})
    return Ground(base, kept_build, patched, tuple(by_hand(where, patched, logs)), machine, reasons)


def _trials(
    option: argparse.Namespace, ground: Ground, store: Store, folder: Path, order: Order, tests: dict[str, str],
    terminal: Terminal,
) -> Trials:  # fmt: skip
    settings = Settings("emulated", str(ground.base), option.kernel_source)
    plain, _ = prepare(settings, store, terminal)
    ground.kept_build.open()
    try:
        commit = git(PROJECT, "describe", "--always", "--dirty", "--abbrev=12", stage=STAGE).decode().strip()
    except CommandError:
        commit = "unknown"
    request = kernel_request(source.resolve(option.kernel_source, store), ground.base)
    return Trials(
        ground.kept_build, request, ground.base, plain, store, folder, order=order, tests=tests,
        failures=option.failures, whole=option.whole, commit=commit,
    )  # fmt: skip


def _try(chosen: Sequence[Fault], book: Book, trials: Trials, option: argparse.Namespace, terminal: Terminal) -> None:
    begun = time.monotonic()
    untried = [fault for fault in chosen if not book.has_result(fault, option.again)]
    terminal.say(f"{len(chosen)} faults, {len(chosen) - len(untried)} of them tried before")
    for number, fault in enumerate(untried, 1):
        if option.minutes is not None and time.monotonic() - begun > 60 * option.minutes:
            terminal.say(f"time is up: {len(untried) - number + 1} faults are left")
            break
        line = trials.try_fault(fault)
        book.add(line)
        by = ", ".join(line.claims) or line.why.partition("\n")[0]
        terminal.say(
            f"{number}/{len(untried)} {fault.name}: {line.verdict}{f' ({by})' if by else ''}"
            f"  [{line.building:.0f} s + {line.trying:.0f} s]"
        )
    if claims := book.without_control():
        terminal.say(f"controls: {len(claims)} claims on the series without a fault")
        for claim, status in trials.controls(claims).items():
            if status in ("PASS", "FAIL"):  # else it was not tried to its end, and is tried again
                book.add_control(claim, status)


if __name__ == "__main__":
    end_with(main)
