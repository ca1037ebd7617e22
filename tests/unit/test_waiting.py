# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import waiting
from common.errors import ChannelError, DeadlineError, MachineLostError
from common.waiting import BUSY, Deadline, poll_until, seconds_starved


def test_wait_returns_the_first_true_thing_that_the_probe_found() -> None:
    result: Iterator[object] = iter([None, 0, "", [], "here", "later"])
    assert poll_until(lambda: next(result), Deadline(60), "it", interval=0.001) == "here"


def test_wait_that_runs_out_names_time_and_aim_and_asks_once_what_went_on() -> None:
    questions: list[int] = []

    def explain() -> str:
        questions.append(1)
        return "the machine slept"

    with pytest.raises(DeadlineError) as caught:
        poll_until(lambda: None, Deadline(0.05), "the host to boot", explain=explain, interval=0.01)
    assert caught.value.message == "waited 0.05 s for the host to boot\nthe machine slept"
    assert questions == [1]


def test_wait_that_runs_out_says_why_the_last_try_failed() -> None:
    failures = iter([ChannelError("too early"), OSError("no route")])

    def probe() -> bool:
        raise next(failures, ChannelError("refused", hint="ask again"))

    with pytest.raises(DeadlineError) as caught:
        poll_until(probe, Deadline(0.2), "it", not_yet=(ChannelError, OSError), explain=lambda: "it slept")
    assert caught.value.message == "waited 0.2 s for it\nrefused\nit slept"
    assert isinstance(caught.value.__cause__, ChannelError)


def test_try_that_fails_otherwise_ends_the_wait_at_once() -> None:
    def probe() -> bool:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        poll_until(probe, Deadline(600), "it", not_yet=(ChannelError,))


def test_why_an_earlier_try_failed_is_not_said() -> None:
    tries = iter([ChannelError("too early")])

    def probe() -> None:
        for failure in tries:
            raise failure

    with pytest.raises(DeadlineError) as caught:
        poll_until(probe, Deadline(0.1), "it", not_yet=(ChannelError,))
    assert caught.value.message == "waited 0.1 s for it"


def test_wait_that_succeeds_asks_for_no_explanation() -> None:
    def explain() -> str:
        raise AssertionError("nothing is to be explained")

    assert poll_until(lambda: True, Deadline(0), "it", explain=explain)


def test_passed_deadline_still_looks_once() -> None:
    looks: list[int] = []
    with pytest.raises(DeadlineError):
        poll_until(lambda: looks.append(1), Deadline(0), "it")
    assert looks == [1]


def test_check_ends_a_pointless_wait_at_once_and_before_the_probe() -> None:
    def dead() -> None:
        raise MachineLostError("gone")

    begun = time.monotonic()
    with pytest.raises(MachineLostError):
        poll_until(lambda: pytest.fail("looked at a dead machine"), Deadline(600), "it", check=dead)
    assert time.monotonic() - begun < 60


def test_long_interval_does_not_outlast_the_deadline() -> None:
    begun = time.monotonic()
    with pytest.raises(DeadlineError):
        poll_until(lambda: None, Deadline(0.05), "it", interval=600)
    assert time.monotonic() - begun < 60


def test_one_deadline_bounds_several_waits() -> None:
    deadline = Deadline(0.05)
    with pytest.raises(DeadlineError):
        poll_until(lambda: None, deadline, "the first")
    assert deadline.is_over()
    assert deadline.seconds_left() == 0.0
    assert Deadline(60).seconds_left() > 0


def test_time_that_does_not_count_comes_on_top() -> None:
    lost = 0.0
    deadline = Deadline(10, uncounted=lambda: lost)
    assert 9 < deadline.seconds_left() <= 10
    lost = 100.0
    assert 109 < deadline.seconds_left() <= 110


def test_only_what_is_lost_from_now_on_comes_on_top() -> None:
    assert Deadline(0.0, uncounted=lambda: 100.0).is_over()


def test_time_without_a_processor_comes_on_top_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = 7.0
    now = 1000.0
    monkeypatch.setattr(waiting, "seconds_starved", lambda: lost)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    deadline = Deadline(10)
    assert not deadline.due()
    now += 11
    assert deadline.is_over()
    lost += 3
    assert deadline.seconds_left() == 2
    assert deadline.due()
    lost += 1000
    assert deadline.seconds_left() == BUSY * 10 - 11
    assert str(deadline) == "10 s, and 30 s more on a busy computer,"
    now += BUSY * 10 - 11
    assert deadline.is_over()


def test_the_kernel_says_for_how_long_a_task_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = tmp_path / "cpu"
    counted.write_text("some avg10=0.10 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=9\n")
    monkeypatch.setattr(waiting, "_PRESSURE", counted)
    assert seconds_starved() == 2.5
    counted.write_text("")
    assert seconds_starved() == 0
    counted.unlink()
    assert seconds_starved() == 0
