# SPDX-License-Identifier: GPL-2.0-or-later
"""Conduits of a puppet: pairs of descriptors; what is written into the first can be read from the second.

Reading from the second never waits. Each is a context that closes both.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer, Target
from tests_e2e.support.sockets import SOCK_STREAM, bind_to, tcp_pair, udp_pair
from tests_e2e.support.steps import closing, descriptor_of, open_file, open_pipe, read_pending, wait_until_ready

TIOCSPTLCK, TIOCGPTPEER = 0x40045431, 0x5441  # asm-generic/ioctls.h
TERMIOS = 36  # bytes of the kernel's struct termios
CONTROL_MODES = struct.Struct("<IIII")  # its start: input, output, control and local modes

Ends = tuple[int, int]
Conduit = Callable[[Puppet], AbstractContextManager[Ends]]


def through(conduit: Conduit, call: Callable[[Puppet, int, int], Done]) -> Callable[[Puppet, Target], Answer]:
    """The probe that makes a call write a page into a conduit, and reads what came out.

    :param call: makes it, with the descriptor and the page's address.
    """

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduit(qemu) as (into, out):
            done = call(qemu, into, page.hva)
            return Answer(done, read_out(qemu, out, done, PAGE_SIZE))

    return probe


def read_out(puppet: Puppet, out: int, done: Done, size: int) -> bytes:
    """What a call that has ended put into a conduit: it is awaited if the call succeeded, and looked for if not."""
    if done.errno is None:
        wait_until_ready(puppet, out, select.POLLIN)
    return read_pending(puppet, out, size)


def fill(puppet: Puppet, conduit: Ends, content: bytes) -> int:
    """Put content into a conduit; gives the end to read it from, where it is ready."""
    into, out = conduit
    puppet.syscall("write", into, puppet.memory(content), len(content)).require("write")
    wait_until_ready(puppet, out, select.POLLIN)
    return out


@contextmanager
def pipe(puppet: Puppet) -> Iterator[Ends]:
    """A pipe."""
    with open_pipe(puppet) as (out, into):
        yield into, out


@contextmanager
def tmp_file(puppet: Puppet) -> Iterator[Ends]:
    """A file without a name below ``/tmp``, twice open."""
    with open_file(puppet, "/tmp", os.O_TMPFILE | os.O_RDWR) as into, _again(puppet, into) as out:  # noqa: S108
        yield into, out


@contextmanager
def memory_file(puppet: Puppet) -> Iterator[Ends]:
    """A file of memfd_create(), twice open."""
    with descriptor_of(puppet, "memfd_create", puppet.memory(b"sealproof\0"), 0) as into, _again(puppet, into) as out:
        yield into, out


@contextmanager
def unix_stream(puppet: Puppet) -> Iterator[Ends]:
    """A pair of stream sockets."""
    with _unix(puppet, SOCK_STREAM) as ends:
        yield ends


@contextmanager
def unix_datagram(puppet: Puppet) -> Iterator[Ends]:
    """A pair of datagram sockets."""
    with _unix(puppet, socket.SOCK_DGRAM) as ends:
        yield ends


@contextmanager
def udp(puppet: Puppet) -> Iterator[Ends]:
    """Two UDP sockets."""
    with udp_pair(puppet) as (into, out):
        _never_wait(puppet, out)
        yield into, out


@contextmanager
def tcp(puppet: Puppet) -> Iterator[Ends]:
    """A TCP connection."""
    with tcp_pair(puppet) as (into, out):
        _never_wait(puppet, out)
        yield into, out


@contextmanager
def netlink(puppet: Puppet) -> Iterator[Ends]:
    """Two netlink sockets of the family that is for user space alone."""
    with (
        descriptor_of(puppet, "socket", socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_USERSOCK) as out,
        descriptor_of(puppet, "socket", socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_USERSOCK) as into,
    ):
        address = struct.pack(
            "<HHII", socket.AF_NETLINK, 0, puppet.pid, 0
        )  # struct sockaddr_nl: the port is any number
        bind_to(puppet, out, address)
        puppet.syscall("connect", into, puppet.memory(address), len(address)).require("connect")
        _never_wait(puppet, out)
        yield into, out


@contextmanager
def terminal(puppet: Puppet) -> Iterator[Ends]:
    """A pseudo terminal that changes no byte: from the program's side to the other."""
    with open_file(puppet, "/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK) as out:
        puppet.syscall("ioctl", out, TIOCSPTLCK, puppet.memory(4)).require("TIOCSPTLCK")
        with descriptor_of(puppet, "ioctl", out, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY) as into:
            modes = puppet.memory(TERMIOS)
            puppet.syscall("ioctl", into, termios.TCGETS, modes).require("TCGETS")
            (_, _, control, _) = CONTROL_MODES.unpack(puppet.read(modes, CONTROL_MODES.size))
            puppet.write(modes, CONTROL_MODES.pack(0, 0, control, 0))
            puppet.syscall("ioctl", into, termios.TCSETS, modes).require("TCSETS")
            yield into, out


@contextmanager
def event_counter(puppet: Puppet) -> Iterator[Ends]:
    """A counter of eventfd(): what is written is added to it, and reading takes it all."""
    with descriptor_of(puppet, "eventfd2", 0, os.O_NONBLOCK) as both:
        yield both, both


@contextmanager
def _unix(puppet: Puppet, kind: int) -> Iterator[Ends]:
    ends = puppet.memory(8)
    puppet.syscall("socketpair", socket.AF_UNIX, kind | os.O_NONBLOCK, 0, ends).require("socketpair")
    into, out = struct.unpack("<ii", puppet.read(ends, 8))
    with closing(puppet, into), closing(puppet, out):
        yield into, out


@contextmanager
def _again(puppet: Puppet, file: int) -> Iterator[int]:
    """The same file with a position of its own."""
    with open_file(puppet, f"/proc/thread-self/fd/{file}", os.O_RDWR) as again:
        yield again


def _never_wait(puppet: Puppet, file: int) -> None:
    puppet.syscall("fcntl", file, fcntl.F_SETFL, os.O_NONBLOCK).require("F_SETFL")
