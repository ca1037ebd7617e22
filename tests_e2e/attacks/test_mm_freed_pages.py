# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by giving the page back to the host, and reading the frame that it leaves.

That the guest loses the page's content is no disclosure: a VMM can always take memory away.
"""

from __future__ import annotations

import mmap
import os

from common.errors import ChannelError
from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer, Attack, Target
from tests_e2e.support.chain import call
from tests_e2e.support.frames import content_later, frame_after
from tests_e2e.support.pagemap import place

MADV_PAGEOUT, MADV_DONTNEED_LOCKED = 21, 24  # asm-generic/mman-common.h


def test_host_cannot_read_frame_that_private_page_left_by_madv_dontneed(attack: Attack) -> None:
    """The host cannot read the frame of a private page that QEMU gave back by madvise(MADV_DONTNEED)."""
    _give_back(attack, "MADV_DONTNEED", mmap.MADV_DONTNEED)


def test_host_cannot_read_frame_that_private_page_left_by_madv_dontneed_locked(attack: Attack) -> None:
    """The host cannot read the frame of a private page that QEMU gave back by madvise(MADV_DONTNEED_LOCKED)."""
    _give_back(attack, "MADV_DONTNEED_LOCKED", MADV_DONTNEED_LOCKED)


def test_host_cannot_read_frame_that_private_page_left_by_madv_free(attack: Attack) -> None:
    """QEMU cannot offer a private page of its guest for reclaim by MADV_FREE, and so have its frame read."""
    _give_back(attack, "MADV_FREE, MADV_PAGEOUT", mmap.MADV_FREE, MADV_PAGEOUT)


def _give_back(attack: Attack, name: str, first: int, second: int | None = None) -> None:
    """The first piece of advice is what counts; the second helps the kernel to follow it soon."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        advise = call("madvise", page.hva, PAGE_SIZE, first)
        if second is None:
            (done,), frame = frame_after(qemu, page, advise)
        else:
            # A page that waits in a processor's list to be put on the lists of reclaim is on none of these: MADV_FREE
            # passes over it in silence (mm/swap.c folio_mark_lazyfree()), and what it does takes effect by such a list
            # as well. To drop the page cache empties the lists of all processors (fs/drop_caches.c
            # lru_add_drain_all()); a write that is not at the file's start would do nothing (kernel/sysctl.c).
            drop = qemu.open("/proc/sys/vm/drop_caches", os.O_WRONLY)
            drain = call("pwrite64", drop, qemu.memory(b"1"), 1, 0)
            calls = (drain, advise, drain, call("madvise", page.hva, PAGE_SIZE, second))
            (drained, done, *_), frame = frame_after(qemu, page, *calls)
            drained.require("pwrite64(drop_caches)")
            qemu.syscall("close", drop).require("close")
        freed = place(qemu, page.qemu, page.hva).frame != page.hpa // PAGE_SIZE
        if done.errno is None and not freed:
            raise ChannelError(f"madvise({name}) succeeded, and the page is where it was")
        content = frame.data or (content_later(attack.host, frame) if freed else b"")
        return Answer(done, content, freed=freed, met=frame.met)

    attack.by_qemu(f"madvise({name})", probe)
