# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM keeps of a guest's CPU in the kernel's own memory: the registers, whatever is in them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait

from common.errors import ChannelError
from host_setup.channels.puppets import Puppet
from host_setup.channels.uapi import Method
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary
from tests_e2e.support.attack import Aimed, Attack, Got, Seen, pages_of
from tests_e2e.support.attack_module import attack_by_module
from tests_e2e.support.direct_map import direct_map
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.steps import open_file

HELD = 64  # bytes, in the registers r8 to r15, which KVM keeps one behind the other
HOLDS = 1.0  # seconds at a time, of the guest's time
PAUSE = 0.3  # seconds between two looks
TRIES = 10
O_RDONLY = 0

Read = Callable[[Puppet, int], Got]
"""A way to read what is at a host-physical address."""


def test_kernel_reads_registers_of_a_protected_guest(attack: Attack) -> None:
    """The host's kernel reads what a guest has in registers, in the memory in which KVM keeps them."""

    def read(attacker: Puppet, at: int) -> Got:
        return Got(*attack_by_module(attacker, Method.DIRECT_MAP_READ, at, HELD))

    _read(attack, "direct map", lambda _: read)


def test_root_reads_registers_of_a_protected_guest_by_proc_kcore(attack: Attack) -> None:
    """Root of the host reads what a guest has in registers through /proc/kcore, which shows the kernel's memory."""

    def by_kcore(host: Host) -> Read:
        layout = direct_map(host.ssh)

        def read(attacker: Puppet, at: int) -> Got:
            with open_file(attacker, "/proc/kcore", O_RDONLY) as file:
                buffer = attacker.memory(HELD)
                done = attacker.syscall("pread64", file, buffer, HELD, layout.kcore_offset(at))
                return Got(done, attacker.read(buffer, HELD))

        return read

    _read(attack, "pread(/proc/kcore)", by_kcore)


def _read(attack: Attack, call: str, way: Callable[[Host], Read]) -> None:
    seen: list[Seen] = []
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        attacker, read = puppeteer.spawn(), way(host)
        for guest, sets in pages_of(host):
            pages = [aimed for aimed in attack.aim(guest, sets) if aimed.planted.kind == "user"]
            got = [_caught(host, guest, aimed, lambda at: read(attacker, at)) for aimed in pages]
            seen += attack.observe(call, guest, pages, got)
    attack.judge(seen)


def _caught(host: Host, guest: Guest, aimed: Aimed, read: Callable[[int], Got]) -> Got:
    """Have the guest work with its canary in registers, and stop it until KVM has them in memory."""
    for _ in range(TRIES):
        with guest.canaries.holding(aimed.planted, seconds=HOLDS) as held:
            while not held.done():
                guest.qmp.execute("stop")
                try:
                    got = _kept_by_kvm(host, aimed, read)
                finally:
                    guest.qmp.execute("cont")
                if got is not None:
                    return got
                wait([held], timeout=PAUSE)  # the guest's turn
    raise ChannelError(f"the registers were nowhere in the host's memory in {TRIES * HOLDS} s")


def _kept_by_kvm(host: Host, aimed: Aimed, read: Callable[[int], Got]) -> Got | None:
    """Look where in the host's memory they are, but for the guest's own, and read that."""
    registers, at = aimed.planted.content[:HELD], -1
    with memory_of(host) as memory:
        while (at := memory.find(registers, at + 1)) >= 0:
            if at // PAGE_SIZE * PAGE_SIZE == aimed.target.hpa:
                continue
            got = read(at)
            if Canary(aimed.planted.content).leaked(got.data) == HELD:
                return got
    return None
