# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of a QEMU that was to end and did not, by processes that wait here in its place."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import ChannelError, DeadlineError, MachineLostError, SealproofError
from host_setup.channels.puppets import Done
from tests_e2e.support import vm_end as module
from tests_e2e.support.vm_end import ask_to_quit, has_quit, kill_qemu, wait_for_ends


class Qemu:
    """A guest whose QEMU is a process of this computer that waits; also its QMP, and the session with its host."""

    def __init__(self, pid: int, *, quits: SealproofError | None, answers: SealproofError | None = None) -> None:
        self.pid, self.qmp, self.ssh = pid, self, self
        self.vitals = SimpleNamespace(name="guest plain")
        self._replies = {"quit": quits, "query-status": answers}
        self.to_end = False

    def may_end(self) -> None:
        self.to_end = True

    def execute(self, command: str) -> object:
        assert self.to_end or command != "quit"
        reply = self._replies[command]
        if reply is not None:
            raise reply
        return {"status": "paused", "running": False}

    def run(self, argv: list[str], *, seconds: float) -> Any:
        assert seconds > 0
        if argv[0] == "kill":  # that it does not heed
            assert self.to_end
            return SimpleNamespace(require=lambda: None)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return SimpleNamespace(status=done.returncode, text=done.stdout)


@pytest.fixture
def pid() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDS", 0.1)


@pytest.mark.parametrize(
    "error",
    [ChannelError("QMP quit on guest plain: EOF"), MachineLostError("it is lost"), DeadlineError("waited 10 s")],
)
def test_qemu_that_ends_before_it_answers_has_taken_the_order_and_the_answer_is_kept(
    error: SealproofError, pid: int
) -> None:
    assert error.message in ask_to_quit(Qemu(pid, quits=error))


def test_an_answer_that_only_a_fault_of_ours_gives_is_no_answer(pid: int) -> None:
    with pytest.raises(SealproofError):
        ask_to_quit(Qemu(pid, quits=SealproofError("another one")))


def test_qemu_that_does_not_quit_is_told_with_its_answer_its_status_and_what_its_threads_do(pid: int) -> None:
    qemu: Any = Qemu(pid, quits=ChannelError("QMP quit on guest plain: the session is closed"))
    with pytest.raises(DeadlineError) as caught:
        has_quit(qemu, qemu)
    message = caught.value.message
    assert f"QEMU {pid} of guest plain" in message
    assert "the session is closed" in message
    assert "'paused'" in message
    assert f"thread {pid} (sleep), state S" in message


def test_qemu_that_kill_does_not_end_is_told_the_same_way(pid: int) -> None:
    qemu: Any = Qemu(pid, quits=None, answers=DeadlineError("waited 10 s for QMP query-status"))
    with pytest.raises(DeadlineError, match=r"SIGKILL\nQMP query-status: waited 10 s for QMP") as caught:
        kill_qemu(qemu, qemu)
    assert f"thread {pid} (sleep)" in caught.value.message


def test_a_wait_by_a_descriptor_tells_that_the_process_is_gone_if_it_is() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    qemu: Any = Qemu(process.pid, quits=None)
    waits: Any = SimpleNamespace(memory=len, syscall=lambda *_: Done(returned=0))
    with pytest.raises(DeadlineError, match="it is no process of the host's any more"):
        wait_for_ends(waits, 7, explain=lambda: module.lives_on(qemu, qemu, ask_to_quit(qemu)))
