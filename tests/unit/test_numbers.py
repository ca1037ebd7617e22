# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers from options: what a command cannot work with is a wrong option, in one line."""

from __future__ import annotations

import argparse

import pytest

from common.numbers import minutes, minutes_from_0, whole_number
from history.__main__ import command_parsers
from host_setup.mutate.__main__ import options_parser as of_mutate
from host_setup.search.__main__ import options_parser as of_search
from host_setup.tools.bench import options_parser as of_bench
from host_setup.tools.soak import options_parser as of_soak
from host_setup.tools.stress import options_parser as of_stress

NO_NUMBERS = ("", "-1", "1.5", "nan", "inf", "1e400", "9" * 30, "x", "\udcff")
NO_TIMES = ("", "0", "-1", "nan", "inf", "-inf", "1e400", "9" * 30, "x", "\udcff")


def test_a_whole_number_is_within_its_bounds() -> None:
    read = whole_number(2, 10)
    assert [read(text) for text in ("2", "10", " 7 ")] == [2, 10, 7]
    for text in (*NO_NUMBERS, "1", "11"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 2 to 10"):
            read(text)


def test_minutes_are_a_time_that_passes() -> None:
    assert [minutes(text) for text in ("0.001", "240")] == [0.001, 240]
    for text in NO_TIMES:
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number of minutes above 0"):
            minutes(text)


def test_minutes_from_0_may_be_none() -> None:
    assert [minutes_from_0(text) for text in ("0", "240")] == [0, 240]
    for text in set(NO_TIMES) - {"0"}:
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number of minutes from 0 on"):
            minutes_from_0(text)


@pytest.mark.parametrize(
    ("parser", "words", "wrong"),
    [
        (command_parsers()["nightly"], "matrix.toml --minutes", NO_TIMES),
        (of_search(), "--minutes", NO_TIMES),
        (of_mutate(), "--minutes", tuple(text for text in NO_TIMES if text != "0")),
        (of_mutate(), "--sample", (*NO_NUMBERS, "0")),
        (of_mutate(), "--failures", (*NO_NUMBERS, "0")),
        (of_soak(), "--boots", NO_NUMBERS),
        (of_soak(), "--restores", NO_NUMBERS),
        (of_soak(), "--reboots", NO_NUMBERS),
        (of_stress(), "--rounds", (*NO_NUMBERS, "0")),
        (of_stress(), "--shares", (*NO_NUMBERS, "1")),
        (of_bench(), "--populate", (*NO_NUMBERS, "0")),
        (of_bench(), "--shares", (*NO_NUMBERS, "0")),
        (of_bench(), "--stretch", (*NO_NUMBERS, "0")),
    ],
)
def test_each_command_refuses_what_it_cannot_work_with(
    parser: argparse.ArgumentParser, words: str, wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in wrong:
        with pytest.raises(SystemExit) as caught:
            parser.parse_args(f"{words}={text}".split(" "))
        assert caught.value.code == 2
        assert "is not a" in capsys.readouterr().err
