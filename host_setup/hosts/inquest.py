# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a probe did not end: by its own fault, or because a kernel under test died or hangs."""

from __future__ import annotations

from common.errors import DeadlineError, SealproofError
from common.waiting import Deadline, poll_until
from host_setup.hosts import kernel_log
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest

BEAT = 10.0  # seconds without a heartbeat after which a guest counts as stalled; it beats twice a second


def harm_to(host: Host, *, thorough: bool) -> list[str]:
    """Faults of the kernels of a host and its guests, one paragraph each; empty if there are none.

    :param thorough: the guests are asked too, which may take ``BEAT`` seconds for each.
    """
    if host.vitals.reason is not None:
        return [f"the host: {host.vitals.reason}"] if host.vitals.harm else []
    return [words for guest in host.all_guests if (words := _harm_to_guest(guest))] if thorough else []


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
