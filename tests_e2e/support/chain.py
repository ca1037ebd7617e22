# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that a puppet makes one right after the other, as machine code: nothing of ours runs between them.

A page frame that one call frees may be another's with the next request to the puppeteer, which itself needs memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet
from host_setup.channels.syscalls import SYSCALLS

_SET_ARGUMENT = tuple(bytes.fromhex(code) for code in ("48bf", "48be", "48ba", "49ba", "49b8", "49b9"))  # movabs
_SET_NUMBER, _CALL, _STORE = bytes.fromhex("48b8"), bytes.fromhex("0f05"), bytes.fromhex("48a3")  # rax, rax to memory
_WORD = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call by name, with its arguments as for ``Puppet.syscall``."""

    name: str
    args: tuple[int, ...]

    def code(self, result: int) -> bytes:
        """The call as code that stores what it returned at an address."""
        return b"".join(
            [
                *(code + _word(arg) for code, arg in zip(_SET_ARGUMENT, self.args, strict=False)),
                *(_SET_NUMBER, _word(SYSCALLS[self.name]), _CALL, _STORE, _word(result)),
            ]
        )


def call(name: str, *args: int) -> Call:
    """A system call to be made in a chain."""
    return Call(name, args)


def run_chain(puppet: Puppet, *calls: Call) -> list[Done]:
    """Have it make the calls, whatever the ones before returned; returns how each ended.

    :raises ChannelError: a signal ended the chain.
    """
    results = puppet.memory(bytes(_WORD.size * len(calls)))  # written to: no call makes the kernel find memory for it
    places = [results + _WORD.size * number for number in range(len(calls))]
    outcome = puppet.run(b"".join(call.code(place) for call, place in zip(calls, places, strict=True)))
    if outcome.signal is not None:
        raise ChannelError(f"{', '.join(call.name for call in calls)} in process {puppet.pid}: {outcome}")
    stored = puppet.read(results, _WORD.size * len(calls))
    return [Done.of_result(result) for (result,) in struct.iter_unpack("<q", stored)]


def _word(value: int) -> bytes:
    return _WORD.pack(value & (2**64 - 1))
