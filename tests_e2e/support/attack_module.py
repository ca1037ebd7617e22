# SPDX-License-Identifier: GPL-2.0-or-later
"""The attacks of the host's kernel itself, by our module ``host_attack`` (guest_images/modules/sealproof_uapi.h)."""

from __future__ import annotations

import errno
import struct

from host_setup.channels.puppets import Done, Puppet

DEVICE = "/dev/sealproof-attack"
SEALPROOF_ATTACK = 0xC0305310  # the ioctl
_REQUEST = struct.Struct("<IIQQQqQ")  # method, flags, target, length, buffer; out: result, bytes done
COPY_FROM_USER, COPY_TO_USER, DIRECT_MAP_READ, DIRECT_MAP_WRITE = 1, 2, 3, 4
O_RDWR = 2
ERRNO = {133: "EHWPOISON", **errno.errorcode}  # Python 3.11 does not know all that Linux has


def attack_by_module(process: Puppet, method: int, target: int, size: int) -> tuple[Done, bytes]:
    """Have the module read memory, in the context of ``process``.

    :param target: by the method, an address of the process or a host-physical address. :param size: bytes.
    :returns: what the access met, as a system call reports it (0, or -1 and an errno), and the bytes read.
    :raises ChannelError: the module refused the request itself: that is no blocked attack.
    """
    device = process.open(DEVICE, O_RDWR)
    buffer = process.memory(size)
    request = process.memory(_REQUEST.pack(method, 0, target, size, buffer, 0, 0))
    process.syscall("ioctl", device, SEALPROOF_ATTACK, request).require("the attack module's ioctl")
    process.syscall("close", device).require("close")
    *_, result, count = _REQUEST.unpack(process.read(request, _REQUEST.size))
    data = process.read(buffer, count) if count else b""
    if result == 0:
        return Done(returned=0), data
    return Done(returned=-1, errno=ERRNO.get(-result, str(-result))), data
