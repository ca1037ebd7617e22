# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to end a guest while its QEMU lives on: by a reset, by closing the VM."""

from __future__ import annotations

import re

from common.errors import ChannelError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest

KVM_FILE = "anon_inode:kvm-v"  # a VM's, or a virtual CPU's
KVM_DEBUGFS = "/sys/kernel/debug/kvm"
SECONDS = 20.0


def reset(guest: Guest) -> Done:
    """Reset the machine, and stop it in its firmware."""
    guest.qmp.execute("set-action", {"reboot": "reset"})  # our guests' QEMUs end by a reset otherwise
    guest.qmp.execute("stop")
    guest.qmp.execute("system_reset")
    # The VM is to run: that is how KVM learns of it. The firmware takes far longer to get to what was there.
    before = guest.memory.exits().total
    guest.qmp.execute("cont")
    poll_until(lambda: guest.memory.exits().total > before, Deadline(SECONDS), "the VM to run anew", interval=0.02)
    guest.qmp.execute("stop")
    return Done(returned=0)


def closed(host: Host, puppeteer: Puppeteer, guest: Guest) -> Done:
    """Have QEMU close its VM; how the last close() ended."""
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
