# SPDX-License-Identifier: GPL-2.0-or-later
"""The attacks of the host's kernel itself, by our module ``host_attack`` (guest_images/modules/sealproof_uapi.h)."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from host_setup.channels.puppets import Done, Puppet

DEVICE = "/dev/sealproof-attack"
SEALPROOF_ATTACK = 0xC0305310  # the ioctl
_REQUEST = struct.Struct("<IIQQQqQ")  # method, flags, target, length, buffer; out: result, bytes done
COPY_FROM_USER, COPY_TO_USER, DIRECT_MAP_READ, DIRECT_MAP_WRITE = 1, 2, 3, 4
O_RDWR = 2
ERRNO = {133: "EHWPOISON", **errno.errorcode}  # Python 3.11 does not know all that Linux has


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, with all that the module needs in the memory of the process that is to make it.

    :ivar device: its descriptor of the module. :ivar request: address of the structure. :ivar buffer: address of what
        is read.
    """

    device: int
    request: int
    buffer: int

    def met(self, process: Puppet) -> tuple[Done, bytes]:
        """What the access met, as a system call reports it (0, or -1 and an errno), and the bytes read; once only.

        To be asked for after the ioctl has succeeded: its own failure is the harness's, and no blocked attack.
        """
        process.syscall("close", self.device).require("close")
        *_, result, count = _REQUEST.unpack(process.read(self.request, _REQUEST.size))
        data = process.read(self.buffer, count) if count else b""
        if result == 0:
            return Done(returned=0), data
        return Done(returned=-1, errno=ERRNO.get(-result, str(-result))), data


def attempt_by_module(process: Puppet, method: int, target: int, size: int) -> Attempt:
    """Prepare a try of the module, to be made by the ioctl ``SEALPROOF_ATTACK``.

    :param target: by the method, an address of the process or a host-physical address. :param size: bytes.
    """
    device = process.open(DEVICE, O_RDWR)
    buffer = process.memory(bytes(size))  # written to, so that nobody needs memory for it later
    return Attempt(device, process.memory(_REQUEST.pack(method, 0, target, size, buffer, 0, 0)), buffer)


def attack_by_module(process: Puppet, method: int, target: int, size: int) -> tuple[Done, bytes]:
    """Have the module read memory, in the context of ``process``; as ``attempt_by_module``.

    :returns: as ``Attempt.met``. :raises ChannelError: the module refused the request itself.
    """
    attempt = attempt_by_module(process, method, target, size)
    process.syscall("ioctl", attempt.device, SEALPROOF_ATTACK, attempt.request).require("the attack module's ioctl")
    return attempt.met(process)
