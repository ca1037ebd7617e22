# SPDX-License-Identifier: GPL-2.0-or-later
"""Of whose fault it was that a probe came to no end: a machine that is dead, one that hangs, one that is well."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import pytest

from common.errors import ChannelError
from host_setup.channels.puppets import Done
from host_setup.channels.vitals import Vitals
from host_setup.hosts import inquest
from host_setup.hosts.inquest import harm_to

PANIC = "[   12.3] Kernel panic - not syncing: Fatal exception"
STALL = """[   52.488125] rcu: INFO: rcu_sched self-detected stall on CPU
[   52.490878] Call Trace:
[   52.490926]  <TASK>
[   52.490980]  paging64_walk_addr_generic+0x470/0x50e
[   52.491440]  </TASK>"""
HANGS = "the host: hangs: RCU stall in paging64_walk_addr_generic"


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


def host(*guests: FakeGuest, log: str = "") -> Any:
    return FakeHost(guests, log)


@dataclass
class FakeHost:
    """A host whose session was closed by a call that came late: it takes a new one."""

    all_guests: tuple[FakeGuest, ...]
    log: str
    vitals: Vitals = field(default_factory=lambda: Vitals("the host"))

    def kernel_log(self) -> str:
        return self.log

    @property
    def ssh(self) -> Any:
        raise ChannelError("the SSH session with the host is closed")

    def log_in(self, _: float) -> Any:
        return SimpleNamespace(close=lambda: None)


class FakePuppeteer:
    """Of a host on which a system call ends, or does not."""

    waits: ClassVar[Exception | None] = None
    is_refused: ClassVar[bool] = False

    def __init__(self, *_: object) -> None: ...

    def spawn(self) -> Self:
        return self

    def syscall(self, *_: object, **__: object) -> Done:
        if self.waits:
            raise self.waits
        return Done.of_result(-errno.EINVAL if self.is_refused else 0)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquest, "BEAT", 0.3)


def test_machines_that_are_well_came_to_no_harm() -> None:
    assert harm_to(host(FakeGuest(), FakeGuest()), thorough=True) == []


def test_host_that_died_of_itself_is_harmed_and_one_that_was_ended_is_not() -> None:
    died, stopped = host(), host()
    died.vitals.note_loss("kernel died: Oops", harm=True)
    stopped.vitals.note_loss("its QEMU ended with signal 9")
    assert harm_to(died, thorough=False) == ["the host: kernel died: Oops"]
    assert harm_to(stopped, thorough=True) == []


@pytest.mark.parametrize(("log", "waits", "is_lost"), [
    (STALL, ChannelError("stuck"), True),
    (STALL, None, False),  # it was only slow
    ("", ChannelError("stuck"), False),
])  # fmt: skip
def test_host_is_harmed_that_says_where_it_hangs_and_still_does(
    monkeypatch: pytest.MonkeyPatch,
    log: str,
    waits: Exception | None,
    is_lost: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(inquest, "Puppeteer", FakePuppeteer)
    monkeypatch.setattr(FakePuppeteer, "waits", waits)
    hanging = host(FakeGuest(), log=log)
    harm = harm_to(hanging, thorough=True)
    assert [words[: len(HANGS)] for words in harm] == [HANGS] * is_lost
    assert hanging.vitals.harm == is_lost
    assert harm_to(host(log=log), thorough=False) == []


def test_a_host_that_cannot_be_asked_whether_it_hangs_is_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquest, "Puppeteer", FakePuppeteer)
    monkeypatch.setattr(FakePuppeteer, "is_refused", True)
    silent = host(FakeGuest(), log=STALL)
    with pytest.raises(ChannelError, match="membarrier: EINVAL"):
        harm_to(silent, thorough=True)
    assert not silent.vitals.harm


def test_guest_that_panicked_is_harmed_and_its_last_words_are_told() -> None:
    guest = FakeGuest(said=f"before\n{PANIC}")
    guest.vitals.note_loss("its QEMU ended")
    (words,) = harm_to(host(guest), thorough=True)
    assert words == f"guest protected: kernel died: its QEMU ended\nbefore\n{PANIC}"


def test_guest_whose_qemu_was_to_end_is_not_and_one_whose_qemu_ended_by_itself_is() -> None:
    by_request, itself = FakeGuest(), FakeGuest()
    by_request.vitals.note_loss("its QEMU ended")
    itself.vitals.note_loss("its QEMU ended", harm=True)
    assert harm_to(host(by_request), thorough=True) == []
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
