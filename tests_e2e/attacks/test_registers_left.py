# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by ending QEMU while its guest works with a secret in registers, of which KVM has a copy then.

A virtual CPU that does not run has its registers in memory of the kernel's. When QEMU ends that is free memory, as the
guest's pages are. All of the host's memory is searched for each register, wherever it is: 8 bytes that nobody else has.

What is freed last is given away first. So nothing is started on the host between the end and the search.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass

from common.errors import ChannelError, DeadlineError, MachineLostError
from host_setup.channels.puppets import Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.each import on_each
from tests_e2e.support.field import name_frames
from tests_e2e.support.frame_owners import FREE, NOT_THE_KERNELS, owners_of
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.registers import GENERAL, VECTORS, user_canary
from tests_e2e.support.residue import WORD, search
from tests_e2e.support.translations import Memory
from tests_e2e.support.vm_end import ask_to_quit, lives_on, memory_is_back, wait_for_ends

HOLDS = 1.0  # seconds at a time, of the guest's time
PAUSE = 0.3  # seconds between two looks
TRIES = 10
KINDS = {"general registers": GENERAL, "vector registers": VECTORS}

FramesByKind = dict[str, frozenset[int]]
"""Page frames that hold some of a kind of register."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a guest works with.

    :ivar content: that it has in registers. :ivar private: whether that is the guest's alone.
    :ivar owners: where KVM had it when the guest was stopped, each kind of register with names of kernel memory.
    """

    content: bytes
    private: bool
    owners: Mapping[str, str]


def test_host_finds_no_register_of_a_guest_after_kill(trial: Trial, pool: HostPool) -> None:
    """When QEMU was killed at its guest's work, no page of the host's memory holds what the guest had in registers."""

    def kill(attacker: Puppet, guest: Guest) -> str:
        guest.may_end()
        attacker.syscall("kill", guest.pid, signal.SIGKILL).require("kill")
        return "it was sent SIGKILL"

    _nothing_left(trial, pool, kill)


def test_host_finds_no_register_of_a_guest_after_quit(trial: Trial, pool: HostPool) -> None:
    """When QEMU has ended by itself at its guest's work, no page of the host's memory holds a register of the guest."""
    _nothing_left(trial, pool, lambda _, guest: ask_to_quit(guest))


def _nothing_left(trial: Trial, pool: HostPool, end: Callable[[Puppet, Guest], str]) -> None:
    """Have each guest stopped at work, one QEMU end, and all of the host's memory searched, before and after.

    The other guest's registers, and a secret of a process of the host, are what the search must find.

    :param end: tells how the QEMU took it.
    """
    with pool.fresh() as host, Attack.puppeteer(host) as puppeteer, contextlib.ExitStack() as at_work:
        protected = host.guest.protected if host.plain_guest is not None else None
        others = secrets.token_bytes(VECTORS.stop)
        attacker = puppeteer.spawn()
        attacker.memory(others)
        works = on_each(host.guests, lambda guest: _stop_at_work(host, guest, at_work))
        ending = attacker.syscall("pidfd_open", host.guest.pid, 0).require("pidfd_open")
        answer = end(attacker, host.guest)
        wait_for_ends(attacker, ending, explain=lambda: lives_on(host, host.guest, answer))
        if host.plain_guest is not None:
            memory_is_back(host.plain_guest)
        with memory_of(host) as memory:
            results = [_checks(host, memory, work, others) for work in works]
    trial.legitimate(*results, protected=protected)


def _stop_at_work(host: Host, guest: Guest, at_work: contextlib.ExitStack) -> Work:
    """Have a guest work with a canary in registers, and stop it when KVM has all of them in the kernel's memory.

    :raises DeadlineError: the program was never seen at work.
    """
    aimed = user_canary(guest)
    private, content = aimed.planted.state == State.PRIVATE, aimed.planted.content[: VECTORS.stop]
    for _ in range(TRIES):
        with contextlib.ExitStack() as this_one:
            holding = this_one.enter_context(guest.canaries.holding(aimed.planted, seconds=HOLDS))
            while not holding.done():
                guest.qmp.execute("stop")
                owners = _registers_in_kernel(host, content)
                if owners.keys() == KINDS.keys():
                    at_work.callback(_let_go, guest, this_one.pop_all())
                    return Work(content, private, owners)
                guest.qmp.execute("cont")
                wait([holding], timeout=PAUSE)  # the guest's turn
    raise DeadlineError(f"the registers were nowhere in the kernel's memory in {TRIES * HOLDS} s")


def _let_go(guest: Guest, work: contextlib.ExitStack) -> None:
    """Have a guest that is stopped go on and end its work. Of one that has ended nobody waits for an answer."""
    try:
        guest.qmp.execute("cont")
    except (ChannelError, MachineLostError, DeadlineError):
        guest.close()
    with contextlib.suppress(ChannelError, MachineLostError, DeadlineError):
        work.close()


def _registers_in_kernel(host: Host, content: bytes) -> dict[str, str]:
    """In what memory of the kernel's each kind of register is, all of that kind one behind the other."""
    with memory_of(host) as memory:
        frames = {kind: _frames_with(memory, content[span]) for kind, span in KINDS.items()}
        whose = owners_of(host.ssh, memory, frozenset().union(*frames.values()))
    owners = {
        kind: {whose[frame] for frame in holding if whose.get(frame, FREE) not in NOT_THE_KERNELS}
        for kind, holding in frames.items()
    }
    return {kind: ", ".join(sorted(names)) for kind, names in owners.items() if names}


def _frames_with(memory: Memory, pattern: bytes) -> frozenset[int]:
    frames, at = set(), -1
    while (at := memory.find(pattern, at + 1)) >= 0:
        frames.add(at // PAGE_SIZE)
    return frozenset(frames)


def _checks(host: Host, memory: Memory, work: Work, others: bytes) -> list[Check]:
    pages, elsewhere = pages_left(memory, work.content, others)
    whose = owners_of(host.ssh, memory, frozenset().union(*pages.values()) if work.private else ())
    return [
        *(
            Check(f"KVM had {kind} in the kernel's memory", "yes", "yes" if work.owners[kind] else "no")
            for kind in KINDS
        ),
        *(Check(f"the search finds {kind} of others", "yes", "yes" if elsewhere[kind] else "no") for kind in KINDS),
        *(Check(f"pages that hold {kind}", *_expectation(work, pages[kind], whose)) for kind in KINDS),
    ]


def _expectation(work: Work, frames: frozenset[int], whose: Mapping[int, str]) -> tuple[str, str]:
    """What must be found of a guest, and what is: nothing of a private one, which has ended."""
    if work.private:
        return "none", name_frames(frames, whose)
    return "some", "some" if frames else "none"


def pages_left(memory: Memory, *secret: bytes) -> list[FramesByKind]:
    """For each secret by kind of register the page frames that hold a word of it."""
    words = {
        int.from_bytes(page[at : at + WORD], "little"): (number, kind)
        for number, page in enumerate(secret)
        for kind, span in KINDS.items()
        for at in range(span.start, span.stop, WORD)
    }
    places: list[dict[str, set[int]]] = [{kind: set() for kind in KINDS} for _ in secret]
    for frame, names in search(memory, words).items():
        for number, kind in names:
            places[number][kind].add(frame)
    return [{kind: frozenset(frames) for kind, frames in place.items()} for place in places]
