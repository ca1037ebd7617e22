# SPDX-License-Identifier: GPL-2.0-or-later
"""An attack by the firmware's own area below 1 MiB, which a guest shares from the start: code that the host puts there.

A processor begins there after a reset, which ends all privacy. A kernel that jumps there by itself, as Linux does when
it is told to reboot by the BIOS, would run that code with all its memory private, and thus loaded for the host.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

from common.errors import MachineError
from common.threads import workers
from common.waiting import Deadline
from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import RUN, GuestSpec
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.checks import well
from tests_e2e.support.extra import BOOT, standing

ENTRY = 0xFFFF0  # where Linux jumps to: arch/x86/realmode/rm/reboot.S
TOLD = "V"
# mov $TOLD, %al; out %al, $0xe9; mov $6, %al; mov $0xcf9, %dx; out %al, (%dx); hlt: it tells, and resets the machine.
CODE = bytes([0xB0, ord(TOLD), 0xE6, 0xE9, 0xB0, 6, 0xBA, 0xF9, 0x0C, 0xEE, 0xF4])
HVA = re.compile(r" is (0x[0-9a-f]+)$")


def test_guest_that_reboots_runs_no_code_of_the_hosts(claim: Trial, pool: HostPool) -> None:
    """A guest that is to reboot by the BIOS does not run what the host has put where that begins (reboot=bios)."""
    with standing(pool, _shape) as among:
        with Attack.puppeteer(among) as puppeteer:
            for guest in among.guests:
                _put_code(puppeteer, guest)
        with workers(len(among.guests)) as side_by_side:
            found = list(side_by_side.map(partial(_rebooted, among), among.guests))
        protected = among.guest.protected
    claim.legitimate(*found, protected=protected if len(found) > 1 else None)


def _shape(spec: GuestSpec) -> GuestSpec:
    """One that is to reboot by the BIOS, and has a port whose bytes QEMU writes to a file."""
    console = ("-chardev", f"file,id=told,path={_file(spec)}", "-device", "isa-debugcon,chardev=told,iobase=0xe9")
    return replace(spec, words="reboot=bios", reboots=True, extra=(*spec.extra, *console))


def _file(spec: GuestSpec) -> str:
    return f"{RUN}/{spec.name}.told"


def _put_code(puppeteer: Puppeteer, guest: Guest) -> None:
    """Have another process of the host write the code to where the guest's reboot would go on."""
    said = guest.qmp.monitor(f"gpa2hva {ENTRY:#x}")
    where = HVA.search(said)
    if where is None:
        raise MachineError(f"gpa2hva {ENTRY:#x} of guest {guest.spec.name}: {said}")
    process = puppeteer.spawn()
    ours = process.iovec(process.memory(CODE), len(CODE))
    theirs = process.iovec(int(where[1], 16), len(CODE))
    process.syscall("process_vm_writev", guest.pid, ours, 1, theirs, 1, 0).require("process_vm_writev")


def _rebooted(host: Host, guest: Guest) -> list[Check]:
    """Have the guest reboot; what the code has told, and how the guest is afterwards."""
    before = guest.boots()
    again = "sleep 0.1; echo b > /proc/sysrq-trigger"
    guest.ssh.run(["sh", "-c", f"{{ {again}; }} > /dev/null 2>&1 &"], seconds=20).require()
    guest.close()  # nothing answers on the old connections
    guest.wait_for_boot(before + 1, Deadline(BOOT))
    told = host.ssh.run(["cat", _file(guest.spec)], seconds=20).require().text
    expected = "" if guest.spec.opts_in else TOLD
    return [Check("what the host's code has told", expected or "nothing", told or "nothing"), *well(guest)]
