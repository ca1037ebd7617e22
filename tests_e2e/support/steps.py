# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps that many probes take in a puppet: pipes, devices, results that the kernel hands over in memory."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet

POLL_MS = 4000  # less than puppeteer gives a system call
COPY = bytes.fromhex("f3a4")  # rep movsb
IOC_NONE, IOC_WRITE, IOC_READ = 0, 1, 2  # asm-generic/ioctl.h


def without_descriptor(done: Done) -> Done:
    """The same for a call that gives a descriptor, whose number says nothing: 0 if it gave one."""
    return done if done.errno is not None else Done(returned=0)


def ioc(direction: int, kind: int, number: int, size: int) -> int:
    """The number of an ioctl, as ``_IOC`` makes it."""
    return direction << 30 | size << 16 | kind << 8 | number


@contextmanager
def open_file(puppet: Puppet, path: str, flags: int = os.O_RDWR) -> Iterator[int]:
    """A file that the puppet has open for as long as the context lasts: the descriptor."""
    with closing(puppet, puppet.open(path, flags)) as file:
        yield file


@contextmanager
def closing(puppet: Puppet, file: int) -> Iterator[int]:
    """A descriptor of the puppet, closed when the context ends."""
    try:
        yield file
    finally:
        puppet.syscall("close", file).require("close")


@contextmanager
def descriptor_of(puppet: Puppet, call: str, *args: int) -> Iterator[int]:
    """A descriptor from a system call that must give one, closed when the context ends."""
    with closing(puppet, puppet.syscall(call, *args).require(call)) as file:
        yield file


@contextmanager
def open_pipe(puppet: Puppet) -> Iterator[tuple[int, int]]:
    """A pipe of the puppet's: the end to read, which never waits, and the end to write."""
    ends = puppet.memory(8)
    puppet.syscall("pipe2", ends, os.O_NONBLOCK).require("pipe2")
    out, into = struct.unpack("<ii", puppet.read(ends, 8))
    with closing(puppet, out), closing(puppet, into):
        yield out, into


def read_pending(puppet: Puppet, file: int, size: int) -> bytes:
    """What a descriptor that never waits has to read, up to ``size`` bytes; empty if nothing."""
    buffer = puppet.memory(size)
    done = puppet.syscall("read", file, buffer, size)
    if done.errno == "EAGAIN":
        return b""
    return puppet.read(buffer, count) if (count := done.require("read")) else b""


def ioctl_on(puppet: Puppet, file: int, number: int, request: bytes) -> tuple[Done, bytes]:
    """An ioctl on a structure: how it ended, and the structure afterwards."""
    place = puppet.memory(request)
    done = puppet.syscall("ioctl", file, number, place)
    return done, puppet.read(place, len(request))


def load_bytes(puppet: Puppet, address: int, size: int) -> bytes:
    """What the puppet's own loads find: also in a mapping of bare frames (VM_PFNMAP), which nobody else can read."""
    buffer = puppet.memory(size)
    puppet.run(COPY, rdi=buffer, rsi=address, rcx=size).require("load")
    return puppet.read(buffer, size)


def store_bytes(puppet: Puppet, address: int, content: bytes) -> None:
    """Have the puppet's own stores put a content there; likewise."""
    puppet.run(COPY, rdi=address, rsi=puppet.memory(content), rcx=len(content)).require("store")


@contextmanager
def map_file(puppet: Puppet, size: int, file: int, offset: int = 0) -> Iterator[int]:
    """A shared mapping of a file to read and write, gone when the context ends: its address."""
    address = puppet.syscall("mmap", 0, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file, offset).require(
        "mmap"
    )
    try:
        yield address
    finally:
        puppet.syscall("munmap", address, size).require("munmap")


def wait_until_ready(puppet: Puppet, file: int, events: int) -> None:
    """Wait until a descriptor is ready for ``events`` (POLLIN, POLLERR).

    :raises ChannelError: it is not so in time.
    """
    request = puppet.memory(struct.pack("<ihh", file, events, 0))
    if puppet.syscall("poll", request, 1, POLL_MS).require("poll") == 0:
        raise ChannelError(f"descriptor {file} of process {puppet.pid} did not become ready in {POLL_MS} ms")
