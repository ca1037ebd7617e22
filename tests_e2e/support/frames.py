# SPDX-License-Identifier: GPL-2.0-or-later
"""The page frame that a canary lay in: what it holds right after its page was taken from it.

Linux clears a frame before it is somebody's next, and not when it is left: until then it holds the page as it was, for
whoever reads the host's memory. The attack module reads it in the direct map, as any other part of the kernel could.
"""

from __future__ import annotations

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Target
from tests_e2e.support.attack_module import DIRECT_MAP_READ, SEALPROOF_ATTACK, attempt_by_module
from tests_e2e.support.chain import Call, call, chained
from tests_e2e.support.pagemap import place


def frame_after(process: Puppet, page: Target, *calls: Call) -> tuple[list[Done], bytes]:
    """Have a process make calls and, at once, have the module read the frame that the page was in before.

    That is asked for now: the probe of another page may have moved this one along, in a huge page.

    :returns: how each call ended, and what the frame held; empty if the module could not read it.
    """
    frame = place(process, page.qemu, page.hva).frame
    hpa = page.hpa if frame is None else frame * PAGE_SIZE
    attempt = attempt_by_module(process, DIRECT_MAP_READ, hpa, bytes(PAGE_SIZE))
    *ended, asked = chained(process, *calls, call("ioctl", attempt.device, SEALPROOF_ATTACK, attempt.request))
    asked.require("the attack module's ioctl")
    return ended, attempt.met(process)[1]
