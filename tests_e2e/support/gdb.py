# SPDX-License-Identifier: GPL-2.0-or-later
"""The gdb remote protocol, as much of it as reads and writes a guest's memory through its QEMU.

Packets are ``$body#checksum``, each acknowledged by ``+`` (the GDB manual's appendix "Remote Serial Protocol"). QEMU
stops the guest when a debugger connects, and reads physical addresses when it is told to (docs/system/gdb.rst).
"""

from __future__ import annotations

from common.errors import ChannelError
from host_setup.channels.ssh import Stream

LONGEST = 2048  # bytes of memory in one packet of QEMU's, of 4096 characters


class Gdb:
    """A debugger's connection to a gdb stub.

    :param stream: connected; its own time limit holds.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._said = b""

    def ask(self, body: str) -> str:
        """Send a packet; returns the body of the reply.

        :raises ChannelError: the stub ended the connection.
        """
        raw = body.encode()
        self._stream.sendall(b"$%s#%02x" % (raw, sum(raw) % 256))
        self._up_to(b"$")
        reply = self._up_to(b"#")
        self._take(2)
        self._stream.sendall(b"+")
        return reply.decode()

    def require_ok(self, body: str) -> None:
        """Send a packet to which the stub must agree.

        :raises ChannelError: it does not.
        """
        if (reply := self.ask(body)) != "OK":
            raise ChannelError(f"the gdb stub says '{reply}' to '{body}'")

    def read(self, address: int, size: int) -> bytes:
        """Memory; empty if the stub says that there is none."""
        end = address + size
        parts = [self.ask(f"m{at:x},{min(LONGEST, end - at):x}") for at in range(address, end, LONGEST)]
        return b"" if any(part.startswith("E") for part in parts) else bytes.fromhex("".join(parts))

    def _up_to(self, mark: bytes) -> bytes:
        while mark not in self._said:
            self._hear()
        before, _, self._said = self._said.partition(mark)
        return before

    def _take(self, count: int) -> None:
        while len(self._said) < count:
            self._hear()
        self._said = self._said[count:]

    def _hear(self) -> None:
        data = self._stream.recv(LONGEST)
        if not data:
            raise ChannelError("the gdb stub ended the connection")
        self._said += data
