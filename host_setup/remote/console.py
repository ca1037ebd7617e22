# SPDX-License-Identifier: GPL-2.0-or-later
"""What a real machine's kernel says while no SSH server answers: by a command's output, or by UDP (netconsole)."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from common.errors import DeadlineError, SetupError
from common.processes import spawn
from common.waiting import Deadline, poll_until
from host_setup.inventory import CommandConsole, Console, IpmiConsole, NetConsole

TAIL_LINES = 40
DATAGRAM = 4096  # bytes: more than netconsole puts into one
AT_ONCE = 0.5  # seconds in which a command that cannot work ends
SESSION = 15.0  # seconds in which a management controller opens a session, or says why not
PARTING = 3.0  # seconds that ipmitool takes to give its session back once its input has ended
END = 1.0  # seconds that another command takes
SESSION_IS_HELD = "already active on another session"  # what ipmitool says then
# A program whose output is no terminal keeps it back until it has some thousand bytes, ipmitool as well: the last words
# of a kernel would never come.
UNBUFFERED = ("stdbuf", "-o0")


class ConsoleLog:
    """A machine's console, written to a file from now on.

    :param console: of the inventory. :raises SetupError: this computer cannot listen to it.
    """

    def __init__(self, console: Console, log: Path) -> None:
        self.path = log
        self._console = console
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._argv: Sequence[str] = ()
        self._begun = 0  # length of the log when its command was started
        self._complaints = log.with_name(f"{log.name}.stderr")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        if isinstance(console, CommandConsole | IpmiConsole):
            self._start(console)
        elif isinstance(console, NetConsole):
            self._socket = _listen(console.port)
            self._follow()

    def _start(self, console: CommandConsole | IpmiConsole) -> None:
        self._argv = command = console.command
        if shutil.which(command[0]) is None:
            raise SetupError(f"{command[0]} is not installed here", hint="it shows a console in the inventory")
        unbuffered = UNBUFFERED if shutil.which(UNBUFFERED[0]) else ()
        with self._complaints.open("wb") as stderr:
            # ipmitool's "sol activate" ends with its standard input.
            # The command is the user's own, and so is its environment (IPMI_PASSWORD, LIBVIRT_DEFAULT_URI ...).
            self._process = spawn(
                [*unbuffered, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=os.environ
            )
        self._begun = len(self.text())
        self._follow()

    def _follow(self) -> None:
        self._thread = threading.Thread(target=self._copy, args=(self._chunks(),), name="console", daemon=True)
        self._thread.start()

    @property
    def has_output(self) -> bool:
        """Whether there is a console at all."""
        return self._thread is not None

    @property
    def is_held(self) -> bool:
        """Whether its command ended because another session has the console."""
        return self._process is not None and self._process.poll() is not None and SESSION_IS_HELD in self._complaint()

    def problem(self) -> str:
        """Why nothing more is heard, in one line; empty if it goes on, or there is none."""
        if self._process is None or self._process.poll() is None:
            return ""
        complaint = self._complaint()
        end = f"its console's command ended with status {self._process.returncode}"
        return f"{end}: {complaint}" if complaint else f"{end}, and said nothing ({shlex.join(self._argv)})"

    def settle(self) -> str:
        """Wait until its command works or has ended; what is wrong with it then, in one line, or nothing."""
        if self._process is None:
            return ""
        talks = isinstance(self._console, IpmiConsole)  # it says that it has a session

        def is_settled() -> bool:
            return bool(self.problem()) or (talks and len(self.text()) > self._begun)

        with contextlib.suppress(DeadlineError):
            poll_until(is_settled, Deadline(SESSION if talks else AT_ONCE), "its console")
            return self.problem()
        if not talks:
            return ""
        hint = "; cipher_suite = 3 in the inventory helps with older ones"
        return f"its management controller opened no session within {SESSION:g} s{hint}"

    def renew(self, note: Callable[[str], None]) -> None:
        """See to it that its command runs, before its words count: from the main thread, by whoever has the machine.

        A session that another run has left behind is taken over.

        :param note: told what was done, or what is wrong.
        """
        console = self._console
        if not isinstance(console, CommandConsole | IpmiConsole):
            return
        if self.problem() and not self.is_held:
            note(f"{self.problem()}: it is started again")
            self._start(console)
        problem = self.settle()
        if self.is_held and isinstance(console, IpmiConsole):
            note(f"another session held its console ({console.address}): this run takes it over")
            _run(console.release)
            self._start(console)
            problem = self.settle()
        if problem:
            note(problem)

    def text(self) -> str:
        """All that it said."""
        return self.path.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """What it said last, and whether it goes on; for an explanation."""
        lines = self.text().splitlines()[-TAIL_LINES:]
        problem = self.problem()
        after = f"\n{problem}" if problem else ""
        if lines:
            return "its console ends with:\n" + "\n".join(lines) + after
        if problem:
            return problem
        return "its console said nothing" if self.has_output else "it has no console in the inventory"

    def _complaint(self) -> str:
        """What its command complained of, last."""
        lines = self._complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _chunks(self) -> Iterator[bytes]:
        if self._process is not None and self._process.stdout is not None:
            return _output(self._process.stdout)
        return _datagrams(self._socket) if self._socket is not None else iter(())

    def _copy(self, chunks: Iterator[bytes]) -> None:
        with self.path.open("ab", buffering=0) as out:
            for data in chunks:
                out.write(data)

    def close(self) -> None:
        """Listen no more."""
        if self._process is not None:
            self._part(self._process)
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
            self._socket.close()
        if self._thread is not None:
            self._thread.join(5)

    def _part(self, process: subprocess.Popen[bytes]) -> None:
        """End its command; one that is killed leaves its session behind."""
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        patience = PARTING if isinstance(self._console, IpmiConsole) else 0.0
        for seconds, end in ((patience, process.terminate), (END, process.kill)):
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                end()
        process.wait()


def _output(stream: IO[bytes]) -> Iterator[bytes]:
    while data := os.read(stream.fileno(), DATAGRAM):
        yield data


def _datagrams(sock: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # closed: the run is over
        while True:
            yield sock.recv(DATAGRAM)


def _run(command: Sequence[str]) -> None:
    """Run a command that may fail: its effect shows by itself."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SESSION, check=False)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.bind(("", port))
    except OSError as error:
        listener.close()
        raise SetupError(
            f"cannot listen to netconsole on UDP port {port}: {error}", hint="does another run use this port?"
        ) from error
    return listener
