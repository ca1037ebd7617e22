# SPDX-License-Identifier: GPL-2.0-or-later
"""What is called regressed, fixed, flaky, slower: by rules that noise does not deceive."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from history.compare import Background, Change, Sitting, classify, compare, differing, is_slower, times_of
from history.database import History
from history.model import Run, read_report
from history.sittings import compare_runs
from signoff.verdict import Status
from tests.unit.history_samples import claim, claim_not_tried, document, run_id, write

PASS, SKIP, MISS, ERROR, FAIL = Status.PASS, Status.SKIP, Status.MISS, Status.ERROR, Status.FAIL
NOTHING: frozenset[Status] = frozenset()


@pytest.fixture
def make(tmp_path: Path) -> Any:
    number = 0

    def make_run(*claims: dict[str, Any], **changes: Any) -> Run:
        nonlocal number
        number += 1
        return read_report(write(tmp_path, document(run_id(number), list(claims), **changes)))

    return make_run


@pytest.mark.parametrize(
    ("before", "after", "also_before", "also_after", "change"),
    [
        (PASS, FAIL, NOTHING, NOTHING, Change.REGRESSED),
        (PASS, ERROR, NOTHING, NOTHING, Change.REGRESSED),
        (PASS, MISS, NOTHING, NOTHING, Change.REGRESSED),  # what is no proof any more
        (PASS, SKIP, NOTHING, NOTHING, Change.REGRESSED),
        (SKIP, FAIL, NOTHING, NOTHING, Change.REGRESSED),
        (ERROR, FAIL, NOTHING, NOTHING, Change.REGRESSED),
        (FAIL, PASS, NOTHING, NOTHING, Change.FIXED),
        (SKIP, PASS, NOTHING, NOTHING, Change.FIXED),
        (FAIL, ERROR, NOTHING, NOTHING, Change.UNCHANGED),  # nothing is known now: that is no cure
        (FAIL, SKIP, NOTHING, NOTHING, Change.UNCHANGED),
        (PASS, PASS, NOTHING, {PASS}, Change.UNCHANGED),
        (FAIL, FAIL, NOTHING, {FAIL}, Change.UNCHANGED),
        (PASS, FAIL, NOTHING, {FAIL, PASS}, Change.FLAKY),
        (PASS, FAIL, NOTHING, {FAIL, ERROR}, Change.REGRESSED),  # never as good as before
        (PASS, FAIL, {PASS, FAIL}, {FAIL}, Change.REGRESSED),  # it was flaky, and now always fails
        (FAIL, PASS, {PASS, FAIL}, {PASS}, Change.FLAKY),
        (PASS, PASS, NOTHING, {PASS, FAIL}, Change.FLAKY),
    ],
)
def test_a_change_of_status_has_one_name(
    before: Status, after: Status, also_before: frozenset[Status], also_after: frozenset[Status], change: Change
) -> None:
    assert classify(before, after, frozenset(also_before), frozenset({*also_after, after})) is change


def test_each_claim_is_named_by_what_became_of_it(make: Any) -> None:
    first = make(
        claim("stays"), claim("breaks"), claim("heals", FAIL), claim("leaves"), claim("waits"), claim_not_tried("idle")
    )
    second = make(
        claim("stays"),
        claim("breaks", FAIL),
        claim("heals"),
        claim("comes", FAIL),
        claim_not_tried("waits"),
        claim_not_tried("idle"),
        kernel="6.13",
    )
    result = compare([Sitting((first,))], Sitting((second,)), Background())
    assert {line.claim: line.change for line in result.lines} == {
        "stays": Change.UNCHANGED,
        "breaks": Change.REGRESSED,
        "heals": Change.FIXED,
        "comes": Change.NEW,
        "leaves": Change.GONE,
        "waits": Change.NOT_TRIED,
        "idle": Change.NOT_TRIED,
    }


def test_a_claim_is_compared_with_the_last_run_that_tried_it(make: Any) -> None:
    past = [
        Sitting((make(*claims),))
        for claims in ([claim("aa")], [claim("aa", FAIL)], [claim_not_tried("aa")], [claim_not_tried("aa")])
    ]
    line = compare(past, Sitting((make(claim("aa")),)), Background()).lines[0]
    assert line.change is Change.FIXED
    assert line.since is past[1].first


def test_a_status_that_changes_without_a_change_of_inputs_is_flaky(make: Any, tmp_path: Path) -> None:
    first, second = make(claim("aa"), claim("bb")), make(claim("aa", FAIL), claim("bb"))
    assert [line.change for line in compare_runs(None, first, second).lines] == [Change.FLAKY, Change.UNCHANGED]
    assert [line.change for line in compare_runs(None, second, first).lines] == [Change.FLAKY, Change.UNCHANGED]
    # And by what the history knows of such inputs.
    newer, again = make(claim("aa", FAIL), claim("bb"), kernel="6.13"), make(claim("aa"), claim("bb"), kernel="6.13")
    assert compare_runs(None, first, newer).lines[0].change is Change.REGRESSED
    with History(tmp_path / "h") as history:
        assert compare_runs(history, first, newer).lines[0].change is Change.REGRESSED
        history.add(again)
        assert compare_runs(history, first, newer).lines[0].change is Change.FLAKY
        assert compare_runs(history, newer, first).lines[0].change is Change.FLAKY


def test_runs_of_unknown_inputs_are_never_of_the_same(make: Any, tmp_path: Path) -> None:
    first, second = (make(claim("aa", status), kernel="x", tier=None) for status in (PASS, FAIL))
    with History(tmp_path / "h") as history:
        history.add(first)
        assert compare_runs(history, first, second).lines[0].change is Change.REGRESSED


@pytest.mark.parametrize(
    ("earlier", "took", "pace", "slower"),
    [
        ([10.0] * 3, 15.1, 1.0, True),
        ([10.0] * 3, 15.0, 1.0, False),  # not more than half again
        ([10.0] * 2, 20.0, 1.0, False),  # two say little
        ([10.0] * 2, 20.1, 1.0, True),
        ([1.0], 2.9, 1.0, False),  # less than two seconds more
        ([1.0], 3.1, 1.0, True),
        ([40.0] + [10.0] * 9, 16.0, 1.0, True),  # one slow night deceives nobody
        ([10.0] * 9 + [16.0], 16.0, 1.0, False),  # that was said last night
        ([10.0, 12.0, 8.0, 14.0, 6.0], 16.0, 1.0, False),  # within four deviations
        ([10.0, 12.0, 8.0, 14.0, 6.0], 22.0, 1.0, True),
        ([10.0], 25.0, 2.0, False),  # everything took twice as long
        ([10.0], 41.0, 2.0, True),
        ([], 100.0, 1.0, False),
    ],
)
def test_a_claim_is_slower_beyond_noise(earlier: list[float], took: float, pace: float, *, slower: bool) -> None:
    assert is_slower(earlier, took, pace) is slower


def test_noise_of_a_busy_machine_makes_no_claim_slower(make: Any) -> None:
    chance = random.Random(21)
    usual = {f"claim_{number}": chance.uniform(0.2, 60) for number in range(60)}

    def night(busy: float, **slow: float) -> Sitting:
        return Sitting((make(*(
            claim(name, seconds=took * busy * chance.uniform(0.85, 1.25) * slow.get(name, 1.0))
            for name, took in usual.items()
        )),))  # fmt: skip

    past = [night(chance.uniform(0.9, 1.4)) for _ in range(12)]
    times = times_of(past)
    quiet = compare(past, night(3.0), Background(times=times))
    assert not quiet.of(Change.SLOWER)
    assert 2.0 < quiet.pace < 4.0
    slow = next(name for name, took in usual.items() if took > 10)
    assert [
        line.claim for line in compare(past, night(1.1, **{slow: 2.6}), Background(times=times)).of(Change.SLOWER)
    ] == [slow]


def test_a_time_of_a_claim_that_failed_says_nothing(make: Any) -> None:
    result = compare_runs(None, make(claim("aa", FAIL, 1.0)), make(claim("aa", PASS, 90.0), kernel="6.13"))
    assert result.lines[0].change is Change.FIXED
    assert compare_runs(None, make(claim("aa", PASS, 1.0)), make(claim("aa", PASS, 90.0))).lines[0].seconds == (
        1.0,
        90.0,
    )


def test_times_of_another_tier_are_not_compared(make: Any) -> None:
    table, two = make(claim("aa", seconds=1.0)), make(claim("aa", seconds=90.0), tier="nested")
    assert compare_runs(None, table, two).lines[0].change is Change.UNCHANGED


def test_what_differs_in_the_inputs_is_named(make: Any) -> None:
    first = make(claim("aa"))
    second = make(
        claim("aa"), kernel="6.13", patches=(("0001-a.patch", "b"), ("0002-b.patch", "b")), series="other",
        host={"kernel's layers": "numa"},
    )  # fmt: skip
    names = [name for name, _, _ in differing(first, second)]
    assert names == [
        *("kernel", "kernel build ID", "kernel source", "series", "patches", "patch 0001-a.patch"),
        *("patch 0002-b.patch", "kernel image", "host: kernel's layers"),
    ]
    assert not differing(first, make(claim("aa")))


def test_another_commit_of_the_same_files_is_the_same_sealproof(make: Any) -> None:
    first, second = make(claim("aa")), make(claim("aa"))
    other = second.model_copy(update={"inputs": {**second.inputs, "sealproof": "d" * 40}})
    assert not differing(first, other)
    assert first.identity == other.identity
    changed = other.model_copy(update={"inputs": {**other.inputs, "sealproof's files": "e" * 64}})
    assert [name for name, _, _ in differing(first, changed)] == ["sealproof", "sealproof's files"]
