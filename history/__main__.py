# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof history COMMAND``: what became of each claim over many runs."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import IO

from common.errors import SealproofError, UserInputError
from common.names import path_text
from common.numbers import minutes
from common.paths import parse_path, parse_user_path, require_reports
from common.program import FAILED, end_with
from common.progress import clock
from common.store import disk_errors
from common.text import printable
from common.waiting import Deadline
from history import summary, wording
from history.annotations import Form, annotate, to_github, to_gitlab
from history.compare import Change, Comparison
from history.database import LONGEST_LINE, STATE, History, default_path
from history.matrix import ExitOn, load
from history.model import STAGE, Run, read_report
from history.nightly import Ground, Nightly
from history.review import NightExit, review
from history.sittings import compare_runs, tracks
from history.trend import NIGHTS, to_html
from host_setup.claim_runs import run_pytest

LATEST = "latest"
PAGE = "trend.html"
MOST_NIGHTS = 400


class Exit(IntEnum):
    """The exit status of a comparison."""

    NO_REGRESSION = 0
    REGRESSION = 1
    NOT_COMPARABLE = 2


def main(argv: list[str]) -> int:
    """Run a command; returns its exit status.

    :raises SealproofError: something is not usable; ``common.program`` makes it status 2.
    """
    chosen = options_parser().parse_args(argv or ["--help"])
    command: Callable[[argparse.Namespace], int] = chosen.command
    return command(chosen)


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    return _parsers()[0]


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """The command line of each command, by its name."""
    return _parsers()[1]


_Add = Callable[..., argparse.ArgumentParser]
"""Adds a command: its name, and what ``argparse`` takes besides."""


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The whole command line, and that of each command."""
    parser = argparse.ArgumentParser(prog="sealproof history", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--history",
        type=parse_user_path,
        metavar="FILE",
        help="the history, an SQLite file; default: sealproof/history.sqlite below $XDG_STATE_HOME or ~/.local/state",
    )

    for add_commands in (_add_files, _add_compare, _add_nightly, _add_looks):
        add_commands(partial(commands.add_parser, parents=[where]))
    return parser, dict(commands.choices)


def _add_files(add: _Add) -> None:
    """The commands that take and give runs."""
    record_parser = add("record", help="keep finished runs")
    record_parser.add_argument(
        "report", nargs="+", type=parse_path, metavar="REPORT", help="a run's folder, for instance reports/latest"
    )
    record_parser.set_defaults(command=_record)

    export_parser = add("export", help="write the whole history as JSON lines")
    export_parser.add_argument("file", type=_file, metavar="FILE", help="'-': standard output")
    export_parser.set_defaults(command=_export)

    import_parser = add("import", help="add an export: all of it, or nothing if it is damaged")
    import_parser.add_argument("file", type=_file, metavar="FILE", help="'-': standard input")
    import_parser.set_defaults(command=_import)


def _add_compare(add: _Add) -> None:
    compare_parser = add(
        "compare",
        help="what has changed between two runs",
        description="Each run is a report's folder, a run's id or the beginning of one, or 'latest', the newest run of "
        "the history. Exit status 0: no claim regressed; 1: at least one did; 2: the runs are not comparable.",
    )
    compare_parser.add_argument("before", metavar="RUN")
    compare_parser.add_argument("after", metavar="RUN")
    compare_parser.add_argument(
        "--common", action="store_true", help="compare what both have tried, also where the later run has tried less"
    )
    compare_parser.set_defaults(command=_compare)


def _add_nightly(add: _Add) -> None:
    nightly_parser = add(
        "nightly",
        prog="sealproof nightly",
        description="\n\nThe cells that failed last are run first, then the cells that have waited longest.\n"
        "A killed night continues where it stopped.",
    )
    nightly_parser.add_argument(
        "matrix", type=parse_path, metavar="MATRIX", help="a TOML file; docs/nightly.md shows one"
    )
    nightly_parser.add_argument("--minutes", type=minutes, metavar="N", help="time limit; default: the matrix says it")
    nightly_parser.add_argument(
        "--exit-on", type=ExitOn, choices=list(ExitOn), metavar="WHAT", help=f"status 1 for: {', '.join(ExitOn)}"
    )
    nightly_parser.add_argument(
        "--new", action="store_true", help="begin a new night even if the last one is not finished"
    )
    nightly_parser.add_argument(
        "--dry-run", action="store_true", help="say what would be run, in which order; run nothing"
    )
    nightly_parser.add_argument(
        "--reports",
        type=parse_path,
        default=Path("reports/nightly"),
        metavar="DIR",
        help="folder for the nights' reports; default: reports/nightly",
    )
    nightly_parser.set_defaults(command=_nightly)


def _add_looks(add: _Add) -> None:
    """The commands that say what became of nights and claims."""
    trend_parser = add("trend", help="write the page of all nights, one file")
    trend_parser.add_argument("file", type=parse_path, metavar="FILE", help="for instance reports/nightly/trend.html")
    trend_parser.add_argument(
        "--nights", type=_number, default=NIGHTS, metavar="N", help=f"how many; default: {NIGHTS}"
    )
    trend_parser.set_defaults(command=_trend)

    summary_parser = add("summary", help="print the result of a night")
    summary_parser.add_argument("night", nargs="?", default=LATEST, metavar="NIGHT", help="its id, or its beginning")
    form = summary_parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="for a CI's job page; default: a plain text, for a mail")
    form.add_argument(
        "--annotations", type=Form, choices=list(Form), metavar="CI",
        help="at the contract's lines: github (for the job's log) or gitlab (an artifact of the kind codequality)",
    )  # fmt: skip
    summary_parser.set_defaults(command=_summary)

    for claim_parser in (
        add("claim", help="how a claim fared, run by run"),
        add("history"),  # its other name, which help does not list
    ):
        claim_parser.add_argument("claim", metavar="CLAIM", help="as tests_e2e/contract/ names it")
        claim_parser.set_defaults(command=_claim)


def _file(text: str) -> str:
    """A file's path, or ``-``."""
    return text if text == "-" else str(parse_path(text))


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_NIGHTS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST_NIGHTS}")
    return int(text)


def _record(chosen: argparse.Namespace) -> int:
    with _history(chosen) as history:
        for folder in chosen.report:
            run = read_report(folder)
            new = history.add(run)
            _say([f"{run.id}: {'recorded' if new else 'was there'}, {run.track}: {run.verdict}"])
    return 0


def _export(chosen: argparse.Namespace) -> int:
    with _history(chosen, existing=True) as history:
        if chosen.file == "-":
            for line in history.export():
                sys.stdout.write(f"{line}\n")
            return 0
        _write_lines(Path(chosen.file), (f"{line}\n" for line in history.export()))
    _say([f"{path_text(chosen.file)}: exported"])
    return 0


def _import(chosen: argparse.Namespace) -> int:
    with _history(chosen) as history, _open_text(chosen.file) as lines:
        try:
            new, there = history.take(_bounded_lines(lines))
        except UnicodeDecodeError as error:
            raise UserInputError(f"{chosen.file} is not UTF-8 text", stage="import") from error
    _say([f"{new} runs imported, {there} were there"])
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    path: Path = chosen.history or default_path()
    with History(path) if path.exists() else nullcontext() as history:
        before, after = (_run(history, word) for word in (chosen.before, chosen.after))
        if before.mode is not after.mode:
            raise UserInputError(
                f"a run in mode {before.mode} is not comparable with one in mode {after.mode}: PASS has two meanings",
                stage="compare",
            )
        comparison = compare_runs(history, before, after)
    _say(wording.comparison_lines(comparison))
    status, why = _verdict(comparison, common=chosen.common)
    _say([f"exit {int(status)}: {why}"])
    return status


def _verdict(comparison: Comparison, *, common: bool) -> tuple[Exit, str]:
    """The exit status of a comparison, and what it means."""
    if regressed := comparison.of(Change.REGRESSED):
        return Exit.REGRESSION, f"{len(regressed)} {'claim' if len(regressed) == 1 else 'claims'} regressed"
    if not any(line.before and line.after for line in comparison.lines):
        return Exit.NOT_COMPARABLE, "not comparable: no claim was tried in both runs"
    missing = [line for line in comparison.of(Change.NOT_TRIED) if line.before]
    if missing and not common:
        words = f"the earlier run tried {len(missing)} claims that the later one did not"
        return Exit.NOT_COMPARABLE, f"not comparable: {words} (--common compares the others)"
    return Exit.NO_REGRESSION, "no claim regressed"


def _nightly(chosen: argparse.Namespace) -> int:
    matrix = load(chosen.matrix)
    if chosen.minutes is not None:
        matrix = replace(matrix, minutes=chosen.minutes)
    folder: Path = chosen.reports.absolute()
    with _history(chosen) as history:
        nightly = Nightly(matrix, Ground(history, folder, _run_by_the_clock, lambda words: _say([words])))
        if chosen.dry_run:
            for cell, seconds in nightly.order():
                _say([f"{cell.name}: {f'{clock(seconds)} last time' if seconds else 'never run to its end'}"])
            return 0
        require_reports(folder)
        night_review = review(history, nightly.run(fresh=chosen.new))
        page = folder / PAGE
        nights = to_html(history, page)
    words = summary.text(night_review, page)
    _say(["", *words.splitlines()])
    own = folder / night_review.night.id
    pages = {page: nights, own / "summary.md": summary.markdown(night_review), own / "mail.txt": words}
    unwritten = [words for file, content in pages.items() if (words := _unwritten(file, content))]
    _say(unwritten)
    # What regressed stays the answer where the pages cannot be written.
    return night_review.exit(chosen.exit_on or matrix.exit_on) or (FAILED if unwritten else NightExit.WELL)


def _unwritten(path: Path, content: str) -> str:
    """Write a file; returns why that was not possible, or nothing."""
    try:
        _write(path, content)
    except SealproofError as error:
        return error.message
    return ""


def _run_by_the_clock(words: Sequence[str], reports: Path, log: Path, seconds: float) -> str:
    """Run pytest; a night's time is over when it is, however busy this computer was."""
    return run_pytest(words, reports, log, Deadline(seconds, uncounted=lambda: 0.0))


def _claim(chosen: argparse.Namespace) -> int:
    with _history(chosen, existing=True) as history:
        name = chosen.claim.removeprefix("test_")
        runs = history.of_claim(name)
        if not runs:
            near = difflib.get_close_matches(name, history.claims(), 3)
            raise UserInputError(
                f"no run has tried a claim {name[:100]}",
                stage=STAGE,
                hint=f"did you mean: {', '.join(near)}" if near else "'make signoff' lists the claims",
            )
        _say(wording.claim_history(name, list(tracks(runs).items())))
    return 0


def _trend(chosen: argparse.Namespace) -> int:
    with _history(chosen, existing=True) as history:
        _write(chosen.file, to_html(history, chosen.file.absolute(), chosen.nights))
    _say([f"{path_text(chosen.file)}: written"])
    return 0


def _summary(chosen: argparse.Namespace) -> int:
    with _history(chosen, existing=True) as history:
        nights = [night for night in history.nights() if chosen.night == LATEST or night.id.startswith(chosen.night)]
        if not nights:
            raise UserInputError(f"there is no night {chosen.night[:80]}", stage=STAGE)
        night_review = review(history, nights[-1])
    forms = {Form.GITHUB: to_github, Form.GITLAB: to_gitlab}
    if chosen.annotations is not None:
        _say(forms[chosen.annotations](annotate(night_review)).splitlines())
    else:
        _say((summary.markdown(night_review) if chosen.markdown else summary.text(night_review)).splitlines())
    return night_review.exit()


def _write(path: Path, content: str) -> None:
    _write_lines(path, [content])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file, whole or not at all; where a link leads, and into a pipe or a device, which stay what they are."""
    try:
        path = path.resolve() if path.is_symlink() and (path.is_file() or not path.exists()) else path
        fresh = path.with_name(f".{path.name}.new")
        with disk_errors(path, "FILE"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                with path.open("w", encoding="utf-8") as out:
                    out.writelines(lines)
                return
            try:
                with fresh.open("w", encoding="utf-8") as out:
                    out.writelines(lines)
                fresh.replace(path)
            finally:
                with suppress(OSError):
                    fresh.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # links in a circle
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserInputError(f"{path_text(path)} cannot be written: {why}", stage=STAGE) from error


def _run(history: History | None, word: str) -> Run:
    """The run that a word names: a report's folder, or a run of the history."""
    if word not in ("", LATEST) and Path(word).is_dir():
        return read_report(Path(word))
    if history is None:
        raise UserInputError(
            f"{path_text(word)} is not the folder of a report, and there is no history yet",
            stage="compare",
            hint="record a run: ./sealproof history record REPORT",
        )
    return history.find(word)


def _history(chosen: argparse.Namespace, *, existing: bool = False) -> History:
    if chosen.history:
        return History(chosen.history, existing=existing)
    return History(default_path(), existing=existing, named_by=STATE)


@contextmanager
def _open_text(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdin
        return
    try:
        with Path(name).open(encoding="utf-8") as lines:
            yield lines
    except OSError as error:
        raise UserInputError(f"{path_text(name)} cannot be read: {error.strerror}", stage="import") from error


def _bounded_lines(lines: IO[str]) -> Iterator[str]:
    """Lines, each read up to a bound: of a file without line breaks no more is held."""
    while text := lines.readline(LONGEST_LINE + 1):
        yield text


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with(main)
