# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's device "edu" in the host, driven from user space (docs/specs/edu of QEMU)."""

from __future__ import annotations

import mmap
import os
import struct

from common.errors import ChannelError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host
from tests_e2e.support.outside import outside

MOST = 2048  # bytes of one transfer; its buffer has 4,096, and QEMU 7.2 ends itself over one that fills it
MASK = (1 << 64) - 1  # of the addresses that it reaches: all memory, not 256 MiB alone
BAR_BYTES = 1 << 20
SOURCE, TARGET, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
BUFFER = 0x40000
RUN, TO_MEMORY = 1, 2
PROT_READ_WRITE = 3
STORE, LOAD = bytes.fromhex("488907"), bytes.fromhex("488b07")  # mov [rdi], rax; mov rax, [rdi]
FIND = "grep -lx 0x11e8 /sys/bus/pci/devices/*/device"
PAGEMAP = struct.Struct("<Q")
PRESENT, FRAME = 1 << 63, (1 << 55) - 1
PAGE = 4096
TIMEOUT = 10.0  # for one transfer, which QEMU starts 0.1 s after it was asked to


def plug_in(host: Host) -> None:
    """Plug the device into a host, and let it read and write memory (bus master).

    Not there from the start: a saved host would forget its registers, for which QEMU keeps no state.

    :raises ChannelError: it cannot be had.
    """
    refused = outside(host).monitor(f"device_add edu,id=edu,dma_mask={MASK:#x}")
    if refused:
        raise ChannelError(f"device_add edu: {refused}", hint="has the host's QEMU this device?")
    enable = 'cd "${found%/device}" && echo 1 > enable && printf "\\006" | dd of=config bs=1 seek=4 status=none'
    _shell(host.ssh, f"echo 1 > /sys/bus/pci/rescan; found=$({FIND}) && {enable}")


class Device:
    """The device as a process of the host moves it. Addresses are physical, in bytes.

    :raises ChannelError: it cannot be reached.
    """

    def __init__(self, ssh: Ssh, process: Puppet) -> None:
        self._process = process
        folder = _shell(ssh, FIND).strip().removesuffix("/device")
        file = process.open(f"{folder}/resource0", os.O_RDWR)
        mapped = process.syscall("mmap", 0, BAR_BYTES, PROT_READ_WRITE, mmap.MAP_SHARED, file, 0)
        self._registers = mapped.require("map the device's registers")
        self._page = process.memory(bytes(PAGE))
        self._page_at = _physical(ssh, process.pid, self._page)

    def load(self, address: int, size: int) -> None:
        """Have it read memory into its buffer."""
        self._transfer(address, BUFFER, size, RUN)

    def store(self, address: int, size: int) -> None:
        """Have it write its buffer to memory."""
        self._transfer(BUFFER, address, size, RUN | TO_MEMORY)

    def fill(self, content: bytes) -> None:
        """Put something into its buffer."""
        self._process.write(self._page, content)
        self.load(self._page_at, len(content))

    def content(self, size: int) -> bytes:
        """What its buffer holds."""
        self.store(self._page_at, size)
        return self._process.read(self._page, size)

    def _transfer(self, source: int, target: int, size: int, command: int) -> None:
        for register, value in ((SOURCE, source), (TARGET, target), (COUNT, size), (COMMAND, command)):
            self._process.run(STORE, rdi=self._registers + register, rax=value).require("a register of the device")

        def over() -> bool:
            return not self._process.run(LOAD, rdi=self._registers + COMMAND).require("its command register") & RUN

        poll_until(over, Deadline(TIMEOUT), "the device to move the bytes")


def _physical(ssh: Ssh, pid: int, address: int) -> int:
    read = f"dd if=/proc/{pid}/pagemap bs=8 skip={address // PAGE} count=1 status=none"
    (entry,) = PAGEMAP.unpack(ssh.run(["sh", "-c", read], seconds=10).require().stdout)
    if not entry & PRESENT:
        raise ChannelError("the process's own page is not in memory")
    return int(entry & FRAME) * PAGE


def _shell(ssh: Ssh, script: str) -> str:
    return ssh.run(["sh", "-c", script], seconds=20).require().text
