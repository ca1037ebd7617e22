# SPDX-License-Identifier: GPL-2.0-or-later
"""Two kernels beside each other: what passes on the first and not on the second is a regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common import table as tables
from host_setup.selftests.ktap import KtapOutcome
from host_setup.selftests.run import SelftestResult
from host_setup.selftests.suites import Selftest

WIDEST_REASON = 90
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Column:
    """All results of one kernel. ``kernel``: what a report says of it."""

    series: str
    kernel: Mapping[str, object]
    results: tuple[SelftestResult, ...]

    def of(self, test: Selftest) -> SelftestResult | None:
        """Its result of a test."""
        return next((result for result in self.results if result.test == test), None)


@dataclass(frozen=True, slots=True)
class Regression:
    """What passes on the first kernel and not on the second.

    :ivar repeats: how often the test was repeated on the first kernel. :ivar unsteady: how often it did not pass there
        either: then it tells nothing of the second kernel.
    """

    test: Selftest
    change: str
    repeats: int = 0
    unsteady: int = 0

    @property
    def counts(self) -> bool:
        """Whether the second kernel is to blame."""
        return self.unsteady == 0


def lost_passes(before: SelftestResult, after: SelftestResult) -> str:
    """What passed before and does not now; empty when nothing is lost.

    A skip counts: whatever the test asks for was there before. And so does each check of a test, whether the test as a
    whole passes or not.
    """
    if before.outcome is KtapOutcome.PASS and after.outcome is not KtapOutcome.PASS:
        return f"{before.outcome} -> {after.outcome}: {after.reason}"
    if after.splats and not before.splats:
        return f"the kernel complains: {after.splats[0].strip()}"
    if len(before.checks) == len(after.checks):
        pairs = zip(before.checks, after.checks, strict=True)
        worse = [
            (number, now)
            for number, (earlier, now) in enumerate(pairs, start=1)
            if earlier.outcome is KtapOutcome.PASS and now.outcome is not KtapOutcome.PASS
        ]
        if worse:
            number, now = worse[0]
            more = f" (and {len(worse) - 1} more)" if len(worse) > 1 else ""
            return f"check {number}: PASS -> {now.outcome}: {now.name or now.reason}{more}"
        return ""
    passed_before, passed_now = (
        sum(check.outcome is KtapOutcome.PASS for check in result.checks) for result in (before, after)
    )
    return f"{passed_before} checks passed -> {passed_now} of {len(after.checks)}" if passed_now < passed_before else ""


def regressions(first: Column, second: Column) -> list[Regression]:
    """What the second kernel loses; a test that it was not asked for is lost too."""
    regressions_found = []
    for before in first.results:
        after = second.of(before.test)
        change = lost_passes(before, after) if after is not None else "it was not run"
        if change:
            regressions_found.append(Regression(before.test, change))
    return regressions_found


# --- what is printed --------------------------------------------------------------------------------------------------


def table(columns: Sequence[Column], regressions_found: Sequence[Regression]) -> str:
    """A line for each test; runs of one program that ended alike share a line, unless they are regressions."""
    marks = {regression.test: "REGRESSION" if regression.counts else "unsteady" for regression in regressions_found}
    groups: dict[tuple[object, ...], list[Selftest]] = {}
    for result in columns[0].results:
        test = result.test
        outcomes = tuple(of.outcome if (of := column.of(test)) else None for column in columns)
        alone = test.name if test in marks else ""
        groups.setdefault((test.suite, test.program, outcomes, alone), []).append(test)
    head = ["test", *(column.series for column in columns), *("seconds" for _ in columns), ""]
    rows = [head, *(_row(columns, tests, marks) for tests in groups.values())]
    times = range(1 + len(columns), 1 + 2 * len(columns))
    return "\n".join(tables.table(rows, right=times))


def _row(columns: Sequence[Column], tests: Sequence[Selftest], marks: Mapping[Selftest, str]) -> list[str]:
    first = tests[0]
    name = first.name if len(tests) == 1 else f"{first.suite}/{first.program} ({len(tests)} runs)"
    results = [[result for test in tests if (result := column.of(test))] for column in columns]
    outcomes = [str(runs[0].outcome) if runs else "-" for runs in results]
    seconds = [f"{sum(result.seconds for result in runs):.1f}" if runs else "-" for runs in results]
    reason = next((runs[0].reason for runs in reversed(results) if runs and runs[0].reason), "")
    remark = "  ".join(part for part in (marks.get(first, ""), _short(reason)) if part)
    return [name, *outcomes, *seconds, remark]


def _short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= WIDEST_REASON else f"{line[: WIDEST_REASON - 3]}..."


def counts(results: Iterable[SelftestResult]) -> str:
    """How many ended how, in words."""
    number = Counter(result.outcome for result in results)
    return ", ".join(f"{number[outcome]} {outcome}" for outcome in KtapOutcome if number[outcome])


# --- what is written --------------------------------------------------------------------------------------------------


def document(columns: Sequence[Column], regressions_found: Sequence[Regression]) -> dict[str, Any]:
    """All of it, for JSON; without what the tests wrote, which lies beside it in files."""
    return {
        "schema": SCHEMA,
        "kernels": [{"series": column.series, **column.kernel} for column in columns],
        "tests": [
            {
                "name": result.test.name,
                "deadline": result.test.deadline,
                "results": {column.series: _facts(of) for column in columns if (of := column.of(result.test))},
            }
            for result in columns[0].results
        ],
        "regressions": [
            {
                "test": regression.test.name,
                "what": regression.change,
                "repeats": regression.repeats,
                "unsteady": regression.unsteady,
                "counts": regression.counts,
            }
            for regression in regressions_found
        ],
    }


def _facts(result: SelftestResult) -> dict[str, Any]:
    return {
        "outcome": result.outcome.value,
        "reason": result.reason,
        "seconds": result.seconds,
        "checks": [asdict(check) for check in result.checks],
        "splats": list(result.splats),
    }
