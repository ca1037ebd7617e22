# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU that stops in the moment in which KVM has shared pages for its guest, before the guest runs on.

A VMM can interrupt its CPU's thread at any time, and sooner or later meets that moment. Here a BPF program at the
tracepoint of KVM's hypercalls sends the signal, so that it comes each time: KVM carries out the request, finds the
signal, and does not enter the guest again.
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from tests_e2e.support.bpf import CALL, EXIT, MOV_IMM, PROG_TYPE_RAW_TRACEPOINT, bpf, instruction, program_of
from tests_e2e.support.steps import closing

RAW_TRACEPOINT_OPEN = 17  # linux/bpf.h
LOAD_REG64, JUMP_UNLESS_EQUAL_IMM = 0x79, 0x55
SEND_SIGNAL = 109  # enum bpf_func_id
TRACEPOINT = b"kvm_hypercall\0"  # arch/x86/kvm/trace.h; its first argument is the hypercall's number
KVM_HC_MEM_SHARE = 14  # Documentation/virt/kvm/x86/hypercalls.rst of the series
STOPPED = "T"  # Documentation/filesystems/proc.rst, the field "state" of /proc/PID/stat


@contextmanager
def stops_when_it_shares(process: Puppet) -> Iterator[None]:
    """Meanwhile each QEMU stops whenever its guest has shared pages; ``goes_on`` lets it run.

    :raises ChannelError: the kernel does not take the program.
    """
    code = b"".join(
        (
            instruction(LOAD_REG64, 2, source=1),  # r2: the hypercall's number
            instruction(JUMP_UNLESS_EQUAL_IMM, 2, offset=2, immediate=KVM_HC_MEM_SHARE),
            instruction(MOV_IMM, 1, immediate=signal.SIGSTOP),
            instruction(CALL, immediate=SEND_SIGNAL),
            instruction(MOV_IMM, 0),
            instruction(EXIT),
        )
    )
    with program_of(process, PROG_TYPE_RAW_TRACEPOINT, code) as program:
        at = struct.pack("<QI", process.memory(TRACEPOINT), program)
        with closing(process, bpf(process, RAW_TRACEPOINT_OPEN, at).require(f"a program at {TRACEPOINT!r}")):
            yield


def is_stopped(ssh: Ssh, pid: int) -> bool:
    """Whether a process of the host is stopped by a signal."""
    state = ssh.run(["cat", f"/proc/{pid}/stat"], seconds=20).require().text
    return state.rpartition(")")[2].split()[0] == STOPPED


def goes_on(process: Puppet, pid: int) -> None:
    """Let a stopped process run."""
    process.syscall("kill", pid, signal.SIGCONT).require("SIGCONT")
