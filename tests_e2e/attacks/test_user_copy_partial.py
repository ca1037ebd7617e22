# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls of QEMU that start beside a private page, where they may, and go on into it, where they may not."""

from __future__ import annotations

import struct
from collections.abc import Callable

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support import conduits
from tests_e2e.support.approach import APPROACH, clean
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.conduits import Conduit, fill, read_out

ODD = 1001  # bytes before the page: the copy starts in the middle of the page before, aligned to nothing
Probe = Callable[[Puppet, Target], Answer]


def _out(conduit: Conduit, before: int, call: Callable[[Puppet, int, int], Done]) -> Probe:
    """The probe of a call that copies the page and what is before it; only the page's own part is its find."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduit(qemu) as (into, out):
            done = call(qemu, into, page.hva - before)
            data = read_out(qemu, out, done, before + PAGE_SIZE)
        assert data[:before] == APPROACH * min(before, len(data))  # so it started where it should
        return Answer(_to_the_byte(done, data), data[before:])

    return probe


def _to_the_byte(done: Done, data: bytes) -> Done:
    """How a call ended; if more or less came out than it said, that is what counts: a leak can be of one byte."""
    return done if len(data) == max(done.returned or 0, 0) else Done(returned=len(data))


def _in(conduit: Conduit, before: int, call: Callable[[Puppet, int, int], Done]) -> Probe:
    """The probe of a call that overwrites the end of the page before and then the page."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduit(qemu) as ends:
            out = fill(qemu, ends, bytes(before) + PATTERN)
            done = call(qemu, out, page.hva - before)
            clean(qemu, page, before)
            return Answer(done, wrote=PATTERN)

    return probe


def test_qemu_cannot_write_up_to_private_page_to_a_pipe(attack: Attack) -> None:
    """QEMU cannot take a private page along in a write() to a pipe that starts in the page before."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("write", into, at, 2 * PAGE_SIZE)

    attack.by_qemu("write(pipe) of two pages", _out(conduits.pipe, PAGE_SIZE, call))


def test_qemu_cannot_writev_private_page_after_another_to_a_pipe(attack: Attack) -> None:
    """QEMU cannot take a private page along in a writev() to a pipe, after a page that it may read."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        array = qemu.memory(struct.pack("<QQQQ", at, PAGE_SIZE, at + PAGE_SIZE, PAGE_SIZE))
        return qemu.syscall("writev", into, array, 2)

    attack.by_qemu("writev(pipe) of two pages", _out(conduits.pipe, PAGE_SIZE, call))


def test_qemu_cannot_write_from_the_middle_into_private_page_to_a_file(attack: Attack) -> None:
    """QEMU cannot take a byte of a private page along in a write() to a file from the middle of the page before."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("write", into, at, ODD + PAGE_SIZE)

    attack.by_qemu("write(file) across the border", _out(conduits.memory_file, ODD, call))


def test_qemu_cannot_send_from_the_middle_into_private_page(attack: Attack) -> None:
    """QEMU cannot take a byte of a private page along in a unix message from the middle of the page before."""

    def call(qemu: Puppet, into: int, at: int) -> Done:
        return qemu.syscall("sendto", into, at, ODD + PAGE_SIZE, 0, 0, 0)

    attack.by_qemu("sendto(unix stream) across the border", _out(conduits.unix_stream, ODD, call))


def test_qemu_cannot_read_a_pipe_up_to_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page by a read() of a pipe that starts in the page before."""

    def call(qemu: Puppet, out: int, at: int) -> Done:
        return qemu.syscall("read", out, at, 2 * PAGE_SIZE)

    attack.by_qemu("read(pipe) of two pages", _in(conduits.pipe, PAGE_SIZE, call))


def test_qemu_cannot_read_a_file_from_the_middle_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel change a byte of a private page by a read() into the middle of the page before."""

    def call(qemu: Puppet, out: int, at: int) -> Done:
        return qemu.syscall("read", out, at, ODD + PAGE_SIZE)

    attack.by_qemu("read(file) across the border", _in(conduits.memory_file, ODD, call))


def test_qemu_cannot_receive_from_the_middle_into_private_page(attack: Attack) -> None:
    """QEMU cannot have a byte of a private page changed by a unix message to the middle of the page before."""

    def call(qemu: Puppet, out: int, at: int) -> Done:
        return qemu.syscall("recvfrom", out, at, ODD + PAGE_SIZE, 0, 0, 0)

    attack.by_qemu("recvfrom(unix stream) across the border", _in(conduits.unix_stream, ODD, call))
