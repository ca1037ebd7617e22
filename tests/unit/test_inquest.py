# SPDX-License-Identifier: GPL-2.0-or-later
"""Of whose fault it was that a probe came to no end: a machine that is dead, one that hangs, one that is well."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import ChannelError
from host_setup.channels.vitals import Vitals
from host_setup.hosts import inquest
from host_setup.hosts.inquest import harm_to

PANIC = "[   12.3] Kernel panic - not syncing: Fatal exception"


@dataclass
class FakeGuest:
    """A guest, and what its host says of it."""

    said: str = "all is well"
    beating: bool = True
    stopped: bool = False
    silent: Exception | None = None
    vitals: Vitals = field(default_factory=lambda: Vitals("guest protected"))
    beats: int = 0

    def console_tail(self) -> str:
        return self.said

    def count_beats(self) -> int:
        if self.silent:
            raise self.silent
        self.beats += self.beating
        return self.beats


def host(*guests: FakeGuest) -> Any:
    return SimpleNamespace(vitals=Vitals("the host"), all_guests=guests)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquest, "BEAT", 0.3)


def test_machines_that_are_well_came_to_no_harm() -> None:
    assert harm_to(host(FakeGuest(), FakeGuest()), thorough=True) == []


def test_host_that_died_of_itself_is_harmed_and_one_that_was_ended_is_not() -> None:
    died, ended = host(), host()
    died.vitals.note_loss("kernel died: Oops", harm=True)
    ended.vitals.note_loss("its QEMU ended with signal 9")
    assert harm_to(died, thorough=False) == ["the host: kernel died: Oops"]
    assert harm_to(ended, thorough=True) == []


def test_guest_that_panicked_is_harmed_and_its_last_words_are_told() -> None:
    guest = FakeGuest(said=f"before\n{PANIC}")
    guest.vitals.note_loss("its QEMU ended")
    (words,) = harm_to(host(guest), thorough=True)
    assert words == f"guest protected: kernel died: its QEMU ended\nbefore\n{PANIC}"


def test_guest_whose_qemu_was_to_end_is_not_and_one_whose_qemu_ended_by_itself_is() -> None:
    asked, itself = FakeGuest(), FakeGuest()
    asked.vitals.note_loss("its QEMU ended")
    itself.vitals.note_loss("its QEMU ended", harm=True)
    assert harm_to(host(asked), thorough=True) == []
    assert harm_to(host(itself), thorough=True) == ["guest protected: its QEMU ended\nall is well"]


@pytest.mark.parametrize("noticed", [True, False])
def test_guest_that_hangs_is_harmed_whether_it_was_noticed_or_not(noticed: bool) -> None:  # noqa: FBT001
    guest = FakeGuest(beating=False)
    if noticed:
        guest.vitals.note_loss("stalled: no heartbeat for 20 s", harm=True)
    (words,) = harm_to(host(FakeGuest(), guest), thorough=True)
    assert words.startswith("guest protected: stalled: no heartbeat")


def test_guest_that_we_stopped_does_not_hang() -> None:
    guest = FakeGuest(beating=False, stopped=True)
    guest.vitals.note_loss("stalled: no heartbeat for 20 s", harm=True)
    assert harm_to(host(guest), thorough=True) == []


@pytest.mark.parametrize("error", [ChannelError("the host does not answer"), ConnectionResetError("reset")])
def test_guest_is_not_blamed_for_a_host_that_does_not_answer(error: Exception) -> None:
    assert harm_to(host(FakeGuest(silent=error)), thorough=True) == []


def test_guests_are_asked_only_if_something_went_wrong() -> None:
    assert harm_to(host(FakeGuest(beating=False)), thorough=False) == []
