# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by ending QEMU, and looking for the guest's pages in what the host then has as free memory.

Whatever runs on the host in between may be given that memory, which the controls are still to be found in. So nothing
is asked of the host meanwhile: a process that is there already waits, and then the host is stopped.
"""

from __future__ import annotations

import fcntl
import mmap
import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from tests_e2e.support.attack import Aimed, Answer, Attack
from tests_e2e.support.chain import call, run_chain
from tests_e2e.support.host_memory import memory_of, pages_with
from tests_e2e.support.steps import open_pipe
from tests_e2e.support.vm_end import ask_to_quit, lives_on, wait_for_ends

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
ANONYMOUS_POPULATED = mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
# In huge pages, where the kernel uses them by itself, and in small ones.
CUSHIONS = (mmap.MAP_PRIVATE | ANONYMOUS_POPULATED, mmap.MAP_SHARED | ANONYMOUS_POPULATED)
CUSHION = 4 << 20  # bytes
PIPE, ROOM_PIPES = 1 << 20, 8  # bytes in each, and how many
Cushions = list[int]  # addresses
TIMEOUT = 120.0  # until the last page of a guest is freed, on a slow, busy machine


def test_host_has_no_copy_of_private_page_after_quit(attack: Attack) -> None:
    """When QEMU has ended by itself, no page of the host's memory holds what was a private page of its guest."""

    def end(attacker: Puppet, guest: Guest, process: int, cushions: Cushions) -> tuple[Done, str]:  # noqa: ARG001  QMP is enough
        return Done(returned=0), ask_to_quit(guest)  # whatever it answers, its end is waited for

    _nothing_left(attack, "quit", end)


def test_host_has_no_copy_of_private_page_after_kill(attack: Attack) -> None:
    """When QEMU was killed, no page of the host's memory holds what was a private page of its guest."""

    def end(attacker: Puppet, guest: Guest, process: int, cushions: Cushions) -> tuple[Done, str]:  # noqa: ARG001  a number is enough
        return attacker.syscall("kill", guest.pid, signal.SIGKILL), "it was sent SIGKILL"

    _nothing_left(attack, "SIGKILL", end)


def test_host_has_no_copy_of_private_page_after_reaping(attack: Attack) -> None:
    """When a dying QEMU's memory was reaped, as when memory runs out, none of it holds a private page of its guest."""

    def end(attacker: Puppet, guest: Guest, process: int, cushions: Cushions) -> tuple[Done, str]:
        # At once: reaping is for a process that is about to end and still has its memory. The kernel lends first what
        # was given back last, which is then the cushions and not the guest's memory.
        calls = (
            call("kill", guest.pid, signal.SIGKILL),
            call("process_mrelease", process, 0),
            *(call("munmap", cushion, CUSHION) for cushion in cushions),
        )
        killed, *_ = run_chain(attacker, *calls)
        return killed, "it was sent SIGKILL, and reaped"

    _nothing_left(attack, "SIGKILL, process_mrelease", end)


def _nothing_left(attack: Attack, name: str, end: Callable[[Puppet, Guest, int, Cushions], tuple[Done, str]]) -> None:
    """Have both guests' QEMUs end, and all of the host's memory searched.

    :param end: gets, at last, a descriptor of the process that is to end, and memory of the attacker's own; tells also
        how the QEMU took it.
    """

    def probe(host: Host, pages: list[Aimed]) -> list[Answer]:
        with attack.puppeteer(host) as puppeteer:
            attacker = puppeteer.spawn()
            ends = {guest: attacker.syscall("pidfd_open", guest.pid, 0).require("pidfd_open") for guest in host.guests}
            # All before the first end.
            cushions = {guest: _own_memory(attacker) for guest in host.guests}
            _leave_room(attacker)
            done: dict[int, Done] = {}
            answers: dict[Guest, str] = {}
            for guest, process in ends.items():
                guest.may_end()
                done[guest.pid], answers[guest] = end(attacker, guest, process, cushions[guest])
            for guest, process in ends.items():
                wait_for_ends(attacker, process, explain=partial(lives_on, host, guest, answers[guest]))
            with memory_of(host) as memory:
                hits = pages_with(memory, [page.planted.content for page in pages])
        for guest in host.guests:
            poll_until(lambda: guest.vitals.reason is not None, Deadline(TIMEOUT), "its end to be noticed")  # noqa: B023
        return [Answer(done[page.target.qemu], data) for page, data in zip(pages, hits, strict=True)]

    attack.all_at_once(name, probe)


def _own_memory(attacker: Puppet) -> Cushions:
    """Where a process has memory of its own, ``CUSHION`` bytes of each kind in ``CUSHIONS``."""
    done = (attacker.syscall("mmap", 0, CUSHION, READ_WRITE, kind, -1, 0) for kind in CUSHIONS)
    return [answer.require("mmap") for answer in done]


def _leave_room(attacker: Puppet) -> None:
    """Leave free memory of the kind that the kernel takes for itself, which that of a guest is not.

    Where there is none of that kind, it takes single pages of the other, and first those that nothing free is beside
    (mm/page_alloc.c __rmqueue_steal()). The pages that a protected guest has shared are such.
    """
    content, *_ = _own_memory(attacker)
    with ExitStack() as pipes:
        for _ in range(ROOM_PIPES):
            _, into = pipes.enter_context(open_pipe(attacker))
            attacker.syscall("fcntl", into, fcntl.F_SETPIPE_SZ, PIPE).require("F_SETPIPE_SZ")
            attacker.syscall("write", into, content, PIPE).require("write")
