# SPDX-License-Identifier: GPL-2.0-or-later
"""How the end of a QEMU is told, with a tracer that sees what a test says."""

from __future__ import annotations

import signal
import struct
from typing import Any, NoReturn

import pytest

from common.errors import ChannelError, DeadlineError, MachineError
from host_setup.channels.puppets import Done
from host_setup.channels.vitals import Vitals
from tests_e2e.support import end_of_qemu as module
from tests_e2e.support.attack import Target
from tests_e2e.support.end_of_qemu import PTRACE_CONT, PTRACE_SEIZE, ask_until_it_ends

PAGE = Target(qemu=77, gpa=0x1000, hva=0x7F0000001000, hpa=0x5000)
ADRERR, MAPERR, SENT = 2, 1, -6  # si_code; the last is SI_TKILL
FAULT = Done(signal="SIGBUS", si_code="BUS_ADRERR", si_addr=PAGE.hva + 8)

Event = tuple[int, int, int, int]  # status of wait(2); signal, si_code and address of siginfo


def stop(signo: int, code: int = SENT, address: int = 0) -> Event:
    return signo << 8 | 0x7F, signo, code, address


def kill_event(signo: int) -> Event:
    return signo, 0, 0, 0


class FakeTracer:
    """A puppet that traces: it meets one event after the other, then none; the last ends its guest's QEMU."""

    def __init__(self, *events: Event) -> None:
        self.vitals = Vitals("a guest")
        self.passed_on: list[int] = []
        self.seized = 0
        self._events = list(events)
        self._memory: list[bytes] = []
        self._now: Event = (0, 0, 0, 0)

    def may_end(self) -> None:
        assert not self.seized, "it is said before"

    def memory(self, size: int) -> int:
        self._memory.append(bytes(size))
        return len(self._memory) - 1

    def read(self, address: int, _: int) -> bytes:
        return self._memory[address]

    def syscall(self, name: str, *args: int) -> Done:
        if name == "wait4":
            if not self._events:
                return Done(returned=0)
            self._now = self._events.pop(0)
            self._memory[args[1]] = struct.pack("<I", self._now[0])
            if self._now[0] & 0xFF != 0x7F:
                self.vitals.note_loss("its QEMU ended")
            return Done(returned=args[0])
        request, _, *rest = args
        if request == PTRACE_CONT:
            self.passed_on.append(rest[1])
        elif request == PTRACE_SEIZE:
            self.seized += 1
        else:
            _, signo, code, address = self._now
            self._memory[rest[1]] = struct.pack("<iiixxxxQ", signo, 0, code, address).ljust(128, b"\0")
        return Done(returned=0)


def ends() -> NoReturn:
    raise ChannelError("QMP: it is gone")


def ask(tracer: FakeTracer, question: Any) -> tuple[Done, Any]:
    return ask_until_it_ends(tracer, tracer, PAGE, question)  # it is its own guest


def test_qemu_that_answers_goes_on() -> None:
    tracer = FakeTracer()
    assert ask(tracer, lambda: b"said") == (Done(), b"said")
    assert tracer.seized == 1


def test_fault_is_told_by_the_first_signal_and_each_signal_is_passed_on() -> None:
    tracer = FakeTracer(
        stop(signal.SIGCHLD),
        stop(signal.SIGBUS, ADRERR, PAGE.hva + 8),
        stop(signal.SIGBUS),
        (128 << 16 | 5 << 8 | 0x7F, 0, 0, 0),
        kill_event(signal.SIGBUS),
    )
    assert ask(tracer, ends) == (FAULT, None)
    assert tracer.passed_on == [signal.SIGCHLD, signal.SIGBUS, signal.SIGBUS, 0]


def test_end_with_a_core_dump_is_the_same() -> None:
    tracer = FakeTracer(stop(signal.SIGBUS, ADRERR, PAGE.hva + 8), kill_event(signal.SIGBUS | 0x80))
    assert ask(tracer, ends) == (FAULT, None)


@pytest.mark.parametrize(
    "events",
    [
        (kill_event(signal.SIGKILL),),
        ((0, 0, 0, 0),),  # it exited
        (stop(signal.SIGBUS), kill_event(signal.SIGBUS)),  # somebody sent it
        (stop(signal.SIGBUS, ADRERR, PAGE.hva), kill_event(signal.SIGABRT)),
        (stop(signal.SIGBUS, ADRERR, PAGE.hva - 1), kill_event(signal.SIGBUS)),
        (stop(signal.SIGSEGV, MAPERR, PAGE.hva + 4096), kill_event(signal.SIGSEGV)),
    ],
)
def test_any_other_death_is_no_blocked_attack(events: tuple[Event, ...]) -> None:
    with pytest.raises(MachineError, match=r"QEMU (ended|died)"):
        ask(FakeTracer(*events), ends)


def test_question_that_fails_while_qemu_lives_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    with pytest.raises(DeadlineError, match=r"the question failed: .*it is gone"):
        ask(FakeTracer(), ends)
