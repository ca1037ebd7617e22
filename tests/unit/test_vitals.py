# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from common.errors import MachineLostError
from host_setup.channels import vitals as module
from host_setup.channels.vitals import Vitals


def test_living_machine_passes_the_check() -> None:
    vitals = Vitals("the host")
    vitals.check()
    assert vitals.reason is None


def test_first_reason_counts_and_ends_each_call_once() -> None:
    vitals = Vitals("the host")
    calls: list[Any] = []
    for name in ("one", "two"):
        vitals.on_loss(partial(lambda name: calls.append((name, vitals.reason)), name))
    vitals.note_loss("kernel panic")
    vitals.note_loss("its QEMU ended")
    assert calls == [("one", "kernel panic"), ("two", "kernel panic")]
    with pytest.raises(MachineLostError, match="the host is lost: kernel panic"):
        vitals.check()


def test_a_wait_is_longer_by_what_does_not_count() -> None:
    vitals, lost = Vitals("the host"), 0.0
    vitals.uncounted = lambda: lost
    deadline = vitals.deadline(0.0)
    assert deadline.is_over()
    lost = 1000.0
    assert 900 < deadline.seconds_left() <= 1000


def test_late_registration_is_called_at_once() -> None:
    vitals = Vitals("the host")
    calls: list[Any] = []
    vitals.note_loss("panic")
    forget = vitals.on_loss(lambda: calls.append(1))
    assert calls == [1]
    forget()


def test_forgotten_registration_is_not_called() -> None:
    vitals = Vitals("the host")
    calls: list[Any] = []
    forget = vitals.on_loss(lambda: calls.append("forgotten"))
    vitals.on_loss(lambda: calls.append("kept"))
    forget()
    forget()
    vitals.note_loss("panic")
    assert calls == ["kept"]


def test_one_registration_of_two_alike_is_taken_back() -> None:
    vitals = Vitals("the host")
    calls: list[Any] = []

    def end() -> None:
        calls.append(1)

    vitals.on_loss(end)
    vitals.on_loss(end)()
    vitals.note_loss("panic")
    assert calls == [1]


def test_a_call_may_forget_itself_and_register_anew_while_it_is_ended() -> None:
    vitals = Vitals("the host")
    calls: list[Any] = []

    def end() -> None:
        forget()
        vitals.on_loss(lambda: calls.append(1))

    forget = vitals.on_loss(end)
    vitals.note_loss("panic")
    assert calls == [1]


def test_loss_of_a_host_is_the_loss_of_its_guest() -> None:
    host, guest = Vitals("the host"), Vitals("the guest")
    host.on_loss(lambda: guest.note_loss(f"its host is lost: {host.reason}"))
    host.note_loss("panic")
    assert guest.reason == "its host is lost: panic"


def test_broken_channel_waits_a_moment_for_the_news(monkeypatch: pytest.MonkeyPatch) -> None:
    vitals = Vitals("the host")
    monkeypatch.setattr(module, "SETTLE", 0.01)
    vitals.check_broken()
    monkeypatch.setattr(module, "SETTLE", 600.0)
    threading.Timer(0.05, lambda: vitals.note_loss("panic")).start()
    with pytest.raises(MachineLostError):
        vitals.check_broken()
    with pytest.raises(MachineLostError):
        vitals.check_broken()


def test_of_many_watchers_one_reason_wins_and_no_call_is_ended_twice_or_never() -> None:
    for _ in range(20):
        vitals, calls, start = Vitals("the host"), [], threading.Barrier(8)
        vitals.on_loss(lambda: calls.append("early"))  # noqa: B023

        def watch(number: int) -> None:
            start.wait()  # noqa: B023
            if number % 2:
                vitals.note_loss(str(number))  # noqa: B023
            else:
                vitals.on_loss(lambda: calls.append(str(number)))  # noqa: B023

        threads = [threading.Thread(target=watch, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(calls) == ["0", "2", "4", "6", "early"]
        assert vitals.reason in ("1", "3", "5", "7")
