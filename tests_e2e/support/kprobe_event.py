# SPDX-License-Identifier: GPL-2.0-or-later
"""A kprobe event that fetches kernel memory (Documentation/trace/kprobetrace.rst)."""

from __future__ import annotations

import struct

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet
from host_setup.channels.ssh import Ssh

TRACING = "/sys/kernel/debug/tracing"
EVENT = "sealproof/fetch"
CALL, FUNCTION = "sched_yield", "__x64_sys_sched_yield"  # never fails, and leaves nothing behind
WORDS = 64  # of 8 bytes, as many as the tracer fetches for one argument
FETCHED = WORDS * 8
FAULT = "(fault)"


def read_by_event(ssh: Ssh, process: Puppet, address: int, size: int) -> tuple[Done, bytes]:
    """Have a kprobe event fetch kernel memory while the process makes a system call.

    :param size: bytes, ``FETCHED`` at most and a multiple of 8.
    :returns: how that call ended, and the bytes that the trace has.
    :raises ChannelError: no such event can be had, or it did not happen.
    """
    _shell(
        ssh,
        f"cd {TRACING} && echo > trace && echo 'p:{EVENT} {FUNCTION} words=@{address:#x}:x64[{size // 8}]' >"
        f" kprobe_events && echo 'common_pid == {process.pid}' > events/{EVENT}/filter && echo 1 >"
        f" events/{EVENT}/enable",
    )
    try:
        done = process.syscall(CALL)
        trace = _shell(ssh, f"cat {TRACING}/trace")
    finally:
        _shell(ssh, f"cd {TRACING} && echo 0 > events/{EVENT}/enable && echo > kprobe_events && echo > trace")
    return done, parse(trace)


def parse(trace: str) -> bytes:
    """The bytes of the one event in a trace; those that could not be fetched are missing.

    :raises ChannelError: the trace has no event, or more than one.
    """
    hits = [line.partition(" words=")[2] for line in trace.splitlines() if " words=" in line]
    if len(hits) != 1:
        raise ChannelError(f"{len(hits)} events in the trace, not 1", hint=trace[-500:])
    words = hits[0].strip().strip("{}").split(",")
    return b"".join(struct.pack("<Q", int(word, 16)) for word in words if word != FAULT)


def _shell(ssh: Ssh, script: str) -> str:
    return ssh.run(["sh", "-c", script], seconds=20).require().text
