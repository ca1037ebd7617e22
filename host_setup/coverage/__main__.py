# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines and branches that a series adds are executed, and by which claim: ``sealproof coverage``.

The kernel is built with the layer ``coverage``, the claims are run on it, and its counters are read after each. What
comes of it lies in one folder: ``coverage.html``, ``coverage.md``, and ``coverage.json``, which has for each file of
the patched tree, for each added line with code (its number, as text), the claims that execute it. ``boot`` stands
there for the boot of host and guests from which all claims start. Runs add up: one of a few claims replaces what was
known of these. What is not an option of this command goes to pytest: tests by their paths, ``-k``, ``-m``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.commands import git
from common.errors import CommandError, UserInputError
from common.names import path_text, shell_word
from common.paths import PROJECT, cache_root, parse_path
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from host_setup.coverage import notes, page, plugin
from host_setup.coverage.added_lines import AddedLines, lines_added
from host_setup.coverage.collector import BOOT, CLAIMS
from host_setup.coverage.counters import STAGE
from host_setup.coverage.result import NOTES_FOLDER, Coverage, gather
from host_setup.kernel import layers, profile, series
from host_setup.kernel.build import BuiltKernel, Request, build, key
from host_setup.kernel.layers import Layer
from host_setup.kernel.patches import source_tree
from host_setup.kernel.toolchain import GCC, Toolchain, parse_compiler
from host_setup.provision import Settings, kernel_request

KERNEL = "kernel.txt"  # the key of the kernel that the folder is about


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof coverage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder",
        type=parse_path,
        default=PROJECT / "reports/coverage",
        metavar="DIR",
        help="where the result goes; default: reports/coverage",
    )
    parser.add_argument(
        "--series",
        default=series.DEFAULT,
        metavar="NAME",
        help=f"patch series, a name or a folder; default: {series.DEFAULT}",
    )
    parser.add_argument("--kernel-source", type=parse_path, metavar="PATH", help="kernel source, a tree or a tarball")
    parser.add_argument(
        "--layers",
        default=(),
        type=layers.parse_names,
        metavar="NAMES",
        help="further layers of the configuration; default: none",
    )
    parser.add_argument(
        "--compiler", default=GCC.compiler, type=parse_compiler, metavar="NAME", help="a gcc, 12 or newer; default: gcc"
    )
    parser.add_argument("--no-run", action="store_true", help="run no claim: write the last result again")
    return parser


def main(argv: list[str]) -> int:
    """Run the claims, and tell what they execute."""
    options, others = options_parser().parse_known_args(argv)
    store, terminal = Store(cache_root()), Terminal()
    layers = tuple(layer for layer in Layer if layer in (*options.layers, Layer.COVERAGE))
    settings = Settings(
        series=options.series, kernel_source=options.kernel_source, layers=layers, toolchain=Toolchain(options.compiler)
    )
    folder: Path = options.folder.absolute()
    if options.no_run and not (folder / KERNEL).is_file():
        raise _no_result(folder, "there is no result")
    request = kernel_request(settings, store)
    wanted_key = key(request, request.toolchain.version())
    if options.no_run and (folder / KERNEL).read_text(encoding="ascii") != wanted_key:
        raise _no_result(folder, "the result is of another kernel")
    words = _pytest_words(options, layers, folder, others)
    if not options.no_run:
        _require_claims(words)
    kernel = build(request, store, terminal)
    gcov = notes.program(options.compiler)
    lines = _prepare(folder, kernel, request, store, terminal)
    if not options.no_run:
        pytest.main(words)
    functions = json.loads((folder / plugin.FUNCTIONS).read_text(encoding="utf-8"))
    result = gather(gcov, folder, functions, lines, profile.load(request.series).explained, order=(BOOT,))
    return _tell(result, folder, kernel, argv, terminal)


def _pytest_words(options: argparse.Namespace, layers: Sequence[str], folder: Path, others: Sequence[str]) -> list[str]:
    """The command line of pytest's: the options of this command, and those that are not its own."""
    named = any(Path(word.partition("::")[0]).exists() for word in others)
    return [
        *("-p", plugin.__name__, "--coverage-folder", str(folder)),
        *("--layers", ",".join(layers), "--series", options.series, "--compiler", options.compiler),
        *(["--kernel-source", str(options.kernel_source)] if options.kernel_source else []),
        *others,
        *([] if named else [str(PROJECT / "tests_e2e")]),
    ]


def _require_claims(words: Sequence[str]) -> None:
    """See that pytest takes its words, before a kernel is built.

    :raises UserInputError: it does not, or they select no claim.
    """
    command = [sys.executable, "-E", "-m", "pytest", *words, "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if "error: " in line or "ERROR: " in line]
        raise UserInputError(
            f"pytest finds no claim by these words: {said[-1].strip() if said else 'none fits'}",
            stage="coverage",
            hint="'./sealproof coverage --help' lists the options of this command, 'pytest --help' pytest's",
        )


def _no_result(folder: Path, why: str) -> UserInputError:
    return UserInputError(
        f"{why} in {path_text(folder)}",
        stage=STAGE,
        hint="run the claims, without --no-run; --folder names where a result is",
    )


def _prepare(
    folder: Path, kernel: BuiltKernel, request: Request, store: Store, terminal: Terminal
) -> dict[str, AddedLines]:
    """Find out what the series adds, and which functions count it; what another kernel has counted goes."""
    with tempfile.TemporaryDirectory(prefix="sealproof-coverage-") as work:
        pristine = source_tree(request.source, (), store, terminal, Path(work) / "logs")
        with terminal.step("find the lines that the series adds"):
            lines = lines_added(pristine, request.series.patches, Path(work) / "patched")
    key_file = folder / KERNEL
    if key_file.is_file() and key_file.read_text(encoding="ascii") == kernel.key:
        return lines
    for old in (CLAIMS, NOTES_FOLDER):
        shutil.rmtree(folder / old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)

    def is_asked_for(file: str, number: int) -> bool:
        return file in lines and number in lines[file].patches

    with terminal.step("find the functions that have them"):
        lines_of = notes.interesting(kernel.build_tree, is_asked_for, folder / NOTES_FOLDER)
    (folder / plugin.FUNCTIONS).write_text(json.dumps(lines_of), encoding="utf-8")
    key_file.write_text(kernel.key, encoding="ascii")
    return lines


def _tell(result: Coverage, folder: Path, kernel: BuiltKernel, argv: list[str], terminal: Terminal) -> int:
    ran = len([claim for claim in result.claims if claim != BOOT])
    facts = {
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": " ".join(["./sealproof coverage", *map(shell_word, argv)]),
        "commit": _commit(),
        "kernel": f"Linux {kernel.release}, series {kernel.series}, layers {', '.join(kernel.layers)}",
        "compiler": kernel.compiler,
        "claims that were run": str(ran),
    }
    (folder / "coverage.json").write_text(json.dumps(result.by_line(), indent=0) + "\n", encoding="utf-8")
    (folder / "coverage.html").write_text(page.html(result, facts), encoding="utf-8")
    (folder / "coverage.md").write_text(page.markdown(result, facts), encoding="utf-8")
    totals = result.totals()
    terminal.say(
        f"{totals.ran} of {totals.code} added lines with code ran ({page.share(totals.ran, totals.code)}), "
        f"{totals.explained} more are explained, {totals.missing} are missing; "
        f"{totals.branches_taken} of {totals.branches} branches were taken "
        f"({page.share(totals.branches_taken, totals.branches)})"
    )
    for gap in result.stale:
        terminal.say(f"an explanation is stale (its code runs, or is gone): {gap.file}: {gap.code}")
    terminal.say(f"see {folder / 'coverage.html'}")
    return 0 if totals.has_reached_goal and not result.stale else 1


def _commit() -> str:
    """The project's, with ``-dirty`` if files differ from it."""
    words = ("describe", "--always", "--abbrev=12", "--exclude=*", "--dirty")
    try:
        return git(PROJECT, *words, stage=STAGE).decode().strip()
    except CommandError:
        return "unknown"


if __name__ == "__main__":
    end_with(main)
