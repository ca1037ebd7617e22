# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by swapping the page out, and reading the swap area."""

from __future__ import annotations

from collections.abc import Callable

from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer, Attack, Target
from tests_e2e.support.pagemap import place
from tests_e2e.support.swap import SwapArea, swap_area

MADV_PAGEOUT = 21  # asm-generic/mman-common.h
SIZE = "1M"
TIMEOUT = 20.0


def test_host_cannot_swap_out_private_page_by_process_madvise(attack: Attack) -> None:
    """The host cannot have a private page of a guest written to a swap area by process_madvise(MADV_PAGEOUT)."""
    with swap_area(attack.host.ssh, SIZE) as area:

        def probe(attacker: Puppet, page: Target) -> Answer:
            process = attacker.syscall("pidfd_open", page.qemu, 0).require("pidfd_open")
            there = attacker.iovec(page.hva, PAGE_SIZE)
            answer = _swap_out(
                area, attacker, page, lambda: attacker.syscall("process_madvise", process, there, 1, MADV_PAGEOUT, 0)
            )
            attacker.syscall("close", process).require("close")
            return answer

        attack.by_a_process("process_madvise(MADV_PAGEOUT)", probe)


def test_qemu_cannot_swap_out_private_page_by_madvise(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest written to a swap area by madvise(MADV_PAGEOUT)."""
    with swap_area(attack.host.ssh, SIZE) as area:

        def probe(qemu: Puppet, page: Target) -> Answer:
            return _swap_out(area, qemu, page, lambda: qemu.syscall("madvise", page.hva, PAGE_SIZE, MADV_PAGEOUT))

        attack.by_qemu("madvise(MADV_PAGEOUT)", probe)


def _swap_out(area: SwapArea, process: Puppet, page: Target, advise: Callable[[], Done]) -> Answer:
    """Have the page swapped out, and read all of the swap area, wherever in it the page may be.

    The kernel leaves a page in memory that somebody holds for a moment, and says nothing: the advice is repeated.
    """

    def refused_or_out() -> Done | None:
        done = advise()
        return done if done.errno is not None or place(process, page.qemu, page.hva).slot is not None else None

    return Answer(
        poll_until(refused_or_out, Deadline(TIMEOUT), "the page to be swapped out, or the advice refused"), area.pages()
    )
