# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a probe did not end: by its own fault, or because a kernel under test died or hangs."""

from __future__ import annotations

from contextlib import closing

from common import oops
from common.errors import ChannelError, DeadlineError, SealproofError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppeteer
from host_setup.hosts import kernel_log
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import HOST_PROGRAMS

BEAT = 10.0  # seconds without a heartbeat after which a guest counts as stalled; it beats twice a second
MEMBARRIER_CMD_GLOBAL = 1  # membarrier(2): it waits for each processor to have left the kernel, or its idle task


def harm_to(host: Host, *, thorough: bool) -> list[str]:
    """Faults of the kernels of a host and its guests, one paragraph each; empty if there are none.

    :param thorough: host and guests are asked too, which may take ``BEAT`` seconds for each. A host that hangs is lost.
    """
    if thorough and host.vitals.reason is None and (stall := _stall_of(host)):
        host.vitals.note_loss(f"hangs: {stall}", harm=True)
    if host.vitals.reason is not None:
        return [f"the host: {host.vitals.reason}"] if host.vitals.harm else []
    return [words for guest in host.all_guests if (words := _harm_to_guest(guest))] if thorough else []


def _stall_of(host: Host) -> str:
    """Where a host hangs that may still answer: its kernel says that a processor stalled, and it is not over.

    With one processor the call waits for no other one: there, that the host answers is the proof.

    :raises ChannelError: the kernel refuses the call.
    """
    stalls = [message.words for message in oops.find(host.kernel_log()) if message.kind in oops.STALLS]
    if not stalls:
        return ""
    try:
        # By a session of its own: that of a call which came late is closed, whoever was to blame.
        with closing(host.log_in(BEAT)) as ssh, closing(Puppeteer(ssh, f"{HOST_PROGRAMS}/puppeteer")) as puppeteer:
            done = puppeteer.spawn().syscall("membarrier", MEMBARRIER_CMD_GLOBAL, 0, seconds=BEAT)
    except (ChannelError, DeadlineError):
        return stalls[-1]
    done.require("membarrier")
    return ""  # the computer was busy, and the processor waited for its turn


def _harm_to_guest(guest: Guest) -> str:
    if guest.stopped:
        return ""
    name, reason = guest.vitals.name, guest.vitals.reason
    try:
        tail = guest.console_tail()
        if any(map(kernel_log.fatal, tail.splitlines())):
            return f"{name}: kernel died{f': {reason}' if reason else ''}\n{tail}"
        if reason is not None:
            return f"{name}: {reason}\n{tail}" if guest.vitals.harm else ""
        return "" if _beats(guest) else f"{name}: stalled: no heartbeat for {BEAT:g} s\n{tail}"
    except (SealproofError, OSError):
        return ""  # its host does not answer either: that is not the guest's fault


def _beats(guest: Guest) -> bool:
    before = guest.count_beats()
    try:
        poll_until(lambda: guest.count_beats() > before, Deadline(BEAT), "a heartbeat", interval=0.2)
    except DeadlineError:
        return False
    return True
