# SPDX-License-Identifier: GPL-2.0-or-later
"""Controlled processes of the host: they run system calls and machine code in a process of ours, or in QEMU.

The work is done by ``puppeteer`` on the host (guest_images/programs/README.md describes its protocol).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from common.ending import ERRNO, LAST_ERRNO, Ending
from common.errors import ChannelError
from host_setup.channels.ssh import Conversation, Ssh
from host_setup.channels.syscalls import SYSCALLS

REQUEST_TIMEOUT = 20.0  # for one request, beside the time of a longer system call
SYSCALL_TIMEOUT = 5.0  # seconds that puppeteer itself gives a system call, if nothing else was said
PAGE = 4096
POOL = 64 * PAGE  # bytes of a puppet's memory that are mapped at once: each request is a way to the host and back
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207  # linux/ptrace.h
WAIT_ALL = 0x40000000  # __WALL of linux/wait.h


@dataclass(frozen=True, slots=True)
class Done(Ending):
    """How a puppet's system call or piece of code ended."""

    @classmethod
    def of_result(cls, result: int) -> Done:
        """How a call ended by its result as the kernel gives it: a value, or a negative errno."""
        if -LAST_ERRNO <= result < 0:
            return cls(returned=-1, errno=ERRNO.get(-result, str(-result)))
        return cls(returned=result)

    def as_a_load(self) -> Done:
        """The same for code whose registers mean nothing: it returned nothing."""
        return replace(self, returned=None)

    def require(self, doing: str) -> int:
        """What it returned, if it succeeded.

        :raises ChannelError: it did not; a step of a probe that must work is the harness's fault.
        """
        if self.returned is None or self.errno is not None:
            raise ChannelError(f"{doing}: {self.errno or self.signal}", hint="the probe's own steps must work")
        return self.returned


class Puppet:
    """A process on the host that we control.

    :ivar pid: its process id on the host.
    """

    def __init__(self, talk: Conversation, number: int, pid: int) -> None:
        self._talk = talk
        self._number = number
        self._pool = range(0)  # addresses of mapped pages that nobody has been given yet
        self.pid = pid

    def syscall(self, name: str, *args: int, seconds: float = SYSCALL_TIMEOUT) -> Done:
        """Make a system call in the puppet. Arguments are numbers: addresses are of the puppet's own memory.

        :param seconds: after which it is interrupted.
        :raises ChannelError: it had to be.
        """
        words = " ".join(hex(arg & (2**64 - 1)) for arg in args)
        with self._patience(seconds):
            reply = _ask(self._talk, f"syscall {self._number} {SYSCALLS[name]} {words}".rstrip(), seconds=seconds)
        return _done_of(reply, reply.get("ret"))

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        if seconds == SYSCALL_TIMEOUT:
            yield
            return
        _ask(self._talk, f"timeout {seconds * 1000:.0f}")
        try:
            yield
        finally:
            _ask(self._talk, f"timeout {SYSCALL_TIMEOUT * 1000:.0f}")

    def run(self, code: bytes, **registers: int) -> Done:
        """Run machine code (x86-64) in the puppet. The code ends by running off its end or by a signal.

        :param registers: values before, for instance ``rdi=...``; the others are 0.
        """
        words = " ".join(f"{name.upper()}={value:#x}" for name, value in registers.items())
        reply = _ask(self._talk, f"run {self._number} {code.hex()} {words}".rstrip())
        return _done_of(reply, reply.get("rax") if reply.get("trap") else None)

    def memory(self, content: bytes | int) -> int:
        """The address of new pages of the puppet with this content, or of so many zeros."""
        size = content if isinstance(content, int) else len(content)
        length = -(-max(size, 1) // PAGE) * PAGE
        if length > len(self._pool):
            mapped = max(length, POOL)
            address = int(_ask(self._talk, f"map {self._number} {mapped}")["addr"])
            self._pool = range(address, address + mapped)
        address = self._pool.start
        self._pool = self._pool[length:]
        if isinstance(content, bytes):
            self.write(address, content)
        return address

    def write(self, address: int, content: bytes) -> None:
        """Write into memory got by ``memory``."""
        _ask_whole(self._talk, f"poke {self._number} {address:#x} {content.hex()}")

    def read(self, address: int, size: int) -> bytes:
        """Read from memory got by ``memory``."""
        return bytes.fromhex(_ask_whole(self._talk, f"peek {self._number} {address:#x} {size}")["hex"])

    def open(self, path: str, flags: int = 0) -> int:
        """Open a file; returns the descriptor.

        :raises ChannelError: it cannot.
        """
        name = self.memory(path.encode() + b"\0")
        return self.syscall("open", name, flags, 0).require(f"open {path}")

    @contextmanager
    def tracing(self, pid: int) -> Iterator[None]:
        """Let the puppet trace a process, stopped, for as long as the context lasts; then the process goes on unharmed.

        :raises ChannelError: it cannot.
        """
        self.syscall("ptrace", PTRACE_SEIZE, pid, 0, 0).require("PTRACE_SEIZE")
        try:
            self.syscall("ptrace", PTRACE_INTERRUPT, pid, 0, 0).require("PTRACE_INTERRUPT")
            self.syscall("wait4", pid, 0, WAIT_ALL, 0).require("wait for the stop")
            yield
        finally:
            self.syscall("ptrace", PTRACE_DETACH, pid, 0, 0).require("PTRACE_DETACH")

    def iovec(self, address: int, size: int) -> int:
        """The address of a ``struct iovec`` for this buffer."""
        return self.memory(struct.pack("<QQ", address, size))


class Puppeteer:
    """The program on the host that controls the puppets, and the connection to it.

    :param path: of the program on the host.
    """

    def __init__(self, ssh: Ssh, path: str) -> None:
        self._talk = ssh.converse([path], seconds=REQUEST_TIMEOUT)

    def spawn(self) -> Puppet:
        """A fresh process of our own, with the rights of root. It lives as long as the connection."""
        reply = _ask(self._talk, "spawn")
        return Puppet(self._talk, reply["puppet"], reply["pid"])

    @contextmanager
    def inside(self, pid: int) -> Iterator[Puppet]:
        """The main thread of another process, which goes on unharmed afterwards."""
        reply = _ask(self._talk, f"attach {pid}")
        try:
            yield Puppet(self._talk, reply["puppet"], pid)
        finally:
            _ask(self._talk, f"detach {reply['puppet']}")

    def close(self) -> None:
        """Let everything go."""
        self._talk.close()


def _ask(talk: Conversation, request: str, *, seconds: float = 0.0) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(talk.ask(request, seconds=REQUEST_TIMEOUT + seconds)[0])
    for trouble in ("error", "gone"):
        if trouble in reply:
            raise ChannelError(f"puppeteer, '{request[:60]}': {json.dumps(reply)}")
    return reply


def _ask_whole(talk: Conversation, request: str) -> dict[str, Any]:
    """Like ``_ask``, for memory: less than was asked may have been read or written, and then there is an errno."""
    reply = _ask(talk, request)
    if reply.get("errno") is not None:
        raise ChannelError(f"puppeteer, '{request[:60]}': done in part, then {reply['errno']}")
    return reply


def _done_of(reply: dict[str, Any], returned: int | None) -> Done:
    return Done(returned, reply.get("errno"), reply.get("signal"), reply.get("si_code"), reply.get("si_addr"))
