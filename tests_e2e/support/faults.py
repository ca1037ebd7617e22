# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a way met a page: the faults that the host's CPUs take there, by its own tracer.

Of a way that says nothing of a refusal only this shows that it got as far as the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer

INSTANCE = "/sys/kernel/debug/tracing/instances/sealproof-faults"  # a trace of our own, gone with all that it has
EVENTS = ("page_fault_kernel", "page_fault_user")  # arch/x86/mm/fault.c trace_page_fault_entries()


@contextmanager
def faults_at(ssh: Ssh, address: int) -> Iterator[Callable[[], int]]:
    """Have the faults at a page counted meanwhile; gives what tells how many there were.

    :param address: of its first byte, the kernel's or a process's, whichever process it is.
    """

    def shell(script: str) -> str:
        return ssh.run(["sh", "-c", script], seconds=20).require().text

    condition = f"address >= {address:#x} && address < {address + PAGE_SIZE:#x}"
    each = "".join(
        f" && echo '{condition}' > {event}/filter && echo 1 > {event}/enable"
        for event in (f"{INSTANCE}/events/exceptions/{name}" for name in EVENTS)
    )
    shell(f"mkdir {INSTANCE}{each}")
    try:
        yield lambda: int(shell(f"grep -c page_fault_ {INSTANCE}/trace || true"))
    finally:
        shell(f"rmdir {INSTANCE}")


def that_met(ssh: Ssh, address: int, probe: Callable[[], Answer]) -> Answer:
    """What a probe met, with what shows that it met the page: that bytes came, or that a CPU took a fault there.

    Where neither is so the observation is one of nothing, and the claim MISS.
    """
    with faults_at(ssh, address) as faults:
        answer = probe()
        count = faults()
    if any(answer.data):
        return replace(answer, met="bytes of the page came")
    return replace(answer, met=f"the host's CPUs took {count} faults at the page" if count else "")
