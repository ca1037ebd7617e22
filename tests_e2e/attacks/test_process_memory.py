# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by another process, for which the kernel fetches the page with get_user_pages."""

from __future__ import annotations

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Attack, Got, Target

O_RDWR = 2
PTRACE_PEEKDATA = 2  # linux/ptrace.h
WORD = 8


def test_host_cannot_read_private_page_by_proc_pid_mem(attack: Attack) -> None:
    """The host cannot read a private page of a guest through /proc/PID/mem of its QEMU."""

    def probe(attacker: Puppet, page: Target) -> Got:
        memory = attacker.open(f"/proc/{page.qemu}/mem", O_RDWR)
        buffer = attacker.memory(PAGE_SIZE)
        done = attacker.syscall("pread64", memory, buffer, PAGE_SIZE, page.hva)
        return Got(done, attacker.read(buffer, PAGE_SIZE))

    attack.by_a_process("pread(/proc/PID/mem)", probe)


def test_host_cannot_write_private_page_by_proc_pid_mem(attack: Attack) -> None:
    """The host cannot overwrite a private page of a guest through /proc/PID/mem of its QEMU."""

    def probe(attacker: Puppet, page: Target) -> Got:
        memory = attacker.open(f"/proc/{page.qemu}/mem", O_RDWR)
        done = attacker.syscall("pwrite64", memory, attacker.memory(PATTERN), PAGE_SIZE, page.hva)
        return Got(done, wrote=PATTERN)

    attack.by_a_process("pwrite(/proc/PID/mem)", probe)


def test_host_cannot_read_private_page_by_process_vm_readv(attack: Attack) -> None:
    """The host cannot read a private page of a guest by process_vm_readv()."""

    def probe(attacker: Puppet, page: Target) -> Got:
        buffer = attacker.memory(PAGE_SIZE)
        here, there = attacker.iovec(buffer, PAGE_SIZE), attacker.iovec(page.hva, PAGE_SIZE)
        done = attacker.syscall("process_vm_readv", page.qemu, here, 1, there, 1, 0)
        return Got(done, attacker.read(buffer, PAGE_SIZE))

    attack.by_a_process("process_vm_readv", probe)


def test_host_cannot_read_private_page_by_ptrace_peekdata(attack: Attack) -> None:
    """The host cannot read a word of a private page of a guest by ptrace(PTRACE_PEEKDATA)."""

    def probe(attacker: Puppet, page: Target) -> Got:
        word = attacker.memory(WORD)
        with attacker.tracing(page.qemu):
            done: Done = attacker.syscall("ptrace", PTRACE_PEEKDATA, page.qemu, page.hva, word)
        return Got(done, attacker.read(word, WORD))

    attack.by_a_process("ptrace(PTRACE_PEEKDATA)", probe)
