# SPDX-License-Identifier: GPL-2.0-or-later
"""The attacks of the host's kernel itself, by our module ``host_attack`` (guest_images/modules/sealproof_uapi.h)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from host_setup.channels.puppets import Done, Puppet
from host_setup.channels.uapi import ATTACK, ATTACK_LAYOUT, Method

DEVICE = "/dev/sealproof-attack"
KGDB_READS, KGDB_WRITES = 256, 128  # bytes at most, in one packet of the debugger


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, with all that the module needs in the memory of the process that is to make it.

    :ivar device: its descriptor of the module. :ivar request: address of the structure. :ivar buffer: address of what
        is read.
    """

    device: int
    request: int
    buffer: int

    def outcome(self, process: Puppet) -> tuple[Done, bytes]:
        """What the access met, as a system call reports it (0, or -1 and an errno), and the bytes read; once only.

        To be asked for after the ioctl has succeeded: its own failure is the harness's, and no blocked attack.
        """
        done, count = self.count(process)
        return done, process.read(self.buffer, count) if count else b""

    def count(self, process: Puppet) -> tuple[Done, int]:
        """Likewise what the access met, and how many bytes it moved; once only."""
        process.syscall("close", self.device).require("close")
        *_, result, count = ATTACK_LAYOUT.unpack(process.read(self.request, ATTACK_LAYOUT.size))
        return Done.of_result(result), count


def attempt_by_module(process: Puppet, method: Method, target: int, content: bytes, *, cpu: int = 0) -> Attempt:
    """Prepare a try of the module, to be made by the ioctl ``ATTACK``.

    :param target: by the method, an address of the process or a host-physical address.
    :param content: what is written, or as many zeros as bytes are read.
    :param cpu: for a method that wants one.
    """
    device = process.open(DEVICE, os.O_RDWR)
    buffer = process.memory(content)  # written to, so that nobody needs memory for it later
    request = ATTACK_LAYOUT.pack(method, cpu, target, len(content), buffer, 0, 0)
    return Attempt(device, process.memory(request), buffer)


def attack_by_module(process: Puppet, method: Method, target: int, size: int, *, cpu: int = 0) -> tuple[Done, bytes]:
    """Have the module read memory, in the context of ``process``; as ``attempt_by_module``.

    :returns: as ``Attempt.met``. :raises ChannelError: the module refused the request itself.
    """
    return _attack(process, attempt_by_module(process, method, target, bytes(size), cpu=cpu)).outcome(process)


def write_by_module(process: Puppet, method: Method, target: int, content: bytes) -> tuple[Done, int]:
    """Have the module write memory; likewise. Returns what the access met, and how many bytes were written."""
    return _attack(process, attempt_by_module(process, method, target, content)).count(process)


def _attack(process: Puppet, attempt: Attempt) -> Attempt:
    process.syscall("ioctl", attempt.device, ATTACK, attempt.request).require("the attack module's ioctl")
    return attempt
