# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's own tracer (Documentation/trace/events.rst): what its events print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from host_setup.channels.ssh import Ssh
from tests_e2e.support.kprobe_event import TRACING


@contextmanager
def trace_events(ssh: Ssh, *events: str, threads: Sequence[int] = ()) -> Iterator[Callable[[], str]]:
    """Have the host trace events meanwhile; gives what tells the trace.

    :param threads: whose events; empty: everybody's.
    """

    def shell(script: str) -> str:
        return ssh.run(["sh", "-c", f"cd {TRACING} && {script}"], seconds=20).require().text

    def switch(value: int) -> str:
        return "".join(f" && echo {value} > events/{event}/enable" for event in events)

    shell(f"echo > trace && echo {' '.join(map(str, threads))} > set_event_pid{switch(1)}")
    try:
        yield lambda: shell("cat trace")
    finally:
        shell(f"true{switch(0)} && echo > set_event_pid && echo > trace")


def threads_of(ssh: Ssh, pid: int) -> list[int]:
    """The threads of a process."""
    return [int(name) for name in ssh.run(["ls", f"/proc/{pid}/task"], seconds=10).require().text.split()]
