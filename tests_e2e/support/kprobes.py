# SPDX-License-Identifier: GPL-2.0-or-later
"""kprobe events in a trace of their own (Documentation/trace/kprobetrace.rst, ftrace.rst on instances)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from host_setup.channels.ssh import Ssh
from tests_e2e.support.kprobe_event import TRACING

GROUP = "sealproof"
COUNTS = re.compile(r"^(?:entries|overrun): (\d+)$", re.MULTILINE)
ENTRIES = re.compile(r"^entries: (\d+)$", re.MULTILINE)
BYTES = re.compile(r"^bytes: (\d+)$", re.MULTILINE)
TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """An event at a function's start, or at ``function+offset``.

    :ivar fetched: what it takes down. :ivar only: a filter, of these.
    """

    function: str
    fetched: str
    only: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What the events have put down. :ivar path: of the instance."""

    ssh: Ssh
    path: str

    def content(self) -> bytes:
        """All of it, as the tracer prints it: strings as they are."""
        return self.ssh.run(["cat", f"{self.path}/trace"], seconds=TIMEOUT).require().stdout

    def count(self) -> int:
        """How many events there were, those included that have made room for others."""
        return sum(map(int, COUNTS.findall(self._statistics())))

    def mean_size(self) -> float:
        """Bytes that an event takes of the trace, where it has any; those that made room for others are left out."""
        statistics = self._statistics()
        return sum(map(int, BYTES.findall(statistics))) / max(1, sum(map(int, ENTRIES.findall(statistics))))

    def _statistics(self) -> str:
        return self.ssh.run(["sh", "-c", f"cat {self.path}/per_cpu/cpu*/stats"], seconds=TIMEOUT).require().text


@contextmanager
def events(ssh: Ssh, name: str, hits: Sequence[Event], *, option: str = "", kib: int = 0) -> Iterator[Trace]:
    """Have events put down in a trace of that name meanwhile.

    :param option: of the trace's, to be switched on. :param kib: room for each processor; 0: what the tracer gives.
    :raises ChannelError: the kernel does not take one of them.
    """
    trace = Trace(ssh, f"{TRACING}/instances/{GROUP}-{name}")
    ids = {f"{GROUP}/{name}{number}": event for number, event in enumerate(hits)}

    def shell(*steps: str) -> None:
        ssh.run(["sh", "-c", " && ".join((f"cd {TRACING}", *steps))], seconds=TIMEOUT).require()

    shell(
        *(f"echo 'p:{event_id} {event.function} {event.fetched}' >> kprobe_events" for event_id, event in ids.items()),
        f"mkdir {trace.path}",
        f"cd {trace.path}",
        *([f"echo {kib} > buffer_size_kb"] if kib else []),
        *([f"echo 1 > options/{option}"] if option else []),
        *(f"echo '{event.only}' > events/{event_id}/filter" for event_id, event in ids.items()),
        *(f"echo 1 > events/{event_id}/enable" for event_id in ids),
    )
    try:
        yield trace
    finally:
        shell(f"rmdir {trace.path}", *(f"echo '-:{event_id}' >> kprobe_events" for event_id in ids))
