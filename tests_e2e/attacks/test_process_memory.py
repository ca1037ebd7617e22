# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by another process, for which the kernel fetches the page with get_user_pages."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.steps import open_file, read_pending

PTRACE_PEEKDATA, PTRACE_POKEDATA = 2, 5  # linux/ptrace.h
PR_SET_MM, PR_SET_MM_ARG_START, PR_SET_MM_ENV_START = 35, 8, 10  # linux/prctl.h
ARG_START, ENV_START = 48, 50  # fields of /proc/PID/stat, counted from 1: Documentation/filesystems/proc.rst
WORD = 8


@pytest.mark.quick
def test_host_cannot_read_private_page_by_proc_pid_mem(attack: Attack) -> None:
    """The host cannot read a private page of a guest through /proc/PID/mem of its QEMU."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        memory = attacker.open(f"/proc/{page.qemu}/mem", os.O_RDWR)
        buffer = attacker.memory(PAGE_SIZE)
        done = attacker.syscall("pread64", memory, buffer, PAGE_SIZE, page.hva)
        return Answer(done, attacker.read(buffer, PAGE_SIZE))

    attack.by_a_process("pread(/proc/PID/mem)", probe)


@pytest.mark.quick
def test_host_cannot_write_private_page_by_proc_pid_mem(attack: Attack) -> None:
    """The host cannot overwrite a private page of a guest through /proc/PID/mem of its QEMU."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        memory = attacker.open(f"/proc/{page.qemu}/mem", os.O_RDWR)
        done = attacker.syscall("pwrite64", memory, attacker.memory(PATTERN), PAGE_SIZE, page.hva)
        return Answer(done, wrote=PATTERN)

    attack.by_a_process("pwrite(/proc/PID/mem)", probe)


@pytest.mark.quick
def test_host_cannot_read_private_page_by_process_vm_readv(attack: Attack) -> None:
    """The host cannot read a private page of a guest by process_vm_readv()."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        buffer = attacker.memory(PAGE_SIZE)
        here, there = attacker.iovec(buffer, PAGE_SIZE), attacker.iovec(page.hva, PAGE_SIZE)
        done = attacker.syscall("process_vm_readv", page.qemu, here, 1, there, 1, 0)
        return Answer(done, attacker.read(buffer, PAGE_SIZE))

    attack.by_a_process("process_vm_readv", probe)


@pytest.mark.quick
def test_host_cannot_read_private_page_by_ptrace_peekdata(attack: Attack) -> None:
    """The host cannot read a word of a private page of a guest by ptrace(PTRACE_PEEKDATA)."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        word = attacker.memory(WORD)
        with attacker.tracing(page.qemu):
            done: Done = attacker.syscall("ptrace", PTRACE_PEEKDATA, page.qemu, page.hva, word)
        return Answer(done, attacker.read(word, WORD))

    attack.by_a_process("ptrace(PTRACE_PEEKDATA)", probe)


def test_host_cannot_write_private_page_by_ptrace_pokedata(attack: Attack) -> None:
    """The host cannot overwrite a word of a private page of a guest by ptrace(PTRACE_POKEDATA)."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        word = PATTERN[:WORD]
        with attacker.tracing(page.qemu):
            done: Done = attacker.syscall("ptrace", PTRACE_POKEDATA, page.qemu, page.hva, *struct.unpack("<Q", word))
        return Answer(done, wrote=word)

    attack.by_a_process("ptrace(PTRACE_POKEDATA)", probe)


def test_host_cannot_write_private_page_by_process_vm_writev(attack: Attack) -> None:
    """The host cannot overwrite a private page of a guest by process_vm_writev()."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        here, there = attacker.iovec(attacker.memory(PATTERN), PAGE_SIZE), attacker.iovec(page.hva, PAGE_SIZE)
        return Answer(attacker.syscall("process_vm_writev", page.qemu, here, 1, there, 1, 0), wrote=PATTERN)

    attack.by_a_process("process_vm_writev", probe)


def test_host_cannot_read_on_into_private_page_by_proc_pid_mem(attack: Attack) -> None:
    """A read through /proc/PID/mem that starts in a page that is not private ends where the private one begins."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        buffer = attacker.memory(2 * PAGE_SIZE)
        with open_file(attacker, f"/proc/{page.qemu}/mem") as memory:
            done = attacker.syscall("pread64", memory, buffer, 2 * PAGE_SIZE, page.hva - PAGE_SIZE)
        return Answer(done, attacker.read(buffer, 2 * PAGE_SIZE))

    attack.by_a_process("pread(/proc/PID/mem) of two pages", probe)


def test_host_cannot_read_on_into_private_page_by_process_vm_readv(attack: Attack) -> None:
    """One segment of process_vm_readv() that starts in a page that is not private ends where the private one begins."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        return _read_by_process_vm(attacker, page, struct.pack("<QQ", page.hva - PAGE_SIZE, 2 * PAGE_SIZE))

    attack.by_a_process("process_vm_readv of two pages", probe)


def test_host_cannot_read_private_page_as_second_segment_of_process_vm_readv(attack: Attack) -> None:
    """Of two segments process_vm_readv() copies the first, and not the second, which is a private page."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        there = struct.pack("<QQQQ", page.hva - PAGE_SIZE, PAGE_SIZE, page.hva, PAGE_SIZE)
        return _read_by_process_vm(attacker, page, there)

    attack.by_a_process("process_vm_readv of two segments", probe)


def _read_by_process_vm(attacker: Puppet, page: Target, there: bytes) -> Answer:
    """Two pages of QEMU's, from segments that the caller names."""
    buffer = attacker.memory(2 * PAGE_SIZE)
    here, segments = attacker.iovec(buffer, 2 * PAGE_SIZE), len(there) // 16
    done = attacker.syscall("process_vm_readv", page.qemu, here, 1, attacker.memory(there), segments, 0)
    return Answer(done, attacker.read(buffer, 2 * PAGE_SIZE))


def test_host_cannot_read_private_page_by_proc_pid_cmdline(attack: Attack) -> None:
    """A QEMU that says its arguments are a private page of its guest does not give it away in /proc/PID/cmdline."""
    attack.by_qemu("read(/proc/PID/cmdline)", _read_as("cmdline", PR_SET_MM_ARG_START, ARG_START))


def test_host_cannot_read_private_page_by_proc_pid_environ(attack: Attack) -> None:
    """A QEMU that says its environment is a private page of its guest does not give it away in /proc/PID/environ."""
    attack.by_qemu("read(/proc/PID/environ)", _read_as("environ", PR_SET_MM_ENV_START, ENV_START))


def _read_as(name: str, which: int, field: int) -> Callable[[Puppet, Target], Answer]:
    """A probe: the kernel is told that arguments or environment start in the page, and then asked for them.

    Their end stays where it is, far behind: with the arguments' last byte not 0 the kernel would stop at the first 0.
    """

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_file(qemu, "/proc/self/stat", os.O_RDONLY) as stat:
            # The name of the command may hold blanks; behind its parenthesis no field does.
            before = int(read_pending(qemu, stat, PAGE_SIZE).rpartition(b")")[2].split()[field - 3])
        qemu.syscall("prctl", PR_SET_MM, which, page.hva, 0, 0).require("PR_SET_MM")
        buffer = qemu.memory(PAGE_SIZE)
        with open_file(qemu, f"/proc/self/{name}", os.O_RDONLY) as file:
            done = qemu.syscall("read", file, buffer, PAGE_SIZE)
        qemu.syscall("prctl", PR_SET_MM, which, before, 0, 0).require("PR_SET_MM back")
        return Answer(done, qemu.read(buffer, PAGE_SIZE))

    return probe
