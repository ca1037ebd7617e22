# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads by a CPU whose TLB has an old mapping: of a page before it became private, of memory before a guest had it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet
from host_setup.channels.ssh import Ssh
from host_setup.channels.uapi import Method
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import UNDER_TEST, Aimed, AimedObservation, Answer, Attack, pages_of
from tests_e2e.support.attack_module import attack_by_module
from tests_e2e.support.blocks import Blocks

MASK = struct.Struct("<Q")
AMONG, MIDDLE = 2, 200  # which block is read, and which page of it: the last blocks may wait in a list of a CPU


def online_cpus(ssh: Ssh) -> list[int]:
    """The numbers of a host's CPUs that are online."""
    text = ssh.run(["cat", "/sys/devices/system/cpu/online"], seconds=10).require().text.strip()
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return [cpu for part in ends for cpu in range(part[0], part[-1] + 1)]


Reader = Callable[[Puppet, Guest, Aimed, Sequence[int]], Answer]


def attack_around_the_change(attack: Attack, host: Host, call: str, reader: Reader) -> None:
    """Have a reader try all pages of a host, and the claim judged."""
    cpus = online_cpus(host.ssh)
    observations: list[AimedObservation] = []
    with attack.puppeteer(host) as puppeteer:
        attacker = puppeteer.spawn()
        for guest, sets in pages_of(host):
            for aimed in attack.aim(guest, sets):
                answer = reader(attacker, guest, aimed, cpus)
                observations += attack.observe(call, guest, [aimed], [answer])
    attack.judge(observations)


def read_on_each_cpu(attacker: Puppet, guest: Guest, aimed: Aimed, cpus: Sequence[int]) -> Answer:
    """Read a page on each CPU, the page under test once while it is shared, and again when it is private.

    A page may change its frame with its state. Then each CPU reads both: the frame that the page has left, which it has
    read before, must hold nothing of the page, and the frame that the page has now must be out of reach.
    """

    def read(cpu: int, frame: int) -> Answer:
        return Answer(*attack_by_module(attacker, Method.CPU_READ, frame, PAGE_SIZE, cpu=cpu))

    with _share_meanwhile(guest, aimed):
        old_frame = _frame(guest, aimed)
        for cpu in cpus:
            read(cpu, old_frame).done.require(f"the read on CPU {cpu} before the page became private")
    now = _frame(guest, aimed)
    old = [read(cpu, old_frame) for cpu in cpus] if old_frame != now else []
    return _as_one([read(cpu, now) for cpu in cpus], old)


def read_all_along(attacker: Puppet, guest: Guest, aimed: Aimed, cpus: Sequence[int]) -> Answer:
    """Read a page on one CPU after the other, without a break from when it is shared until it is private."""
    both = [read_on_one(attacker, guest, aimed, cpu, cpus) for cpu in cpus]
    return _as_one([now for now, _ in both], [old for _, olds in both for old in olds])


def read_on_one(
    attacker: Puppet, guest: Guest, aimed: Aimed, cpu: int, cpus: Sequence[int]
) -> tuple[Answer, Sequence[Answer]]:
    """The same on one of the CPUs: what it gets of the page's frame now, and of the frame that the page has left."""
    others = [other for other in cpus if other != cpu]
    _leave_to(attacker, others)
    with _share_meanwhile(guest, aimed):
        old_frame = _frame(guest, aimed)
        began, _ = attack_by_module(attacker, Method.WATCH_START, old_frame, PAGE_SIZE, cpu=cpu)
        began.require(f"the read on CPU {cpu} before the page became private")
    done, data = _watch_ends(attacker, old_frame, cpu)
    now = _frame(guest, aimed)
    if old_frame == now:
        return Answer(done, data), ()
    return Answer(*attack_by_module(attacker, Method.CPU_READ, now, PAGE_SIZE, cpu=cpu)), (Answer(done, data),)


def _leave_to(attacker: Puppet, others: Sequence[int]) -> None:
    """Have the attacker run on other CPUs than the one that reads."""
    if not others:
        raise ChannelError("one CPU alone: nobody could change anything while it reads")
    mask = attacker.memory(MASK.pack(sum(1 << other for other in others)))
    attacker.syscall("sched_setaffinity", 0, MASK.size, mask).require("leave the CPU")


# Only of what has a program: the kernel's threads have none.
MOVE = """for task in /proc/[0-9]*/task/[0-9]*; do
    [ ! -e $task/exe ] || taskset -p $0 ${task##*/} > /dev/null 2>&1
done
true"""


@contextlib.contextmanager
def without_processes(ssh: Ssh, cpu: int, others: Sequence[int]) -> Iterator[None]:
    """Keep a CPU free of processes, each of which would drop what its TLB holds; the kernel's threads stay."""

    def move_to(cpus: Sequence[int]) -> None:
        ssh.run(["sh", "-c", MOVE, f"{sum(1 << cpu for cpu in cpus):x}"], seconds=60).require()

    move_to(others)
    try:
        yield
    finally:
        move_to([*others, cpu])


def _watch_ends(attacker: Puppet, frame: int, cpu: int) -> tuple[Done, bytes]:
    """What the reader's last read met."""
    done, data = attack_by_module(attacker, Method.WATCH_STOP, frame, PAGE_SIZE)
    if done.errno in ("ETIME", "ENOENT"):
        raise ChannelError(f"the reader on CPU {cpu} ended before it was asked to: {done.errno}")
    return done, data


def read_until_a_guest_has_it(
    attacker: Puppet, blocks: Blocks, cpu: int, others: Sequence[int], use: Callable[[int], object], *, small: bool
) -> tuple[int, Done, bytes]:
    """Read memory of the kernel's again and again, while it is given back and a guest is given new memory.

    :param use: has the guest use memory that it has not used before; gets the frame that is read.
    :param small: the direct map has the memory in entries of 4 KiB: a TLB has each page by itself.
    :returns: the frame that was read, a physical address, and what the last read of it met.
    """
    _leave_to(attacker, others)
    frame = blocks.frames[AMONG] + PAGE_SIZE * MIDDLE
    if small:
        split, _ = attack_by_module(attacker, Method.DIRECT_MAP_SPLIT, blocks.frames[AMONG], PAGE_SIZE)
        split.require("split the entry of the direct map")
    # It yields to the kernel's own work: some of what gives a guest memory waits for a worker on each CPU.
    began, _ = attack_by_module(attacker, Method.WATCH_START_YIELDING, frame, PAGE_SIZE, cpu=cpu)
    began.require(f"the read on CPU {cpu} before the memory was given back")
    blocks.give_back()
    use(frame)
    return frame, *_watch_ends(attacker, frame, cpu)


def _frame(guest: Guest, aimed: Aimed) -> int:
    """Where the page is on the host now, a physical address."""
    (at,) = guest.memory.addresses([aimed.target.gpa])
    return at.hpa


@contextlib.contextmanager
def _share_meanwhile(guest: Guest, aimed: Aimed) -> Iterator[None]:
    """Have the page under test shared for that long; a control is what it is."""
    if aimed.planted.set != UNDER_TEST:
        yield
        return
    guest.canaries.share(aimed.planted)
    try:
        yield
    finally:  # also after an error: others attack the page next
        state = guest.canaries.take_back(aimed.planted)
    if state != aimed.planted.state:
        raise ChannelError(f"the page was {aimed.planted.state}, and is {state} after it was shared")


def _as_one(answers: Sequence[Answer], old: Sequence[Answer] = ()) -> Answer:
    """All reads as one: how those of the page's frame ended, if all ended the same way, and all that any read got."""
    ends = {answer.done for answer in answers}
    return Answer(ends.pop() if len(ends) == 1 else Done(), b"".join(answer.data for answer in (*answers, *old)))
