# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own selftests as checks of a claim: whoever passes on the stock kernel must pass here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from common.progress import Terminal
from common.store import Store
from host_setup.emulated.host import EmulatedHost, EmulatedSpec
from host_setup.kernel.source import Source
from host_setup.selftests import record
from host_setup.selftests.build import selftests
from host_setup.selftests.ktap import KtapOutcome
from host_setup.selftests.run import SelftestResult, boot, host_spec, run
from host_setup.selftests.suites import catalogue
from signoff.observation import Check


def run_all(spec: EmulatedSpec, source: Source, store: Store, terminal: Terminal, folder: Path) -> list[SelftestResult]:
    """Run what passes on the stock kernel, one by one, each with its deadline, on hosts without guests.

    :param spec: of the run's hosts. :param folder: for the logs of these.
    """
    built = selftests(source, store, terminal)
    tests = record.tests_to_pass(catalogue(built.kvm), record.read())
    numbers = count(1)

    def start() -> EmulatedHost:
        return boot(host_spec(spec, built.image), folder / f"selftests-{next(numbers)}")

    with terminal.step(f"{len(tests)} selftests of the kernel's own") as step:
        done = count(1)
        return run(
            start, tests, lambda result: step.update(next(done) / len(tests), f"{result.outcome} {result.test.name}")
        )


def as_on_stock(results: Iterable[SelftestResult], recorded: Mapping[str, int]) -> list[Check]:
    """Whether each test passes, and as many of its checks as on the stock kernel."""
    comparisons: list[Check] = []
    for result in results:
        name, number = result.test.name, recorded[result.test.name]
        actual = result.outcome.value if result.outcome is KtapOutcome.PASS else f"{result.outcome}: {result.reason}"
        comparisons.append(Check(name, KtapOutcome.PASS.value, actual))
        if number:
            enough = "true" if record.count_passed(result) >= number else f"{record.count_passed(result)} do"
            comparisons.append(Check(f"{name}: at least {number} of its checks pass", "true", enough))
    return comparisons


def output_of(results: Iterable[SelftestResult]) -> str:
    """What the tests wrote, one behind the other."""
    return "\n".join(
        f"=== {result.test.name}: {result.outcome} after {result.seconds:g} s {result.reason}\n{result.output}"
        for result in results
    )
