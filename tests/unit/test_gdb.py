# SPDX-License-Identifier: GPL-2.0-or-later
"""The gdb remote protocol, against a stub that says what it is told to."""

from __future__ import annotations

import pytest

from common.errors import ChannelError
from tests_e2e.support.gdb import LONGEST, Gdb


class FakeStub:
    """A stream: hears all, and says its lines a few bytes at a time, then nothing more."""

    def __init__(self, *replies: bytes, at_once: int = 3) -> None:
        self.heard: list[bytes] = []
        self._said = b"".join(replies)
        self._at_once = at_once

    def sendall(self, data: bytes) -> None:
        self.heard.append(data)

    def recv(self, _: int) -> bytes:
        part, self._said = self._said[: self._at_once], self._said[self._at_once :]
        return part


def packet(body: bytes) -> bytes:
    return b"+$%s#%02x" % (body, sum(body) % 256)


def test_packets_bear_their_checksum_and_replies_are_acknowledged() -> None:
    stub = FakeStub(packet(b"OK"), packet(b"E14"))
    gdb = Gdb(stub)
    gdb.require_ok("Qqemu.PhyMemMode:1")
    assert gdb.ask("m0,1") == "E14"
    assert stub.heard == [b"$Qqemu.PhyMemMode:1#77", b"+", b"$m0,1#fa", b"+"]


def test_memory_is_read_in_parts_that_fit_a_packet() -> None:
    content = bytes(range(256)) * (LONGEST // 128)
    parts = [packet(content[at : at + LONGEST].hex().encode()) for at in (0, LONGEST)]
    stub = FakeStub(*parts, at_once=1000)
    assert Gdb(stub).read(0x1000, 2 * LONGEST) == content
    assert [packet.partition(b"#")[0] for packet in stub.heard[::2]] == [b"$m1000,800", b"$m1800,800"]


def test_memory_that_is_not_there_is_empty() -> None:
    assert Gdb(FakeStub(packet(b"E14"))).read(0, 8) == b""


def test_stub_that_refuses_or_ends_is_an_error() -> None:
    with pytest.raises(ChannelError, match="says 'E22' to 'D'"):
        Gdb(FakeStub(packet(b"E22"))).require_ok("D")
    with pytest.raises(ChannelError, match="ended the connection"):
        Gdb(FakeStub(b"+$O")).ask("D")
