# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection that can be cut: a port of this computer that leads to another one, until somebody pulls the plug."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

CHUNK = 1 << 16


class Wire:
    """Connects to ``target``, a port of the loopback, whoever connects to ``port``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mutex = threading.Lock()
        self._ends: set[socket.socket] = set()
        self.is_cut = False
        self._left: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def cut(self) -> None:
        """All connections end, and new ones are taken but never answered: as behind a firewall that forgot them."""
        with self._mutex:
            self.is_cut = True
        self._end_all()

    def cut_after(self, count: int) -> None:
        """Cut it in the middle of what is sent to the target, after so many bytes from now on."""
        with self._mutex:
            self._left = count

    def _passes(self, count: int) -> bool:
        """Whether so many bytes more may go to the target."""
        with self._mutex:
            if self._left is None:
                return True
            self._left -= count
            return self._left >= 0

    def close(self) -> None:
        """End it and all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_all()

    def _end_all(self) -> None:
        with self._mutex:
            ends, self._ends = self._ends, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                ours, _ = self._listener.accept()
                if self.is_cut:
                    with self._mutex:
                        self._ends.add(ours)
                    continue
                threading.Thread(target=self._carry, args=(ours,), name="wire", daemon=True).start()

    def _carry(self, ours: socket.socket) -> None:
        with ours, contextlib.suppress(OSError):
            theirs = socket.create_connection(("127.0.0.1", self._target))
            with theirs:
                with self._mutex:
                    self._ends |= {ours, theirs}
                other = {ours: theirs, theirs: ours}
                while True:
                    readable, _, _ = select.select([ours, theirs], [], [])
                    for end in readable:
                        data = end.recv(CHUNK)
                        if not data:
                            return
                        if end is ours and not self._passes(len(data)):
                            self.cut()
                            return
                        other[end].sendall(data)
