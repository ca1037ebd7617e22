# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by declaring the page's frame broken: the kernel takes it away, and keeps it aside as it is."""

from __future__ import annotations

import os

from host_setup.channels.puppets import Done, Puppet
from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Aimed, Answer, Attack, Target
from tests_e2e.support.chain import call
from tests_e2e.support.frames import Frame, frame_after

HWPOISON = "/sys/kernel/debug/hwpoison"  # mm/hwpoison-inject.c


def test_host_cannot_read_frame_of_poisoned_private_page(attack: Attack) -> None:
    """The host cannot read the frame of a private page that was declared broken, nor after it was declared whole."""

    def probe(host: Host, pages: list[Aimed]) -> list[Answer]:
        with attack.puppeteer(host) as puppeteer:
            attacker = puppeteer.spawn()
            return [_poison_and_recover(attacker, page.target) for page in pages]

    attack.all_at_once("corrupt-pfn, unpoison-pfn", probe)


def _poison_and_recover(process: Puppet, page: Target) -> Answer:
    done, poisoned = _declare(process, page, "corrupt-pfn")
    whole, freed = _declare(process, page, "unpoison-pfn")
    whole.require("unpoison-pfn")
    # Both reads must have been made.
    met = f"{poisoned.met}; {freed.met}" if poisoned.met and freed.met else ""
    return Answer(done, poisoned.data + freed.data, freed=True, met=met)


def _declare(process: Puppet, page: Target, file: str) -> tuple[Done, Frame]:
    """Write the number of the page's frame to a file of the kernel's, and read the frame at once."""
    number = str(page.hpa // PAGE_SIZE).encode()
    into = process.open(f"{HWPOISON}/{file}", os.O_WRONLY)
    (done,), frame = frame_after(process, page, call("write", into, process.memory(number), len(number)))
    process.syscall("close", into).require("close")
    return (Done(returned=0) if done.returned == len(number) else done), frame
