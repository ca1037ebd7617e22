# SPDX-License-Identifier: GPL-2.0-or-later
"""The watch over all rows: it must see what it is there for, so that is made to happen, in a VM of our own."""

from __future__ import annotations

import json

from host_setup.channels.puppets import Puppet
from host_setup.hosts import exits
from host_setup.hosts.base import Host
from host_setup.hosts.exits import MMIO, Exits, KvmExit
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from signoff.observation import PAGE_SIZE, Check
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.kvm import FORCED, OUT_80, second_vm

# 16-bit code: mov [si], eax; mov eax, [si]. Emulated, as KVM gives up on memory that it cannot reach only there.
STORE, LOAD = (FORCED + bytes.fromhex(code) + OUT_80 for code in ("668904", "668b04"))
CODE, UNREACHABLE, NOTHING = 0x10000, 0x20000, 0x30000  # guest-physical
NO_ACCESS = 0


def test_memory_that_goes_to_the_vmm_as_a_devices_is_noticed(trial: Trial, host: Host) -> None:
    """The watch over a guest's exits tells an access to memory that KVM hands to the VMM from one to a device."""
    with Attack.puppeteer(host) as puppeteer:
        process = puppeteer.spawn()
        reasons = [
            str(_one_access(process, code, target))
            for code, target in ((STORE, NOTHING), (LOAD, NOTHING), (STORE, UNREACHABLE), (LOAD, UNREACHABLE))
        ]
        exits = _exits(host, process)
    noted = [KvmExit(MMIO, is_write=write, gpa=UNREACHABLE, length=4) for write in (True, False)]
    trial.legitimate(
        [
            Check("how KVM_RUN ended", str([str(MMIO)] * 4), str(reasons)),
            Check("ends that were counted", "4", str(exits.total)),
            Check("of these, for devices", "2", str(exits.device)),
            Check("what was noted", str(list(map(str, noted))), str(exits.lines_since(0))),
        ]
    )


def _one_access(process: Puppet, code: bytes, target: int) -> int:
    """Have a VM make one access to a guest-physical address; the exit's reason."""
    hidden = process.memory(PAGE_SIZE)
    process.syscall("mprotect", hidden, PAGE_SIZE, NO_ACCESS).require("mprotect")
    with second_vm(process) as (vm, cpu):
        vm.region(0, CODE, PAGE_SIZE, process.memory(code.ljust(PAGE_SIZE, b"\0"))).require("a slot for code")
        vm.region(1, UNREACHABLE, PAGE_SIZE, hidden).require("a slot that nobody reaches")
        cpu.aim(CODE, target, target)
        return cpu.run().require("KVM_RUN")


def _exits(host: Host, process: Puppet) -> Exits:
    info = host.ssh.converse([f"{HOST_PROGRAMS}/page_info", str(process.pid)], seconds=10)
    try:
        return exits.parse(json.loads(info.ask("exits", seconds=10)[0]))
    finally:
        info.close()
