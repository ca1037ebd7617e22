# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by ending a guest while its QEMU lives on, which may use that memory then: by a reset, by closing the VM.

All of the host's memory is searched afterwards, so it makes no difference where QEMU, or the host, finds a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from common.errors import ChannelError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from tests_e2e.support.attack import Aimed, Attack, Got
from tests_e2e.support.host_memory import memory_of, pages_with

KVM_FILE = "anon_inode:kvm-v"  # a VM's, or a virtual CPU's
KVM_DEBUGFS = "/sys/kernel/debug/kvm"
SECONDS = 20.0


def test_host_has_no_copy_of_private_page_after_reset(attack: Attack) -> None:
    """When QEMU has reset the machine, no page of the host's memory holds what was a private page of its guest."""

    def reset(host: Host, puppeteer: Puppeteer, guest: Guest) -> Done:  # noqa: ARG001  QMP is enough
        guest.qmp.execute("set-action", reboot="reset")  # our guests' QEMUs end by a reset otherwise
        guest.qmp.execute("stop")
        guest.qmp.execute("system_reset")
        # The VM is to run: that is how KVM learns of it. The firmware takes far longer to get to what was there.
        before = guest.exits().total
        guest.qmp.execute("cont")
        poll_until(lambda: guest.exits().total > before, Deadline(SECONDS), "the VM to run anew", interval=0.02)
        guest.qmp.execute("stop")
        return Done(returned=0)

    _nothing_left(attack, "system_reset", reset)


def test_host_has_no_copy_of_private_page_after_its_vm_was_closed(attack: Attack) -> None:
    """When QEMU has closed its VM and lives on, no page of the host's memory holds what was private in it."""

    def close(host: Host, puppeteer: Puppeteer, guest: Guest) -> Done:
        guest.qmp.execute("stop")
        links = host.ssh.run(["ls", "-l", f"/proc/{guest.pid}/fd"], seconds=10).require().text
        files = [int(fd) for fd in re.findall(rf" (\d+) -> {KVM_FILE}", links)]
        maps = host.ssh.run(["grep", KVM_FILE, f"/proc/{guest.pid}/maps"], seconds=10).require().text
        mapped = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in maps.splitlines()]
        if not files or not mapped:
            raise ChannelError(f"QEMU {guest.pid} has no VM open, or no virtual CPU mapped:\n{links}{maps}")
        with puppeteer.inside(guest.pid) as qemu:
            for first, end in mapped:
                qemu.syscall("munmap", first, end - first).require("munmap of the virtual CPU")
            closed = [qemu.syscall("close", file) for file in files]
        left = host.ssh.run(["ls", KVM_DEBUGFS], seconds=10).require().text.split()
        if any(name.startswith(f"{guest.pid}-") for name in left):
            raise ChannelError(f"the VM of QEMU {guest.pid} has not ended: {left}")
        return closed[-1]

    _nothing_left(attack, "close(VM)", close)


def _nothing_left(attack: Attack, name: str, end: Callable[[Host, Puppeteer, Guest], Done]) -> None:
    """Have both guests end, their QEMUs live on, and all of the host's memory searched.

    :param end: ends a guest, and returns how.
    """

    def probe(host: Host, pages: list[Aimed]) -> list[Got]:
        with attack.puppeteer(host) as puppeteer:
            done = {guest.pid: end(host, puppeteer, guest) for guest in host.guests}
            with memory_of(host) as memory:
                found = pages_with(memory, [page.planted.content for page in pages])
        # The guest is no more, so nobody asks it what it finds.
        return [Got(done[page.target.qemu], data, freed=True) for page, data in zip(pages, found, strict=True)]

    attack.all_at_once(name, probe)
