# SPDX-License-Identifier: GPL-2.0-or-later
"""What passes on the stock kernel, kept beside this file: what a run on one kernel alone is held against.

``make selftests ARGS='--record'`` writes it anew. A test that the stock kernel fails or skips says nothing of a series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from common.errors import UserInputError
from host_setup.selftests.ktap import KtapOutcome
from host_setup.selftests.run import SelftestResult
from host_setup.selftests.suites import Selftest

FILE = Path(__file__).with_name("passes_on_stock.txt")


def read(file: Path = FILE) -> dict[str, int]:
    """Names of tests, and of how many of its checks each one passed.

    :raises UserInputError: it is not there, or a line is not as it must be; with its number.
    """
    if not file.exists():
        raise UserInputError(f"{file} is not there", hint="make selftests ARGS='--record' writes it")
    counts: dict[str, int] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        checks, _, name = line.partition(" ")
        if not checks.isdecimal() or not name:
            raise UserInputError(f"{file}:{number}: not a number of checks and the name of a test: {line!r}")
        counts[name] = int(checks)
    return counts


def write(results: Iterable[SelftestResult], of: Sequence[str], file: Path = FILE) -> None:
    """Keep what passed. ``of``: lines that say what it ran on."""
    head = ["SPDX-License-Identifier: GPL-2.0-or-later", "Written by host_setup/selftests/record.py.", *of]
    lines = [f"{count_passed(result)} {result.test.name}" for result in results if result.outcome is KtapOutcome.PASS]
    file.write_text("\n".join([*(f"# {line}" for line in head), *lines, ""]), encoding="utf-8")


def count_passed(result: SelftestResult) -> int:
    """How many of a test's checks passed."""
    return sum(check.outcome is KtapOutcome.PASS for check in result.checks)


def tests_to_pass(tests: Iterable[Selftest], recorded: Mapping[str, int]) -> list[Selftest]:
    """The tests that a kernel must pass, in order.

    :raises UserInputError: one of those that are recorded is not there.
    """
    required = [test for test in tests if test.name in recorded]
    if missing := sorted(set(recorded) - {test.name for test in required}):
        raise UserInputError(
            f"the kernel's source has no selftest {missing[0]} (of {len(missing)} that are missing)",
            hint="make selftests ARGS='--record' writes down what this source's stock kernel passes",
        )
    return required
