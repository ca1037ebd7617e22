# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of the kernel's in blocks of 2 MiB that cannot be moved, and where it is: the ring of a packet socket.

What is given back of it is what the kernel takes first when it wants such a block again (mm/page_alloc.c: by order and
mobility), as a series does that takes guests' memory from blocks.
"""

from __future__ import annotations

import socket
import struct

from common.errors import ChannelError
from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE
from tests_e2e.support.pagemap import places
from tests_e2e.support.sockets import setting

SOL_PACKET, RX_RING, VERSION, V2 = 263, 5, 10, 1  # linux/if_packet.h
BLOCK = 2 << 20  # bytes
PAGES = BLOCK // PAGE_SIZE
READ_WRITE, SHARED = 3, 1  # PROT_*, MAP_SHARED of linux/mman.h


class Blocks:
    """Blocks of a process of the host.

    :ivar frames: physical addresses of those that are in one piece; the others, of which there may be some, are not.
    :raises ChannelError: too few are.
    """

    def __init__(self, ssh: Ssh, process: Puppet, count: int) -> None:
        self._process = process
        self._size = count * BLOCK
        self._socket = process.syscall("socket", socket.AF_PACKET, socket.SOCK_RAW, 0).require("socket")
        setting(process, self._socket, SOL_PACKET, VERSION, struct.pack("<i", V2))
        ring = struct.pack("<IIII", BLOCK, count, PAGE_SIZE, count * PAGES)  # struct tpacket_req
        setting(process, self._socket, SOL_PACKET, RX_RING, ring)
        done = process.syscall("mmap", 0, self._size, READ_WRITE, SHARED, self._socket, 0)
        self._at = done.require("mmap of the ring")
        frames = [place.frame for place in places(ssh, process.pid, self._at, count * PAGES)]
        self.frames = [
            first * PAGE_SIZE
            for first, *rest in (frames[at : at + PAGES] for at in range(0, len(frames), PAGES))
            if first is not None and first % PAGES == 0 and rest == list(range(first + 1, first + PAGES))
        ]
        if len(self.frames) < count // 2:
            raise ChannelError(f"of {count} blocks of the ring {len(self.frames)} are in one piece")

    def give_back(self) -> None:
        """Give all of them back to the kernel."""
        self._process.syscall("munmap", self._at, self._size).require("munmap of the ring")
        self._process.syscall("close", self._socket).require("close the socket")
