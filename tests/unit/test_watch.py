# SPDX-License-Identifier: GPL-2.0-or-later
"""The watch over a row, on a host and a guest that are played."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from common.errors import ChannelError, DeadlineError, MachineLostError
from host_setup.channels.vitals import Vitals
from host_setup.hosts.exits import INTERNAL_ERROR, MMIO, Exits, KvmExit, parse
from signoff.observation import Check
from tests_e2e.support import watch as module
from tests_e2e.support.watch import Watch, look_and_watch

WELL = Exits(total=900, device=30, missed=0, noted=0, last=(), emulated=40, not_emulated=0)
STORE_TO_MEMORY = KvmExit(MMIO, is_write=True, gpa=0x3000, length=8)
RIGHT = Check("the value", "7", "7")


class PlayedGuest:
    def __init__(self) -> None:
        self.vitals = Vitals("guest plain")
        self.now = WELL
        self.said = "Linux version 6.12\n"
        self.beats = 0
        self.beats_on = True
        self.memory = self

    def exits(self) -> Exits:
        self.vitals.check()  # the program that tells them ends with the guest
        return self.now

    def note(self, *exits: KvmExit) -> None:
        self.now = replace(self.now, noted=self.now.noted + len(exits), last=(*self.now.last, *exits)[-16:])

    def console_since(self, offset: int) -> tuple[int, str]:
        return len(self.said), self.said[offset:]

    def console_tail(self) -> str:
        return self.said

    def count_beats(self) -> int:
        self.beats += self.beats_on
        return self.beats


class PlayedHost:
    def __init__(self) -> None:
        self.vitals = Vitals("the host")
        self.log = "Linux version 6.12\nWARNING: of long ago\n"

    def kernel_log(self) -> str:
        return self.log


@pytest.fixture
def host() -> Any:
    return PlayedHost()


@pytest.fixture
def guest() -> Any:
    return PlayedGuest()


def wrong_checks(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.got for check in checks if not check.right}


def test_row_without_an_incident_keeps_its_checks_and_gets_those_of_the_watch(host: Any, guest: Any) -> None:
    guest.note(STORE_TO_MEMORY)  # before the row, which is not to blame
    result = look_and_watch(host, guest, lambda _: [RIGHT])
    assert result[0] == RIGHT
    assert len(result) == 5
    assert not wrong_checks(result)


@pytest.mark.parametrize(
    ("exit_", "words"),
    [
        (STORE_TO_MEMORY, "KVM_EXIT_MMIO: store of 8 bytes at 0x3000, which is memory"),
        (KvmExit(INTERNAL_ERROR, suberror=1), "KVM_EXIT_INTERNAL_ERROR, suberror 1"),
        (KvmExit(8), "KVM_EXIT_SHUTDOWN"),
        (KvmExit(0, result=-14), "KVM_RUN failed: EFAULT"),
        (KvmExit(99), "KVM_EXIT_99"),
    ],
)
def test_exit_that_no_working_guest_makes_fails_the_row(host: Any, guest: Any, exit_: KvmExit, words: str) -> None:
    result = look_and_watch(host, guest, lambda watched: watched.note(exit_) or [RIGHT])
    assert wrong_checks(result) == {"exits that no working guest makes": words}


def test_more_of_them_than_are_kept_are_counted(host: Any, guest: Any) -> None:
    result = look_and_watch(host, guest, lambda watched: watched.note(*[STORE_TO_MEMORY] * 20) or [RIGHT])
    assert wrong_checks(result)["exits that no working guest makes"].startswith(
        "4 that are not recorded; KVM_EXIT_MMIO"
    )


@pytest.mark.parametrize("broken", [{"total": 0}, {"device": 0}, {"missed": 1}], ids=str)
def test_watch_that_does_not_count_is_no_proof(host: Any, guest: Any, broken: dict[str, int]) -> None:
    guest.now = replace(WELL, **broken)
    assert list(wrong_checks(look_and_watch(host, guest, lambda _: [RIGHT]))) == [
        "exits of the guest, some of them to devices"
    ]


def test_complaint_of_a_kernel_fails_the_row(host: Any, guest: Any) -> None:
    def look(watched: Any) -> list[Check]:
        host.log += "[    9.1] BUG: of the host\n"
        watched.said += "[    9.2] WARNING: of the guest\n"
        return [RIGHT]

    complaint = "[    9.2] WARNING: of the guest"
    assert wrong_checks(look_and_watch(host, guest, look)) == {
        "complaints of the host's kernel": "[    9.1] BUG: of the host",
        "complaints of the guest's kernel": f"{complaint}; its console ends with:\nLinux version 6.12\n{complaint}\n",
    }


def test_watch_from_a_guests_start_leaves_nothing_out(host: Any, guest: Any) -> None:
    guest.note(STORE_TO_MEMORY)
    guest.said = "BUG: while it booted"
    assert len(wrong_checks(Watch(host, guest, from_start=True).checks())) == 2


def failing(error: Exception) -> Any:
    def look(_: Any) -> list[Check]:
        raise error

    return look


def test_failure_of_which_the_watch_knows_nothing_is_none_of_the_guests(host: Any, guest: Any) -> None:
    with pytest.raises(ChannelError, match="status 1"):
        look_and_watch(host, guest, failing(ChannelError("ended with status 1")))


def test_guest_that_stalls_fails_the_row(host: Any, guest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)
    guest.beats_on = False
    (result,) = look_and_watch(host, guest, failing(DeadlineError("waited 30 s")))
    assert "stalled: no heartbeat" in result.got


def test_guest_that_ends_during_the_look_fails_the_row(host: Any, guest: Any) -> None:
    def look(watched: Any) -> list[Check]:
        watched.vitals.note_loss("its QEMU ended")
        raise ChannelError("broke")

    (listing,) = [check for check in look_and_watch(host, guest, look) if not check.right]
    assert (listing.name, listing.expected) == ("the guest lives", "true")
    assert listing.got == f"its QEMU ended; its console ends with:\n{guest.said}"


def test_guest_that_ends_right_after_the_look_fails_the_row(host: Any, guest: Any) -> None:
    def look(watched: Any) -> list[Check]:
        watched.vitals.note_loss("its QEMU ended")
        return [RIGHT]

    assert list(wrong_checks(look_and_watch(host, guest, look))) == ["the guest lives"]


def test_what_the_watch_saw_goes_before_what_ended_the_row(host: Any, guest: Any) -> None:
    def look(watched: Any) -> list[Check]:
        watched.note(STORE_TO_MEMORY)
        raise ChannelError("ended with status 1")

    assert list(wrong_checks(look_and_watch(host, guest, look))) == ["exits that no working guest makes"]


def test_host_that_died_of_the_row_fails_it_and_one_that_just_ended_does_not(host: Any, guest: Any) -> None:
    def look(_: Any) -> list[Check]:
        host.log += line
        host.vitals.note_loss("its QEMU ended")
        raise MachineLostError("the host is lost")

    line = "nothing special\n"
    with pytest.raises(MachineLostError):
        look_and_watch(host, guest, look)
    line = "Kernel panic - not syncing: no\n"
    assert wrong_checks(look_and_watch(host, guest, look)) == {"complaints of the host's kernel": line.strip()}


def test_program_tells_all_that_is_looked_at() -> None:
    last = {"reason": 6, "result": 0, "suberror": 0, "is_write": True, "gpa": 0x3000, "length": 8}
    content = {"exits": 900, "device": 30, "missed": 0, "noted": 1, "last": [last], "emulated": 40, "not_emulated": 0}
    assert parse(content) == replace(WELL, noted=1, last=(STORE_TO_MEMORY,))
