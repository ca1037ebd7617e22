# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM keeps of a guest's CPU in the kernel's own memory, and gives the VMM: the registers, whatever is in them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary
from tests_e2e.support.attack import Aimed, Attack, Got, Seen, pages_of
from tests_e2e.support.attack_module import DIRECT_MAP_READ, attack_by_module
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.kvm import R8_TO_R15, own_vm

HELD = 64  # bytes
HOLDS = 2.0  # seconds at a time
PAUSE = 0.1  # seconds between two looks
TRIES = 5


def test_qemu_reads_registers_of_a_protected_guest(attack: Attack) -> None:
    """QEMU reads what its guest has in registers, by KVM_GET_REGS."""
    _in_registers(attack, attack.host, "KVM_GET_REGS", lambda _, __, registers: Got(Done(0), registers))


def test_kernel_reads_registers_of_a_protected_guest(attack: Attack) -> None:
    """The host's kernel reads what a guest has in registers, in the memory in which KVM keeps them."""
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        attacker = puppeteer.spawn()
        _in_registers(attack, host, "direct map", lambda aimed, _, found: _kept_by_kvm(host, attacker, aimed, found))


def _in_registers(attack: Attack, host: Host, call: str, probe: Callable[[Aimed, Puppet, bytes], Got]) -> None:
    """Have each guest work with its canary in registers, stop it, and try to learn what they hold.

    :param probe: gets the canary, QEMU, and what KVM says that r8 to r15 are.
    """
    seen: list[Seen] = []
    for guest, sets in pages_of(host):
        pages = [aimed for aimed in attack.aim(guest, sets) if aimed.planted.kind == "user"]
        got = [_caught(attack, host, guest, aimed, probe) for aimed in pages]
        seen += attack.observe(call, guest, pages, got)
    attack.judge(seen)


def _caught(
    attack: Attack, host: Host, guest: Guest, aimed: Aimed, probe: Callable[[Aimed, Puppet, bytes], Got]
) -> Got:
    canary = Canary(aimed.planted.content)
    with attack.puppeteer(host) as puppeteer:
        for _ in range(TRIES):
            with guest.holding(aimed.planted, seconds=HOLDS) as held:
                while not held.done():
                    with own_vm(host, puppeteer, guest) as own:
                        registers = own.cpu.general_registers()[R8_TO_R15]
                        if canary.leaked(registers) == HELD:
                            return probe(aimed, own.qemu, registers)
                    wait([held], timeout=PAUSE)  # the guest's turn
    raise ChannelError(f"the guest was never seen with its canary in registers, which it held for {TRIES * HOLDS} s")


def _kept_by_kvm(host: Host, attacker: Puppet, aimed: Aimed, registers: bytes) -> Got:
    """Look where in the host's memory they are, but for the guest's own page, and have the kernel read that."""
    at = -1
    with memory_of(host) as memory:
        while (at := memory.find(registers, at + 1)) >= 0:
            if at // PAGE_SIZE * PAGE_SIZE != aimed.target.hpa:
                return Got(*attack_by_module(attacker, DIRECT_MAP_READ, at, HELD))
    raise ChannelError("the registers are nowhere in the host's memory")
