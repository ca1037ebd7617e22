# SPDX-License-Identifier: GPL-2.0-or-later
"""The page frame that a canary lay in: what it holds right after its page was taken from it.

Linux clears a frame before it is somebody's next, and not when it is left: until then it holds the page as it was, for
whoever reads the host's memory. The attack module reads it in the direct map, as any other part of the kernel could.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from common.errors import DeadlineError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppet
from host_setup.channels.uapi import ATTACK, Method
from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Target
from tests_e2e.support.attack_module import attempt_by_module
from tests_e2e.support.chain import Call, call, run_chain
from tests_e2e.support.live_memory import live_memory_of
from tests_e2e.support.pagemap import place

REFUSED = "EFAULT"
SETTLES = 3.0  # seconds in which a frame that was given back is cleared


@dataclass(frozen=True, slots=True)
class Frame:
    """A page frame that was left, and what a read of it met.

    :ivar hpa: host-physical. :ivar done: how the read ended. :ivar data: what it got.
    """

    hpa: int
    done: Done
    data: bytes

    @property
    def met(self) -> str:
        """What shows that the frame was read, or that this was refused; empty: neither was so."""
        if self.done.errno not in (None, REFUSED):
            return ""
        return (
            f"a read of the frame at host-physical {self.hpa:#x}, which it left, met: {self.done.errno or 'its bytes'}"
        )


def frame_after(process: Puppet, page: Target, *calls: Call) -> tuple[list[Done], Frame]:
    """Have a process make calls and, at once, have the module read the frame that the page was in before.

    That is asked for now: the probe of another page may have moved this one along, in a huge page.

    :returns: how each call ended, and what the frame held.
    """
    frame = place(process, page.qemu, page.hva).frame
    hpa = page.hpa if frame is None else frame * PAGE_SIZE
    attempt = attempt_by_module(process, Method.DIRECT_MAP_READ, hpa, bytes(PAGE_SIZE))
    *results, request = run_chain(process, *calls, call("ioctl", attempt.device, ATTACK, attempt.request))
    request.require("the attack module's ioctl")
    return results, Frame(hpa, *attempt.outcome(process))


def content_later(host: Host, frame: Frame) -> bytes:
    """What a frame holds that the host's kernel could not read, seen from outside when it had time to be cleared.

    Nothing on a real machine, which has no outside.
    """
    if frame.done.errno != REFUSED or host.qemu is None:
        return b""
    # A page that was new lies in a list of its CPU, which holds it until that is emptied (mm/swap.c).
    host.ssh.run(["sh", "-c", "echo 1 > /proc/sys/vm/drop_caches"], seconds=20).require()
    with live_memory_of(host) as memory:
        with contextlib.suppress(DeadlineError):  # then somebody uses it already: it is looked at all the same
            poll_until(
                lambda: not any(memory.page(frame.hpa // PAGE_SIZE)), Deadline(SETTLES), "a clear frame", interval=0.1
            )
        return memory.page(frame.hpa // PAGE_SIZE)
