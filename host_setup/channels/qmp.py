# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP, by ``qemu.qmp``: a small synchronous face on a library that is asynchronous.

One event loop, in one thread, serves every QMP connection of the run.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from common.errors import ChannelError, DeadlineError
from common.waiting import Stopwatch
from host_setup.channels.vitals import Vitals

T = TypeVar("T")
LOG = logging.getLogger(__name__)


class _Loop:
    """The event loop of all QMP connections, started when the first one is made."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        with self._mutex:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A QEMU that ends is an error of ours already; the library would print it once more.
                self._loop.set_exception_handler(lambda _, context: LOG.debug("%s", context))
                threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


_LOOP = _Loop()

# AssertionError: where the peer ends right after its greeting (qemu.qmp 0.0.6, AsyncProtocol.connect).
_BROKEN = (QMPError, OSError, EOFError, AssertionError, concurrent.futures.CancelledError)


class Qmp:
    """A QMP session with one QEMU.

    :param sock: a connected stream socket; the session owns it.
    :param transcript: a file to which every command and reply is appended, a JSON line each.
    :ivar stopped: whether the machine was stopped, and not continued since.
    :raises ChannelError: the other side is not QMP. :raises DeadlineError: no greeting within ``seconds``.
    """

    def __init__(self, sock: socket.socket, vitals: Vitals, *, seconds: float, transcript: Path | None = None) -> None:
        self._vitals = vitals
        self._transcript = transcript
        self._client = QMPClient(vitals.name)
        self._closed = False
        self.stops = Stopwatch()
        """How long the machine has stood still, by commands of ours."""
        sock.setblocking(False)  # noqa: FBT003  asyncio wants it so
        self._call("the QMP greeting", self._client.connect(sock), seconds)

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, seconds: float = 10.0) -> Any:
        """Execute a QMP command and return its reply.

        :param arguments: of the command, under the names that QEMU gives them.
        :raises ChannelError: QEMU refused it, or the session broke. :raises DeadlineError: no reply in time.
        """
        begun = time.time()
        outcome: Any = None
        try:
            outcome = self._call(f"QMP {command}", self._client.execute(command, arguments), seconds)
            if command == "stop":
                self.stops.begin()
            elif command == "cont":
                self.stops.end()
        except ChannelError as error:
            outcome = {"error": error.message}
            raise
        finally:
            self._log({"time": begun, "execute": command, "arguments": arguments or {}, "reply": outcome})
        return outcome

    def monitor(self, line: str, *, seconds: float = 10.0) -> str:
        """Execute a command of the human monitor; returns what it prints, stripped."""
        return str(self.execute("human-monitor-command", {"command-line": line}, seconds=seconds)).strip()

    def send_fd(self, name: str, fd: int, *, seconds: float = 10.0) -> None:
        """Hand a file to QEMU under a name (QMP ``getfd``); works over a local socket only."""
        try:
            self._client.send_fd_scm(fd)
        except (QMPError, OSError) as error:
            self._vitals.check_broken()
            raise ChannelError(f"a file for {self._vitals.name}: {error}") from error
        self.execute("getfd", {"fdname": name}, seconds=seconds)

    def close(self) -> None:
        """End the session. QEMU goes on."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ChannelError, DeadlineError):  # gone already: what we wanted
            self._call("the end of QMP", self._client.disconnect(), 5.0, check=False)

    def _log(self, record: dict[str, Any]) -> None:
        if self._transcript is not None:
            with self._transcript.open("a", encoding="utf-8") as out:
                out.write(json.dumps(record) + "\n")

    def _call(self, doing: str, work: Coroutine[Any, Any, T], seconds: float, *, check: bool = True) -> T:
        if check:
            try:
                self._vitals.check()
            except BaseException:
                work.close()
                raise
        future = _LOOP.submit(work)

        def end() -> None:
            future.cancel()

        forget = self._vitals.on_loss(end)
        deadline = self._vitals.deadline(seconds)
        try:
            while not future.done() and not deadline.is_over():
                concurrent.futures.wait([future], timeout=deadline.seconds_left())
            return future.result(0)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise DeadlineError(f"waited {deadline} for {doing} of {self._vitals.name}") from error
        except ExecuteError as error:
            raise ChannelError(f"{doing} on {self._vitals.name}: {error}") from error
        except _BROKEN as error:
            if check:
                self._vitals.check_broken()
            raise ChannelError(f"{doing} on {self._vitals.name}: {str(error) or type(error).__name__}") from error
        finally:
            forget()
