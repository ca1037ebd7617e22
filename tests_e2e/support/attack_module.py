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
DIRECT_MAP_LOADS, KMAP_LOCAL_READ, KMAP_LOCAL_WRITE, MEMREMAP_READ = 5, 6, 7, 8
CPU_READ, WATCH_START, WATCH_STOP = 9, 10, 11
GET_USER_PAGES, GET_USER_PAGES_FAST, PIN_USER_PAGES, ACCESS_VM_READ, ACCESS_VM_WRITE = 12, 13, 14, 15, 16
KGDB_READ, KGDB_WRITE = 17, 18
VMAP_READ, VMAP_WRITE, GET_AS_KVM, DIRECT_MAP_AGAIN = 19, 20, 21, 22
KGDB_READS, KGDB_WRITES = 256, 128  # bytes at most, in one packet of the debugger
O_RDWR = 2
ERRNO = {133: "EHWPOISON", **errno.errorcode}  # Python 3.11 does not know all that Linux has


def attack_by_module(process: Puppet, method: int, target: int, size: int, *, cpu: int = 0) -> tuple[Done, bytes]:
    """Have the module read memory, in the context of ``process``.

    :param target: by the method, an address of the process or a host-physical address. :param size: bytes.
    :param cpu: for a method that wants one.
    :returns: what the access met, as a system call reports it (0, or -1 and an errno), and the bytes read.
    :raises ChannelError: the module refused the request itself: that is no blocked attack.
    """
    buffer = process.memory(size)
    done, count = _attack(process, method, cpu, target, size, buffer)
    return done, process.read(buffer, count) if count else b""


def write_by_module(process: Puppet, method: int, target: int, content: bytes) -> tuple[Done, int]:
    """Have the module write memory; likewise.

    :returns: what the access met, and how many bytes were written.
    """
    return _attack(process, method, 0, target, len(content), process.memory(content))


def _attack(process: Puppet, method: int, cpu: int, target: int, size: int, buffer: int) -> tuple[Done, int]:
    device = process.open(DEVICE, O_RDWR)
    request = process.memory(_REQUEST.pack(method, cpu, target, size, buffer, 0, 0))
    process.syscall("ioctl", device, SEALPROOF_ATTACK, request).require("the attack module's ioctl")
    process.syscall("close", device).require("close")
    *_, result, count = _REQUEST.unpack(process.read(request, _REQUEST.size))
    if result == 0:
        return Done(returned=0), count
    return Done(returned=-1, errno=ERRNO.get(-result, str(-result))), count
