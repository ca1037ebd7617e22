# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as a regression between two kernels, how both are shown, and the status that follows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from host_setup.kernel.layers import Layer
from host_setup.selftests import __main__ as command
from host_setup.selftests import compare
from host_setup.selftests.compare import Column, Regression, lost_passes, regressions
from host_setup.selftests.ktap import KtapCheck, KtapOutcome
from host_setup.selftests.run import SelftestResult
from host_setup.selftests.suites import Selftest

PASS, SKIP, FAIL, TIMEOUT, LOST = KtapOutcome


def result(
    outcome: KtapOutcome = PASS,
    *,
    test: Selftest | None = None,
    checks: str = "",
    reason: str = "",
    splats: Sequence[str] = (),
    seconds: float = 1.0,
) -> SelftestResult:
    """``checks``: a letter each, p, s or f."""
    kinds = {"p": PASS, "s": SKIP, "f": FAIL}
    all_checks = tuple(KtapCheck(kinds[letter], f"check {letter}") for letter in checks)
    return SelftestResult(test or Selftest("kvm", "t"), outcome, reason, seconds, all_checks, tuple(splats))


@pytest.mark.parametrize("outcome", [SKIP, FAIL, TIMEOUT, LOST])
def test_a_pass_that_is_anything_else_on_the_second_kernel_is_lost(outcome: KtapOutcome) -> None:
    assert lost_passes(result(), result(outcome, reason="why")) == f"PASS -> {outcome}: why"


@pytest.mark.parametrize("before", list(KtapOutcome))
def test_what_did_not_pass_before_cannot_be_lost(before: KtapOutcome) -> None:
    for after in KtapOutcome:
        assert bool(lost_passes(result(before), result(after))) is (before is PASS and after is not PASS)


def test_a_check_is_lost_also_where_the_test_fails_on_both() -> None:
    assert lost_passes(result(FAIL, checks="ppf"), result(FAIL, checks="pff")) == "check 2: PASS -> FAIL: check f"
    assert lost_passes(result(FAIL, checks="ppf"), result(FAIL, checks="sff")).startswith("check 1: PASS -> SKIP")
    assert lost_passes(result(FAIL, checks="ppf"), result(FAIL, checks="sff")).endswith("(and 1 more)")
    assert lost_passes(result(FAIL, checks="pff"), result(FAIL, checks="ppp")) == ""
    assert lost_passes(result(checks="pps"), result(checks="ppp")) == ""


def test_checks_that_are_not_made_are_lost_if_fewer_pass() -> None:
    assert lost_passes(result(FAIL, checks="ppf"), result(FAIL, checks="p")) == "2 checks passed -> 1 of 1"
    assert lost_passes(result(checks="pp"), result(checks="ppp")) == ""


def test_a_kernel_that_complains_only_now_is_a_loss_though_the_test_failed_before() -> None:
    assert "BUG" in lost_passes(result(FAIL), result(FAIL, splats=["[ 1.0] BUG: x"]))
    assert lost_passes(result(FAIL, splats=["WARNING: y"]), result(FAIL, splats=["BUG: x"])) == ""


ONE, TWO = Selftest("kvm", "one"), Selftest("kvm", "two")


def column(name: str, *results: SelftestResult) -> Column:
    return Column(name, {"release": "6.12.117"}, results)


def test_a_test_that_was_not_run_on_the_second_kernel_is_a_regression() -> None:
    first = column("stock", result(test=ONE), result(FAIL, test=TWO))
    assert regressions(first, column("mine", result(test=ONE), result(FAIL, test=TWO))) == []
    assert regressions(first, column("mine", result(test=ONE))) == [Regression(TWO, "it was not run")]


def test_the_table_folds_equal_runs_of_a_program_and_marks_regressions() -> None:
    gup = [Selftest("mm", "gup_test", ("-n", str(number))) for number in range(4)]
    first = column("stock", *(result(test=test, seconds=0.5) for test in gup), result(SKIP, test=ONE, reason="no VMX"))
    second = column(
        "mine",
        *(result(test=test, seconds=0.25) for test in gup[:2]),
        result(FAIL, test=gup[2], reason="status 1: EFAULT"),
        result(FAIL, test=gup[3], reason="status 1: other"),
        result(SKIP, test=ONE, reason="no VMX"),
    )
    listing = [Regression(gup[2], "x", repeats=3), Regression(gup[3], "x", repeats=3, unsteady=1)]
    assert compare.table([first, second], listing).splitlines() == [
        "test                  stock  mine  seconds  seconds",
        "mm/gup_test (2 runs)  PASS   PASS      1.0      0.5",
        "mm/gup_test -n 2      PASS   FAIL      0.5      1.0  REGRESSION  status 1: EFAULT",
        "mm/gup_test -n 3      PASS   FAIL      0.5      1.0  unsteady  status 1: other",
        "kvm/one               SKIP   SKIP      1.0      1.0  no VMX",
    ]
    assert compare.counts(first.results) == "4 PASS, 1 SKIP"


def test_a_table_of_one_kernel_and_a_test_that_is_missing() -> None:
    lines = compare.table([column("stock", result(test=ONE)), column("mine")], []).splitlines()
    assert lines[1].split() == ["kvm/one", "PASS", "-", "1.0", "-"]
    assert compare.table([column("stock", result(LOST, test=ONE))], []).splitlines()[1].split()[1] == "LOST"


def test_the_document_is_json_and_holds_both_kernels() -> None:
    columns = [column("stock", result(test=ONE, checks="ps")), column("mine", result(FAIL, test=ONE, reason="why"))]
    document = json.loads(json.dumps(compare.document(columns, [Regression(ONE, "PASS -> FAIL: why", 3, 0)])))
    assert [kernel["series"] for kernel in document["kernels"]] == ["stock", "mine"]
    (test,) = document["tests"]
    assert test["results"]["mine"]["outcome"] == "FAIL"
    assert [check["outcome"] for check in test["results"]["stock"]["checks"]] == ["PASS", "SKIP"]
    assert document["regressions"] == [
        {"test": "kvm/one", "what": "PASS -> FAIL: why", "repeats": 3, "unsteady": 0, "counts": True}
    ]


# --- the command


def test_the_exit_status_is_1_only_for_what_the_first_kernel_passes_every_time() -> None:
    stock, mine = column("stock", result(test=ONE)), column("mine", result(FAIL, test=ONE))
    assert command.verdict([stock], [])[0] == 0
    assert command.verdict([stock, mine], [])[0] == 0
    assert command.verdict([stock, mine], [Regression(ONE, "x", 3, 1)])[0] == 0
    assert command.verdict([stock, mine], [Regression(ONE, "x", 3, 1), Regression(TWO, "x", 3, 0)])[0] == 1


def test_a_comparison_in_which_nothing_passes_proves_nothing() -> None:
    stock, mine = column("stock", result(SKIP, test=ONE)), column("mine", result(SKIP, test=ONE))
    assert command.verdict([stock, mine], []) == (2, "no test passes on stock, so the comparison proves nothing")


def test_a_regression_is_repeated_on_the_first_kernel() -> None:
    class Bench:
        def run(self, tests: Sequence[Selftest], terminal: object, purpose: object) -> tuple[SelftestResult, ...]:  # noqa: ARG002
            rounds.append([test.name for test in tests])
            return (result(test=ONE, checks="pp"), result(test=ONE, checks="pf"), result(test=ONE, checks="pp"))

    rounds: list[list[str]] = []
    stock = column("stock", result(test=ONE, checks="pp"))
    (regression,) = command.confirm([Regression(ONE, "check 2: ...")], stock, Bench(), None)
    assert rounds == [["kvm/one"] * 3]
    assert (regression.repeats, regression.unsteady, regression.counts) == (3, 1, False)


def test_where_much_regressed_nothing_is_repeated() -> None:
    many = [Regression(Selftest("kvm", str(number)), "x") for number in range(command.MOST_REPEATED + 1)]
    assert command.confirm(many, column("stock"), None, None) == many


def test_layers_and_deadlines_are_read_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command.options_parser()
    assert parser.parse_args([]).layers == (Layer.SELFTESTS,)
    assert parser.parse_args(["--layers", "none"]).layers == ()
    assert parser.parse_args(["--layers", "selftests,debug"]).layers == (Layer.DEBUG, Layer.SELFTESTS)
    assert parser.parse_args(["--deadline", "7"]).deadline == 7.0
    for wrong in (["--layers", "dbug"], ["--deadline", "0"], ["--deadline", "soon"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
    assert "selftests" in capsys.readouterr().err


@pytest.mark.parametrize("series", [["stock", "stock"], ["stock", "stock", "stock"]])
def test_a_kernel_is_not_compared_with_itself(series: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([word for name in series for word in ("--series", name)])
    assert "two different ones" in capsys.readouterr().err
