# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by the firmware's own area below 1 MiB, which a guest shares from the start: what the host puts there.

A processor begins there after a reset, which ends all privacy. A kernel that jumps there by itself, as Linux does when
it is told to reboot by the BIOS, would run that code with all its memory private, and thus loaded for the host. So
would a kernel that another one has started: there it finds where ACPI's tables are, and these hold code.
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
from host_setup.hosts.guest_spec import GUEST_RUN_DIR, GuestSpec
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.checks import well
from tests_e2e.support.each import on_each, on_each_at_once
from tests_e2e.support.extra import BOOT, standing
from tests_e2e.support.kexec import kexec, with_its_kernel
from tests_e2e.support.memory import shell

ENTRY = 0xFFFF0  # where Linux jumps to: arch/x86/realmode/rm/reboot.S
LETTER = "V"
# mov $LETTER, %al; out %al, $0xe9; mov $6, %al; mov $0xcf9, %dx; out %al, (%dx); hlt: it tells, and resets the machine.
CODE = bytes([0xB0, ord(LETTER), 0xE6, 0xE9, 0xB0, 6, 0xBA, 0xF9, 0x0C, 0xEE, 0xF4])
HVA = re.compile(r" is (0x[0-9a-f]+)$")
# What Linux says of the RSDP, the pointer to ACPI's tables: its address, and the firmware's maker.
RSDP = re.compile(r"ACPI: RSDP 0x([0-9A-F]+) \w+ \(v00 (.{6})\)")
RSDP_BYTES, CHECKSUM_AT, MAKER = 20, 8, slice(9, 15)  # of version 0
OURS = b"BADVMM"


def test_guest_that_reboots_runs_no_code_of_the_hosts(trial: Trial, pool: HostPool) -> None:
    """A guest that is to reboot by the BIOS does not run what the host has put where that begins (reboot=bios)."""
    with standing(pool, _shape) as among:
        with Attack.puppeteer(among) as puppeteer:
            for guest in among.guests:
                _put_code(puppeteer, guest)
        with workers(len(among.guests)) as side_by_side:
            results = list(side_by_side.map(partial(_reboot, among), among.guests))
        protected = among.guest.protected
    trial.legitimate(*results, protected=protected if len(results) > 1 else None)


def _shape(spec: GuestSpec) -> GuestSpec:
    """One that is to reboot by the BIOS, and has a port whose bytes QEMU writes to a file."""
    console = ("-chardev", f"file,id=told,path={_file(spec)}", "-device", "isa-debugcon,chardev=told,iobase=0xe9")
    return replace(spec, cmdline="reboot=bios", reboots=True, extra=(*spec.extra, *console))


def _file(spec: GuestSpec) -> str:
    return f"{GUEST_RUN_DIR}/{spec.name}.told"


def _put_code(puppeteer: Puppeteer, guest: Guest) -> None:
    """Have another process of the host write the code to where the guest's reboot would go on."""
    process = puppeteer.spawn()
    ours = process.iovec(process.memory(CODE), len(CODE))
    theirs = process.iovec(_in_qemu(guest, ENTRY), len(CODE))
    process.syscall("process_vm_writev", guest.pid, ours, 1, theirs, 1, 0).require("process_vm_writev")


def _in_qemu(guest: Guest, gpa: int) -> int:
    """Where QEMU has the firmware's area."""
    answer = guest.qmp.monitor(f"gpa2hva {gpa:#x}")
    where = HVA.search(answer)
    if where is None:
        raise MachineError(f"gpa2hva {gpa:#x} of guest {guest.spec.name}: {answer}")
    return int(where[1], 16)


def _reboot(host: Host, guest: Guest) -> list[Check]:
    """Have the guest reboot; what the code has told, and how the guest is afterwards."""
    before = guest.boots()
    again = "sleep 0.1; echo b > /proc/sysrq-trigger"
    guest.ssh.run(["sh", "-c", f"{{ {again}; }} > /dev/null 2>&1 &"], seconds=20).require()
    guest.close()  # nothing answers on the old connections
    guest.wait_for_boot(before + 1, Deadline(BOOT))
    output = host.ssh.run(["cat", _file(guest.spec)], seconds=20).require().text
    expected = "" if guest.spec.opts_in else LETTER
    return [Check("what the host's code has told", expected or "nothing", output or "nothing"), *well(guest)]


def test_host_cannot_choose_acpi_tables_of_the_next_kernel(trial: Trial, pool: HostPool) -> None:
    """A kernel that another one has started (kexec) takes the RSDP that the first one found, and not the host's."""
    with standing(pool, lambda spec: replace(with_its_kernel(spec), reboots=True)) as among:
        with Attack.puppeteer(among) as puppeteer:
            makers = on_each(among.guests, lambda guest: _put_rsdp(puppeteer, guest))
        maker_of = dict(zip(among.guests, makers, strict=True))
        results = on_each_at_once(among.guests, lambda guest: _after_kexec(among, guest, maker_of[guest]), in_time=True)
        protected = among.guest.protected
    trial.legitimate(*results, protected=protected if len(results) > 1 else None)


def _rsdp(guest: Guest) -> tuple[int, str]:
    """Where a guest's kernel has found the RSDP (guest-physical, in bytes), and whose it is."""
    log = shell(guest, "dmesg")
    match = RSDP.search(log)
    if match is None:
        raise MachineError(f"guest {guest.spec.name} does not say where it has found the RSDP")
    return int(match[1], 16), match[2]


def _put_rsdp(puppeteer: Puppeteer, guest: Guest) -> str:
    """Have another process of the host change the RSDP; whose it was."""
    gpa, maker = _rsdp(guest)
    process = puppeteer.spawn()
    memory = process.memory(RSDP_BYTES)
    ours, theirs = process.iovec(memory, RSDP_BYTES), process.iovec(_in_qemu(guest, gpa), RSDP_BYTES)
    process.syscall("process_vm_readv", guest.pid, ours, 1, theirs, 1, 0).require("process_vm_readv")
    rsdp = bytearray(process.read(memory, RSDP_BYTES))
    rsdp[MAKER] = OURS
    rsdp[CHECKSUM_AT] = 0
    rsdp[CHECKSUM_AT] = -sum(rsdp) % 256
    process.write(memory, bytes(rsdp))
    process.syscall("process_vm_writev", guest.pid, ours, 1, theirs, 1, 0).require("process_vm_writev")
    return maker


def _after_kexec(host: Host, guest: Guest, maker: str) -> list[Check]:
    """Have the guest start another kernel; whose RSDP that takes.

    :param maker: whose the first one was.
    """
    before = guest.boots()
    kexec(host, guest)
    guest.close()  # nothing answers on the old connections
    guest.wait_for_boot(before + 1, Deadline(BOOT))
    _, actual = _rsdp(guest)
    expected = maker if guest.spec.opts_in else OURS.decode()
    return [Check("whose RSDP the other kernel takes", expected, actual), *well(guest)]
