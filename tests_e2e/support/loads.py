# SPDX-License-Identifier: GPL-2.0-or-later
"""The plainest looks at a page: a process copies it by loads of its own, many pages, too; or another one reads it."""

from __future__ import annotations

import signal
import struct

from common.errors import ChannelError
from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer, Target

REP_MOVSB = bytes.fromhex("f3a4")  # copies rcx bytes from [rsi] to [rdi]


def load(who: Puppet, address: int) -> Answer:
    """Copy the page at an address of ``who``; a load returns nothing, its data speaks."""
    buffer = who.memory(PAGE_SIZE)
    done = who.run(REP_MOVSB, rsi=address, rdi=buffer, rcx=PAGE_SIZE)
    return Answer(done.as_a_load(), who.read(buffer, PAGE_SIZE))


def read(who: Puppet, page: Target) -> bytes | None:
    """What another process reads of a page by process_vm_readv(); None: it is refused."""
    buffer = who.memory(PAGE_SIZE)
    here, there = who.iovec(buffer, PAGE_SIZE), who.iovec(page.hva, PAGE_SIZE)
    done = who.syscall("process_vm_readv", page.qemu, here, 1, there, 1, 0)
    return who.read(buffer, PAGE_SIZE) if done.returned == PAGE_SIZE else None


# For a load of each of many pages: a process that shares QEMU's memory and has signal handlers of its own loads a byte
# of each page, and goes on behind a load that faults. QEMU's thread waits for its end.
# rdi: the first page, rsi: how many, rdx: a byte for each, r8: a stack, r9: a struct sigaction of the kernel's
LOAD_EACH = bytes.fromhex(
    # mov r12, rdi; mov r13, rsi; mov r14, rdx; mov r15, r9
    "4989fc4989f54989d64d89cf"
    # clone(CLONE_VM, r8, 0, 0, 0)
    "b838000000bf000100004c89c631d24531d24531c00f05"
    # test eax, eax; jz child; js end; wait4(rax, 0, __WALL, 0); jmp end
    "85c0742f0f888c0000004889c7b83d00000031f6ba000000404531d20f05eb76"
    # handler: mov [r14], dil (the signal); add qword [rdx + 168], 8 (rip: past both of next); ret
    "41883e488382a800000008c3"
    # restorer: rt_sigreturn()
    "b80f0000000f05"
    # child: lea rax, [handler]; mov [r15], rax; lea rax, [restorer]; mov [r15 + 16], rax
    "488d05e6ffffff498907488d05e8ffffff49894710"
    # rt_sigaction(SIGBUS, r15, 0, 8); rt_sigaction(SIGSEGV, r15, 0, 8)
    "b80d000000bf070000004c89fe31d241ba080000000f05b80d000000bf0b0000004c89fe31d241ba080000000f05"
    # next: mov al, [r12]; mov byte [r14], 1; add r12, 4096; inc r14; dec r13; jnz next
    "418a042441c606014981c40010000049ffc649ffcd75e9"
    # exit(0); end:
    "b83c00000031ff0f05"
)
ACTION = struct.Struct("<QQQQ")  # handler, flags, restorer, mask
FLAGS = 0x44000004  # SA_NODEFER, SA_RESTORER, SA_SIGINFO
STACK = 1 << 16  # bytes; a signal's frame has up to 11 KiB of vector registers
AT_ONCE = 4096  # pages; a puppet's code must end within seconds
LOADED = 1


def loads_of_each(who: Puppet, first: int, count: int) -> list[str | None]:
    """How a load from each of many pages ends: the signal; None: it succeeds.

    :raises ChannelError: not all were tried.
    """
    met: list[str | None] = []
    stack, action = who.memory(STACK), who.memory(ACTION.pack(0, FLAGS, 0, 0))
    results = who.memory(AT_ONCE)
    for at in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - at)
        who.write(results, bytes(size))
        start = first + at * PAGE_SIZE
        outcome = who.run(LOAD_EACH, rdi=start, rsi=size, rdx=results, r8=stack + STACK - 16, r9=action)
        content = who.read(results, size)
        if outcome.signal is not None or 0 in content:
            raise ChannelError(f"loads from {size} pages at {start:#x}: {outcome}, {content.count(0)} not tried")
        met += [None if load_ == LOADED else signal.Signals(load_).name for load_ in content]
    return met
