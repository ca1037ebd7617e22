# SPDX-License-Identifier: GPL-2.0-or-later
"""Moments of chance at which a host is stopped, and who maps a guest's content at each.

What is where is not asked: a frame belongs to a guest's content if it begins, ends or has in its middle what the guest
alone has (``field``). So the host may be on its way from one state to another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Check
from tests_e2e.support.field import LINE, Field, name_frames
from tests_e2e.support.live_memory import frames_in, live_memory_of
from tests_e2e.support.outside import standing_still
from tests_e2e.support.translations import Memory, root_of, walk

MOMENTS = 6
APART = 0.1  # seconds that the host runs on between two of them, at most: the kernel begins to clear after as many
WORD = 8  # bytes of a field's line that tell it
PLACES = (0, PAGE_SIZE // 2, PAGE_SIZE - LINE)  # in a page; a page begins with a whole line
NONE = "none"


@dataclass(frozen=True, slots=True)
class Moment:
    """What was so of a guest at one moment.

    :ivar after: seconds that the host has run since all began. :ivar frames: frames that have its content.
    :ivar by_kernel: those that the kernel's page tables lead to. :ivar by_process: those that a process's lead to.
    """

    after: float
    frames: frozenset[int]
    by_kernel: frozenset[int]
    by_process: frozenset[int]

    def __str__(self) -> str:
        """One line to read."""
        counts = f"{len(self.by_kernel):6} mapped by the kernel, {len(self.by_process):6} by a process"
        return f"{self.after:7.3f} s: {len(self.frames):6} frames hold the content, {counts}"


def moments_of(host: Host, fields: Mapping[Guest, Field], begin: Callable[[], object]) -> dict[Guest, list[Moment]]:
    """Stop a host at moments of chance, and look at each who maps the guests' content.

    :param begin: begins what is to happen meanwhile, and goes on by itself.
    """
    root = root_of(host.ssh)
    moments: dict[Guest, list[Moment]] = {guest: [] for guest in fields}
    chance = random.SystemRandom()
    ran = 0.0
    with live_memory_of(host) as live, live.empty_copy() as memory:
        live.copy_to(memory)  # the first time it takes longest
        begin()
        since = time.monotonic()
        for _ in range(MOMENTS):
            time.sleep(chance.uniform(0, APART))
            with standing_still(host):
                ran += time.monotonic() - since
                live.copy_to(memory)
                frames_of = {guest: frames_with(memory, field.line[:WORD]) for guest, field in fields.items()}
                everybodys = frozenset().union(*frames_of.values())
                walked = walk(memory, root, everybodys, not_roots=everybodys)
            since = time.monotonic()
            kernel, processes = walked.kernel.at.keys(), walked.processes.at.keys()
            for guest, frames in frames_of.items():
                moments[guest].append(Moment(ran, frames, frames & kernel, frames & processes))
    return moments


def frames_with(memory: Memory, word: bytes) -> frozenset[int]:
    """The frames that hold a field: its line is at one of three places of the page at least."""
    return frozenset(
        frame
        for frame in frames_in(memory)
        if any(memory[at : at + len(word)] == word for at in (frame * PAGE_SIZE + place for place in PLACES))
    )


def checks(moments: list[Moment], *, private: bool) -> list[Check]:
    """What must be so at each moment.

    :param private: whether the content is the guest's alone. Of a plain guest's the kernel maps all of it.
    """
    frames = frozenset().union(*(moment.frames for moment in moments))
    mapped = frozenset().union(*(moment.by_kernel | moment.by_process for moment in moments))
    word = "some" if mapped else NONE
    return [
        Check("moments at which the host stood still", str(MOMENTS), str(len(moments))),
        Check("frames with the content, at one moment or another", "some", "some" if frames else NONE),
        Check(
            "of these the kernel or a process mapped",
            NONE if private else "some",
            name_frames(mapped) if private else word,
        ),
    ]
