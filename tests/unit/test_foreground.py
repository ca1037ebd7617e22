# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that a person talks to, by a pipe and by a terminal, and its end with ours in every way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common import foreground
from common.paths import PROJECT
from common.waiting import Deadline, poll_until

OURS = """
import os, sys
from common import foreground
from common.program import end_with
def main(argv):
    status = foreground.run(argv)
    ours = sys.stdin.isatty() and os.tcgetpgrp(0) == os.getpgrp()
    print(f"ended with {status}", "the terminal is ours" if ours else "", flush=True)
    return 0
end_with(main)
"""
# Says what comes in, counts each Ctrl-C, and ends with its input.
TALKS = """
import os, signal, sys
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"<interrupted>"))
os.write(1, b"<ready %d>" % os.getpid())
while line := sys.stdin.readline():
    os.write(1, b"<" + line.strip().encode() + b">")
sys.exit(7)
"""
TALK = [sys.executable, "-u", "-c", TALKS]


class Session:
    """A program of ours on a pseudoterminal."""

    def __init__(self, argv: list[str]) -> None:
        self.ours, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self.said = b""
        self.process = subprocess.Popen(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=PROJECT,
            start_new_session=True,
            preexec_fn=lambda: _own(0),  # noqa: PLW1509  no thread runs here
        )
        self.theirs = theirs
        os.set_blocking(self.ours, False)

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def wait_for(self, text: bytes) -> None:
        def has_heard() -> bool:
            with contextlib.suppress(OSError):  # nothing to read now
                self.said += os.read(self.ours, 4096)
            return text in self.said

        poll_until(has_heard, Deadline(30), f"{text!r}, said was {self.said!r}")


def _own(fd: int) -> None:
    """Make a terminal the session's own."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


@contextmanager
def session(*argv: str) -> Iterator[Session]:
    terminal_session = Session([sys.executable, "-c", OURS, *argv])
    try:
        yield terminal_session
    finally:
        terminal_session.process.kill()
        terminal_session.process.wait()
        os.close(terminal_session.ours)
        os.close(terminal_session.theirs)


def ready(terminal_session: Session) -> int:
    """Wait for the program; returns its process id."""
    terminal_session.wait_for(b"<ready ")
    terminal_session.wait_for(b">")
    return int(terminal_session.said.partition(b"<ready ")[2].partition(b">")[0])


def is_gone(pid: int) -> Callable[[], bool]:
    def check() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return check


def test_pipe_reaches_the_program_and_its_status_comes_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OURS, *TALK], input="one\ntwo\n", cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "<one><two>ended with 7" in done.stdout


def test_terminal_is_the_program_s_until_it_ends_and_ctrl_c_is_its_own() -> None:
    with session(*TALK) as terminal_session:
        pid = ready(terminal_session)
        assert os.tcgetpgrp(terminal_session.ours) == pid
        terminal_session.type(b"\x03")
        terminal_session.wait_for(b"<interrupted>")
        terminal_session.type(b"still here\n")
        terminal_session.wait_for(b"<still here>")
        terminal_session.type(b"\x04")  # Ctrl-D
        terminal_session.wait_for(b"ended with 7 the terminal is ours")
        assert terminal_session.process.wait(30) == 0
        assert is_gone(pid)()


def test_ctrl_z_does_not_stop_a_program_that_no_shell_could_wake() -> None:
    with session(*TALK) as terminal_session:
        ready(terminal_session)
        terminal_session.type(b"\x1a")
        terminal_session.type(b"awake\n")
        terminal_session.wait_for(b"<awake>")


def test_terminal_is_as_it_was_whatever_the_program_did_to_it() -> None:
    with session("sh", "-c", "stty raw -echo; kill -KILL $$") as terminal_session:
        terminal_session.wait_for(b"ended with -9")
        assert terminal_session.process.wait(30) == 0
        assert termios.tcgetattr(terminal_session.theirs) == terminal_session.before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_program_ends_with_ours(how: signal.Signals) -> None:
    with session(*TALK) as terminal_session:
        pid = ready(terminal_session)
        terminal_session.process.send_signal(how)
        terminal_session.process.wait(30)
        poll_until(is_gone(pid), Deadline(30), "the program to end")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_program_on_a_pipe_ends_with_ours(how: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OURS, *TALK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        output = b""
        while b">" not in output:
            output += process.stdout.read(1)
        pid = int(output.partition(b"<ready ")[2].partition(b">")[0])
        process.send_signal(how)
        process.wait(30)
        poll_until(is_gone(pid), Deadline(30), "the program to end")
    finally:
        process.kill()
        process.communicate()


def test_program_that_will_not_end_in_order_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "GRACE", 0.2)
    looks = iter(range(1000))
    began = time.monotonic()
    assert foreground.run(["sh", "-c", "trap '' TERM; sleep 60 & wait"], over=lambda: next(looks) > 10) is None
    assert time.monotonic() - began < 20


def test_program_ends_when_there_is_nothing_left_to_talk_to() -> None:
    looks = iter(range(1000))
    assert foreground.run(["sleep", "60"], over=lambda: next(looks) > 3) is None
    assert foreground.run(["sh", "-c", "exit 3"]) == 3
    assert foreground.run(["sh", "-c", "kill -HUP $$"]) == -signal.SIGHUP
