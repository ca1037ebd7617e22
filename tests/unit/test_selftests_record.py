# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import UserInputError
from host_setup.selftests import record
from host_setup.selftests.ktap import KtapCheck, KtapOutcome
from host_setup.selftests.run import SelftestResult
from host_setup.selftests.suites import Selftest
from tests_e2e.support.selftests import as_on_stock, output_of

COW, PINS, CLOCK = Selftest("mm", "cow"), Selftest("mm", "gup_test", ("-u",)), Selftest("kvm", "kvm_clock_test")
PASSED, SKIPPED = KtapCheck(KtapOutcome.PASS, "one"), KtapCheck(KtapOutcome.SKIP, "two", "no swap")


def result(
    test: Selftest, outcome: KtapOutcome = KtapOutcome.PASS, *checks: KtapCheck, reason: str = ""
) -> SelftestResult:
    return SelftestResult(test, outcome, reason, 1.5, checks, output="what it wrote")


def test_what_passed_is_written_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "passes"
    ran = [
        result(COW, KtapOutcome.PASS, PASSED, SKIPPED, PASSED),
        result(PINS),
        result(CLOCK, KtapOutcome.FAIL, PASSED),
    ]
    record.write(ran, ["Linux 6.12.1, series stock"], file)
    assert "# Linux 6.12.1, series stock" in file.read_text().splitlines()
    assert record.read(file) == {"mm/cow": 2, "mm/gup_test -u": 0}


@pytest.mark.parametrize("line", ["mm/cow", "two mm/cow", "2 "])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "passes").write_text(f"# head\n1 mm/cow\n{line}\n")
    with pytest.raises(UserInputError, match=r"passes:3: not a number of checks"):
        record.read(tmp_path / "passes")


def test_no_record_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="--record"):
        record.read(tmp_path / "passes")


def test_only_what_is_recorded_is_wanted_and_all_of_it() -> None:
    assert record.tests_to_pass([COW, PINS, CLOCK], {CLOCK.name: 0, COW.name: 2}) == [COW, CLOCK]
    with pytest.raises(UserInputError, match="no selftest mm/gone"):
        record.tests_to_pass([COW], {COW.name: 2, "mm/gone": 1})


def test_the_record_of_this_source_is_one_of_many_tests() -> None:
    recorded = record.read()
    assert {name.partition("/")[0] for name in recorded} == {"mm", "kvm"}


@pytest.mark.parametrize(
    ("ran", "right"),
    [
        (result(COW, KtapOutcome.PASS, PASSED, PASSED), [True, True]),
        (result(COW, KtapOutcome.PASS, PASSED, PASSED, PASSED), [True, True]),
        (result(COW, KtapOutcome.PASS, PASSED, SKIPPED), [True, False]),
        (result(COW, KtapOutcome.SKIP, reason="no swap"), [False, False]),
        (result(COW, KtapOutcome.LOST, reason="the host died"), [False, False]),
    ],
)
def test_a_test_must_pass_and_as_many_of_its_checks(ran: Any, right: Any) -> None:
    checks = as_on_stock([ran], {COW.name: 2})
    assert [check.right for check in checks] == right


def test_a_test_without_checks_is_one_row_and_says_why_it_failed() -> None:
    (row,) = as_on_stock([result(CLOCK, KtapOutcome.TIMEOUT, reason="not done after 120 s")], {CLOCK.name: 0})
    assert (row.name, row.got) == ("kvm/kvm_clock_test", "TIMEOUT: not done after 120 s")


def test_all_that_the_tests_wrote_is_kept() -> None:
    assert "=== kvm/kvm_clock_test: PASS after 1.5 s" in output_of([result(CLOCK)])
    assert "what it wrote" in output_of([result(CLOCK)])
