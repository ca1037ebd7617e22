# SPDX-License-Identifier: GPL-2.0-or-later
"""What a real machine's kernel says while no SSH server answers: by a command's output, or by UDP (netconsole)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from common.errors import SetupError
from common.processes import spawn
from host_setup.inventory import CommandConsole, Console, IpmiConsole, NetConsole

TAIL_LINES = 40
DATAGRAM = 4096  # bytes: more than netconsole puts into one


class ConsoleLog:
    """A machine's console, written to a file from now on.

    :param console: of the inventory. :raises SetupError: this computer cannot listen to it.
    """

    def __init__(self, console: Console, log: Path) -> None:
        self.path = log
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        if isinstance(console, CommandConsole | IpmiConsole):
            # ipmitool's "sol activate" ends with its standard input.
            # The command is the user's own, and so is its environment (IPMI_PASSWORD, LIBVIRT_DEFAULT_URI ...).
            self._process = spawn(console.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ)
        elif isinstance(console, NetConsole):
            self._socket = _listen(console.port)
        if self._process or self._socket:
            self._thread = threading.Thread(target=self._copy, name="console", daemon=True)
            self._thread.start()

    @property
    def heard(self) -> bool:
        """Whether there is a console at all."""
        return self._thread is not None

    def text(self) -> str:
        """All that it said."""
        return self.path.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """What it said last; for an explanation."""
        lines = self.text().splitlines()[-TAIL_LINES:]
        if lines:
            return "its console ends with:\n" + "\n".join(lines)
        return "its console said nothing" if self.heard else "it has no console in the inventory"

    def _chunks(self) -> Iterator[bytes]:
        if self._process is not None and self._process.stdout is not None:
            while data := os.read(self._process.stdout.fileno(), DATAGRAM):
                yield data
        elif self._socket is not None:
            with contextlib.suppress(OSError):  # closed: the run is over
                while True:
                    yield self._socket.recv(DATAGRAM)

    def _copy(self) -> None:
        with self.path.open("ab", buffering=0) as out:
            for data in self._chunks():
                out.write(data)

    def close(self) -> None:
        """Listen no more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
            self._socket.close()
        if self._thread is not None:
            self._thread.join(5)


def _listen(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        found.bind(("", port))
    except OSError as error:
        found.close()
        raise SetupError(
            f"cannot listen to netconsole on UDP port {port}: {error}", hint="does another run use that port?"
        ) from error
    return found
