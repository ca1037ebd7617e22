# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table of protection's cost makes of the numbers; nothing here is timed."""

from __future__ import annotations

from typing import Any

import pytest

from host_setup.tools.bench import options_parser
from host_setup.tools.bench_protection import Measurements, Size, lines_of, numbers, table, words

SIZE = Size(populate=128, shares=10_000, stretch=1024)


def answers(**other: Any) -> dict[str, dict[str, float]]:
    return {
        "interrupts": {"touch_tlb": 0.0, "touch_calls": 2000.0, "unshare_tlb": 1.0, "unshare_calls": 4000.0},
        "plain": {"seconds": 2.0},
        "huge": {"seconds": 0.5},
        "private": {"seconds": 3.0},
        "rounds": {"microseconds": 900.0},
        "stretch": {"share": 40.0, "unshare": 700.0, "idle": 12.0, "seconds": 9.0},
        **other,
    }


def measure(series: str, *rounds: dict[str, float]) -> Measurements:
    measurements = Measurements(series)
    for numbers_of_round in rounds:
        measurements.add(numbers_of_round)
    return measurements


def outcomes(today: Measurements, ours: Measurements) -> list[str]:
    return [line.rpartition(": ")[2] for line in table(lines_of(SIZE), today, ours).splitlines() if "at most" in line]


def test_vcpus_run_on_all_cpus_but_the_first() -> None:
    arguments = words(3, SIZE)
    assert arguments["interrupts"] == ["interrupts", "2000", "2"]
    assert arguments["private"] == ["populate", "private", "128", "1", "2", "1", "2"]
    assert arguments["rounds"] == ["rounds", "10000", "2"]
    assert arguments["stretch"] == ["stretch", "1024", "2"]


def test_a_round_is_a_number_for_each_row_of_the_table() -> None:
    result = numbers(answers())
    assert {line.name for line in lines_of(SIZE)} <= set(result)
    assert result["populate"] == pytest.approx(1.5)
    assert result["populate_to_huge"] == pytest.approx(6.0)
    assert result["stretch"] == 700.0
    assert numbers(answers(stretch={"share": 41.0, "unshare": 1.0, "idle": 1.0, "seconds": 1.0}))["stretch"] == 41.0


def test_medians_stand_side_by_side_with_their_ratio() -> None:
    today = measure("landed", *({"share_round": number} for number in (900.0, 100.0, 1000.0)))
    ours = measure("new", *({"share_round": number} for number in (1.0, 90.0, 9000.0)))
    row = next(line for line in table(lines_of(SIZE), today, ours).splitlines() if "SHARE and UNSHARE" in line)
    assert row.split("a round")[1].split() == ["900.0", "90.0", "0.100", "at", "most", "1/4:", "met"]


@pytest.mark.parametrize(("factor", "outcome"), [(0.9, "met"), (1.1, "missed")])
def test_each_goal_is_met_or_missed_by_a_little(factor: float, outcome: str) -> None:
    today = measure("landed", numbers(answers()))
    goal = {"touch_calls": 40.0, "unshare_calls": 80.0, "populate": 1.25, "share_round": 225.0, "stretch": 35.0}
    assert outcomes(today, measure("new", {name: number * factor for name, number in goal.items()})) == [outcome] * 5


def test_what_the_emulation_hides_is_not_decided() -> None:
    today = measure("landed", numbers(answers()))
    for result, outcome in ((34.0, "met"), (36.0, "not decided, 35.0 is less than the noise")):
        assert outcomes(today, measure("new", {"stretch": result, "stretch_idle": 36.0}))[-1] == outcome
    assert outcomes(today, measure("new", {"stretch": 36.0, "stretch_idle": 34.0}))[-1] == "missed"


def test_a_goal_beside_nothing_is_not_decided() -> None:
    nothing = measure("landed", {"touch_calls": 0.0})
    assert outcomes(nothing, nothing)[0] == "not decided, today there is none"


def test_without_numbers_no_goal_is_met() -> None:
    assert outcomes(Measurements("landed"), Measurements("new")) == ["not measured"] * 5
    assert outcomes(measure("landed", numbers(answers())), Measurements("new")) == ["not measured"] * 5


def test_a_number_of_nothing_has_no_ratio() -> None:
    nothing = measure("landed", {"touch_tlb": 0.0})
    row = next(line for line in table(lines_of(SIZE), nothing, nothing).splitlines() if "line TLB" in line)
    assert row.split("TLB")[1].split() == ["0.000", "0.000", "-"]


def test_the_bench_takes_two_series() -> None:
    options = options_parser().parse_args(["--protection", "--series", "new", "--against", "landed"])
    assert (options.protection, options.series, options.against) == (True, "new", "landed")
    assert (options.populate, options.shares, options.stretch, options.json) == (128, 10_000, 1024, None)
    assert not options_parser().parse_args([]).protection
