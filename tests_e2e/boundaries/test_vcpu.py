# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's registers: what KVM keeps of them in the kernel's own memory, and what the guest prints of them itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import wait

from paramiko import Channel

from common.errors import ChannelError
from common.waiting import Deadline
from host_setup.channels.puppets import Puppet
from host_setup.channels.uapi import Method
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check
from signoff.trial import Trial
from tests_e2e.support.attack import Aimed, AimedObservation, Answer, Attack, pages_of
from tests_e2e.support.attack_module import attack_by_module
from tests_e2e.support.direct_map import direct_map
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.registers import judge_each, user_canary
from tests_e2e.support.steps import open_file

REGISTER_BYTES = 64  # bytes, in the registers r8 to r15, which KVM keeps one behind the other
HOLDS = 1.0  # seconds at a time, of the guest's time
PAUSE = 0.3  # seconds between two looks
TRIES = 10
CONSOLES = 1000  # from the port of a guest's QMP to that of its console
SECONDS = 20.0

Read = Callable[[Puppet, int], Answer]
"""A way to read what is at a host-physical address."""


def test_kernel_reads_registers_of_a_protected_guest(attack: Attack) -> None:
    """The host's kernel reads what a guest has in registers, in the memory in which KVM keeps them."""

    def read(attacker: Puppet, at: int) -> Answer:
        return Answer(*attack_by_module(attacker, Method.DIRECT_MAP_READ, at, REGISTER_BYTES))

    _read(attack, "direct map", lambda _: read)


def test_root_reads_registers_of_a_protected_guest_by_proc_kcore(attack: Attack) -> None:
    """Root of the host reads what a guest has in registers through /proc/kcore, which shows the kernel's memory."""

    def by_kcore(host: Host) -> Read:
        layout = direct_map(host.ssh)

        def read(attacker: Puppet, at: int) -> Answer:
            with open_file(attacker, "/proc/kcore", os.O_RDONLY) as file:
                buffer = attacker.memory(REGISTER_BYTES)
                done = attacker.syscall("pread64", file, buffer, REGISTER_BYTES, layout.kcore_offset(at))
                return Answer(done, attacker.read(buffer, REGISTER_BYTES))

        return read

    _read(attack, "pread(/proc/kcore)", by_kcore)


def _read(attack: Attack, call: str, way: Callable[[Host], Read]) -> None:
    observations: list[AimedObservation] = []
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        attacker, read = puppeteer.spawn(), way(host)
        for guest, sets in pages_of(host):
            pages = [aimed for aimed in attack.aim(guest, sets) if aimed.planted.kind == "user"]
            answers = [_catch(host, guest, aimed, lambda at: read(attacker, at)) for aimed in pages]
            observations += attack.observe(call, guest, pages, answers)
    attack.judge(observations)


def _catch(host: Host, guest: Guest, aimed: Aimed, read: Callable[[int], Answer]) -> Answer:
    """Have the guest work with its canary in registers, and stop it until KVM has them in memory."""
    for _ in range(TRIES):
        with guest.canaries.holding(aimed.planted, seconds=HOLDS) as holding:
            while not holding.done():
                guest.qmp.execute("stop")
                try:
                    answer = _read_from_kernel(host, aimed, read)
                finally:
                    guest.qmp.execute("cont")
                if answer is not None:
                    return answer
                wait([holding], timeout=PAUSE)  # the guest's turn
    raise ChannelError(f"the registers were nowhere in the host's memory in {TRIES * HOLDS} s")


def _read_from_kernel(host: Host, aimed: Aimed, read: Callable[[int], Answer]) -> Answer | None:
    """Look where in the host's memory they are, but for the guest's own, and read that."""
    registers, at = aimed.planted.content[:REGISTER_BYTES], -1
    with memory_of(host) as memory:
        while (at := memory.find(registers, at + 1)) >= 0:
            if at // PAGE_SIZE * PAGE_SIZE == aimed.target.hpa:
                continue
            answer = read(at)
            if Canary(aimed.planted.content).count_leaked(answer.data) == REGISTER_BYTES:
                return answer
    return None


def test_guest_prints_its_registers_for_qemu(trial: Trial, attack: Attack) -> None:
    """QEMU has its guest print what it has in registers on its console, by a key that the guest's kernel obeys."""
    with attack.pool.fresh() as host:
        judge_each(trial, host, [_print_registers(host, guest) for guest in host.guests])


def _print_registers(host: Host, guest: Guest) -> list[Check]:
    """Press SysRq and p on the guest's first serial port while its program has a canary in r8 to r15."""
    aimed = user_canary(guest)
    canary, most = Canary(aimed.planted.content), 0
    port = guest.spec.qmp_port + CONSOLES
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}
    backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
    guest.qmp.execute("chardev-change", {"id": "serial0", "backend": backend})
    # The kernel reads the port while somebody has it open.
    guest.ssh.run(
        ["sh", "-c", f"sleep {int(TRIES * HOLDS) + 20} < /dev/ttyS0 > /dev/null 2>&1 &"], seconds=20
    ).require()
    stream = host.ssh.jump("127.0.0.1", port, seconds=SECONDS)
    stream.settimeout(SECONDS)
    try:
        for _ in range(TRIES):
            with guest.canaries.holding(aimed.planted, seconds=HOLDS) as holding:
                while most < REGISTER_BYTES and not wait([holding], timeout=PAUSE).done:  # the guest's turn
                    guest.qmp.execute("chardev-send-break", {"id": "serial0"})
                    stream.sendall(b"p")
                    most = max(most, canary.count_leaked(_registers(stream)))
            if most == REGISTER_BYTES:
                break
    finally:
        stream.close()
    return [Check("bytes of the registers on the console", str(REGISTER_BYTES), str(most))]


def _registers(stream: Channel) -> bytes:
    """What the guest prints of r8 to r15; the last line of them is that of r13 to r15.

    It prints with interrupts off, and of its kernel a call trace as well. A key that comes before it has ended makes
    it print again at once, and its program has no turn.
    """
    output, until = stream.recv(4096), Deadline(SECONDS)
    stream.settimeout(PAUSE)
    try:
        while more := stream.recv(4096):
            output += more
            if until.is_over():
                raise ChannelError(f"the guest's console is never silent; it ends with {output[-200:]!r}")
        raise ChannelError(f"the guest's console ended: {output!r}")
    except TimeoutError:
        stream.settimeout(SECONDS)
    words = dict(re.findall(rb"\bR(08|09|1[0-5]): ([0-9a-f]{16})", output))
    return b"".join(int(words.get(b"%02d" % number, b"0"), 16).to_bytes(8, "little") for number in range(8, 16))
