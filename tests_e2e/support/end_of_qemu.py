# SPDX-License-Identifier: GPL-2.0-or-later
"""How a QEMU of the host ends: by which signal, and by which fault that came about.

A process of the host traces QEMU's main thread, which serves the monitors and the gdb stub, and passes on every signal
that it sees. QEMU has a handler for SIGBUS (10.0: system/cpus.c sigbus_handler()), which ends it by the same signal,
sent by itself: so the fault is told by the first signal, and the end by the exit status.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from common.errors import MachineError, SealproofError
from common.threads import workers
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import PTRACE_SEIZE, WAIT_ALL, Done, Puppet
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Target

TIMEOUT = 20.0  # for what QEMU is asked to do, or for its end
PTRACE_CONT, PTRACE_GETSIGINFO, PTRACE_EVENT_STOP = 7, 0x4202, 128  # linux/ptrace.h
SIGINFO = struct.Struct("<iiixxxxQ")  # si_signo, si_errno, si_code; of a fault: si_addr
SIGINFO_BYTES = 128
FAULTS = {
    (signal.SIGBUS, 2): "BUS_ADRERR",
    (signal.SIGSEGV, 1): "SEGV_MAPERR",
    (signal.SIGSEGV, 2): "SEGV_ACCERR",
}

T = TypeVar("T")


def ask_until_it_ends(
    tracer: Puppet, guest: Guest, page: Target, ask: Callable[[], T], *, anywhere: bool = False
) -> tuple[Done, T | None]:
    """Ask a guest's QEMU for something that may cost its life.

    :param tracer: a process of ours, which goes on tracing until it is ended. :param ask: may fail if QEMU ends.
    :param anywhere: it may die at another page than this one.
    :returns: how QEMU ended, nothing if it goes on, and then its answer.
    :raises MachineError: it died, and not of a fault at the page. :raises DeadlineError: neither answer nor end.
    """
    guest.may_end()
    tracer.syscall("ptrace", PTRACE_SEIZE, page.qemu, 0, 0).require("PTRACE_SEIZE")
    tracing = _Tracing(tracer, page.qemu)
    deadline = Deadline(TIMEOUT)
    with workers(1) as asker:
        question = asker.submit(ask)
        poll_until(
            lambda: tracing.step() or _has_answer(question),
            deadline,
            "QEMU to answer or to end",
            explain=lambda: f"the question failed: {question.exception()}" if question.done() else "no answer yet",
        )
        if _has_answer(question):
            return Done(), question.result()
    met = tracing.fault
    if met is None or met.signal != tracing.ended:
        raise MachineError(f"QEMU ended by {tracing.ended or 'itself'}; the fault that it met: {met}")
    if not anywhere and (met.si_addr is None or not page.hva <= met.si_addr < page.hva + PAGE_SIZE):
        raise MachineError(f"QEMU died of another page than that at {page.hva:#x}: {met}")
    poll_until(lambda: guest.vitals.reason is not None, deadline, "the end of QEMU to be noticed")
    return met, None


def _has_answer(question: Future[T]) -> bool:
    """Whether there is an answer. That the question failed is one only as long as QEMU lives."""
    return question.done() and not isinstance(question.exception(), SealproofError | OSError)


class _Tracing:
    """The tracer's view of a thread.

    :ivar fault: the first one that it met. :ivar ended: the signal that ended it; empty if it exited.
    """

    def __init__(self, tracer: Puppet, thread: int) -> None:
        self._tracer = tracer
        self._thread = thread
        self._status, self._info = tracer.memory(4), tracer.memory(SIGINFO_BYTES)
        self.fault: Done | None = None
        self.ended: str | None = None

    def step(self) -> bool:
        """Take note of what happened, if anything did; returns whether the thread has ended."""
        tracer, thread = self._tracer, self._thread
        if tracer.syscall("wait4", thread, self._status, os.WNOHANG | WAIT_ALL, 0).require("wait4") == 0:
            return False
        (status,) = struct.unpack("<I", tracer.read(self._status, 4))
        if status & 0xFF != 0x7F:  # it is no stop (WIFSTOPPED of wait(2))
            self.ended = signal.Signals(status & 0x7F).name if status & 0x7F else ""
            return True
        number = status >> 8 & 0xFF if status >> 16 != PTRACE_EVENT_STOP else 0
        if number and self.fault is None:
            self.fault = self._fault_at_hand()
        tracer.syscall("ptrace", PTRACE_CONT, thread, 0, number).require("PTRACE_CONT")
        return False

    def _fault_at_hand(self) -> Done | None:
        """The fault that raised the signal at hand; None if somebody sent it."""
        tracer = self._tracer
        tracer.syscall("ptrace", PTRACE_GETSIGINFO, self._thread, 0, self._info).require("PTRACE_GETSIGINFO")
        number, _, code, address = SIGINFO.unpack(tracer.read(self._info, SIGINFO_BYTES)[: SIGINFO.size])
        if (number, code) not in FAULTS:
            return None
        return Done(signal=signal.Signals(number).name, si_code=FAULTS[number, code], si_addr=address)
