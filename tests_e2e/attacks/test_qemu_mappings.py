# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by the guest's own QEMU, which first has the kernel change its mapping of the page, and then loads from it.

Where both steps count, the observation tells both: what the kernel answered, and how the load ended.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import replace

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.children import CLONE_VM, child_of
from tests_e2e.support.loads import load

# linux/mman.h
PROT_NONE, PROT_READ_WRITE = 0, 3
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
MLOCK_ONFAULT = 1
MADV_WIPEONFORK, MADV_KEEPONFORK = 18, 19
MADV_COLD, MADV_PAGEOUT = 20, 21
MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE = 22, 23, 25
HUGE_PAGE = 2 << 20


def test_qemu_cannot_load_after_mprotect(attack: Attack) -> None:
    """QEMU cannot give itself access to a private page of its guest by mprotect()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        for rights in (PROT_NONE, mmap.PROT_READ, PROT_READ_WRITE):
            qemu.syscall("mprotect", page.hva, PAGE_SIZE, rights).require("mprotect")
        return load(qemu, page.hva)

    attack.by_qemu("mprotect, load", probe)


def test_qemu_cannot_load_after_pkey_mprotect(attack: Attack) -> None:
    """QEMU cannot give itself access to a private page of its guest by a protection key."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        key = qemu.syscall("pkey_alloc", 0, 0).require("pkey_alloc")
        qemu.syscall("pkey_mprotect", page.hva, PAGE_SIZE, PROT_READ_WRITE, key).require("pkey_mprotect")
        answer = load(qemu, page.hva)
        qemu.syscall("pkey_mprotect", page.hva, PAGE_SIZE, PROT_READ_WRITE, 0).require("pkey_mprotect back")
        qemu.syscall("pkey_free", key).require("pkey_free")
        return answer

    attack.by_qemu("pkey_mprotect, load", probe)


def test_qemu_cannot_load_where_it_moved_private_page(attack: Attack) -> None:
    """QEMU cannot load from a private page of its guest at another address, after mremap()."""
    attack.by_qemu("mremap, load", lambda qemu, page: _load_elsewhere(qemu, page, 0))


def test_qemu_cannot_load_where_it_moved_private_page_without_unmapping(attack: Attack) -> None:
    """QEMU cannot load from a private page that mremap() took out of the guest's memory, leaving the mapping there."""
    attack.by_qemu("mremap(MREMAP_DONTUNMAP), load", lambda qemu, page: _load_elsewhere(qemu, page, MREMAP_DONTUNMAP))


def test_qemu_cannot_load_after_mlock(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest made present by mlock(), nor load from it then."""
    attack.by_qemu("mlock, load", lambda qemu, page: _load_locked(qemu, page, qemu.syscall("mlock", *_whole(page))))


def test_qemu_cannot_load_after_mlock_on_fault(attack: Attack) -> None:
    """QEMU may lock a private page of its guest that it does not touch, and cannot load from it then."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return _load_locked(qemu, page, qemu.syscall("mlock2", *_whole(page), MLOCK_ONFAULT))

    attack.by_qemu("mlock2(MLOCK_ONFAULT), load", probe)


def test_qemu_cannot_load_after_advice_to_need_private_page(attack: Attack) -> None:
    """QEMU cannot load from a private page of its guest after MADV_WILLNEED."""
    _by_advice(attack, "MADV_WILLNEED", mmap.MADV_WILLNEED)


def test_qemu_cannot_load_after_advice_on_the_order_of_loads(attack: Attack) -> None:
    """QEMU cannot load from a private page of its guest after MADV_RANDOM, MADV_SEQUENTIAL and MADV_NORMAL."""
    _by_advice(attack, "MADV_NORMAL", mmap.MADV_RANDOM, mmap.MADV_SEQUENTIAL, mmap.MADV_NORMAL)


def test_qemu_cannot_load_after_advice_to_wipe_private_page_in_children(attack: Attack) -> None:
    """QEMU cannot load from a private page of its guest after MADV_WIPEONFORK and MADV_KEEPONFORK."""
    _by_advice(attack, "MADV_KEEPONFORK", MADV_WIPEONFORK, MADV_KEEPONFORK)


def test_qemu_cannot_load_after_advice_to_remove_private_page(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest removed from its backing by MADV_REMOVE, nor load from it then."""
    _by_advice(attack, "MADV_REMOVE", mmap.MADV_REMOVE)


def test_qemu_cannot_load_after_advice_to_merge_private_page(attack: Attack) -> None:
    """QEMU cannot load from a private page of its guest after MADV_UNMERGEABLE and MADV_MERGEABLE."""
    _by_advice(attack, "MADV_MERGEABLE", mmap.MADV_UNMERGEABLE, mmap.MADV_MERGEABLE)


def test_qemu_cannot_load_after_advice_on_huge_pages(attack: Attack) -> None:
    """QEMU cannot load from a private page of its guest after MADV_NOHUGEPAGE and MADV_HUGEPAGE."""
    _by_advice(attack, "MADV_HUGEPAGE", mmap.MADV_NOHUGEPAGE, mmap.MADV_HUGEPAGE)


def test_qemu_cannot_have_private_page_dumped(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest included in core dumps by MADV_DODUMP."""
    _by_advice(attack, "MADV_DODUMP", mmap.MADV_DODUMP)


def test_qemu_cannot_have_private_page_aged(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest made the first to be reclaimed by MADV_COLD."""
    _by_advice(attack, "MADV_COLD", MADV_COLD)


def test_qemu_cannot_have_private_page_paged_out(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest reclaimed by MADV_PAGEOUT."""
    _by_advice(attack, "MADV_PAGEOUT", MADV_PAGEOUT)


def test_qemu_cannot_have_private_page_populated_for_reading(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest mapped readable by MADV_POPULATE_READ."""
    _by_advice(attack, "MADV_POPULATE_READ", MADV_POPULATE_READ)


def test_qemu_cannot_have_private_page_populated_for_writing(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest mapped writable by MADV_POPULATE_WRITE."""
    _by_advice(attack, "MADV_POPULATE_WRITE", MADV_POPULATE_WRITE)


def test_qemu_cannot_have_private_page_collapsed(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest copied into a huge page by MADV_COLLAPSE."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        advice_done = qemu.syscall("madvise", page.hva // HUGE_PAGE * HUGE_PAGE, HUGE_PAGE, MADV_COLLAPSE)
        return _both(advice_done, load(qemu, page.hva))

    attack.by_qemu("madvise(MADV_COLLAPSE), load", probe)


def test_child_of_qemu_cannot_load_from_private_page(attack: Attack) -> None:
    """A child that QEMU forks does not inherit a private page of the guest, nor can MADV_DOFORK give it one."""
    with attack.puppeteer(attack.host) as children:

        def probe(qemu: Puppet, page: Target) -> Answer:
            advice_done = qemu.syscall("madvise", *_whole(page), mmap.MADV_DOFORK)
            with child_of(qemu, children) as child:
                answer = load(child, page.hva)
            qemu.syscall("madvise", *_whole(page), mmap.MADV_DONTFORK).require("madvise back")
            return _both(advice_done, answer)

        attack.by_qemu("MADV_DOFORK, fork, load", probe)


def test_process_sharing_memory_with_qemu_cannot_load_from_private_page(attack: Attack) -> None:
    """A process that QEMU makes to share its memory (CLONE_VM) cannot load from a private page of the guest."""
    with attack.puppeteer(attack.host) as children:

        def probe(qemu: Puppet, page: Target) -> Answer:
            with child_of(qemu, children, CLONE_VM) as child:
                return load(child, page.hva)

        attack.by_qemu("clone(CLONE_VM), load", probe)


def test_qemu_cannot_read_private_page_by_proc_self_mem(attack: Attack) -> None:
    """QEMU cannot read a private page of its guest through its own /proc/self/mem."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        memory, buffer = qemu.open("/proc/self/mem", os.O_RDWR), qemu.memory(PAGE_SIZE)
        done = qemu.syscall("pread64", memory, buffer, PAGE_SIZE, page.hva)
        qemu.syscall("close", memory).require("close")
        return Answer(done, qemu.read(buffer, PAGE_SIZE))

    attack.by_qemu("pread(/proc/self/mem)", probe)


def test_qemu_cannot_write_private_page_by_proc_self_mem(attack: Attack) -> None:
    """QEMU cannot overwrite a private page of its guest through its own /proc/self/mem."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        memory, buffer = qemu.open("/proc/self/mem", os.O_RDWR), qemu.memory(PATTERN)
        done = qemu.syscall("pwrite64", memory, buffer, PAGE_SIZE, page.hva)
        qemu.syscall("close", memory).require("close")
        return Answer(done, wrote=PATTERN)

    attack.by_qemu("pwrite(/proc/self/mem)", probe)


def _whole(page: Target) -> tuple[int, int]:
    """A page as two arguments of a system call."""
    return page.hva, PAGE_SIZE


def _both(first: Done, answer: Answer) -> Answer:
    """What the kernel answered to the first step, and what the load met."""
    return replace(answer, done=replace(answer.done, returned=first.returned, errno=first.errno))


def _by_advice(attack: Attack, call: str, *advice: int) -> None:
    """Attack by madvise() and a load; the kernel's answer is that to the last advice, those before must be taken.

    The last leaves the mapping as QEMU itself made it.
    """

    def probe(qemu: Puppet, page: Target) -> Answer:
        for before in advice[:-1]:
            qemu.syscall("madvise", *_whole(page), before).require(f"madvise({before})")
        advice_done = qemu.syscall("madvise", *_whole(page), advice[-1])
        return _both(advice_done, load(qemu, page.hva))

    attack.by_qemu(f"madvise({call}), load", probe)


def _load_locked(qemu: Puppet, page: Target, first: Done) -> Answer:
    answer = load(qemu, page.hva)
    qemu.syscall("munlock", *_whole(page)).require("munlock")
    return _both(first, answer)


def _load_elsewhere(qemu: Puppet, page: Target, flags: int) -> Answer:
    """Move a page, load from it at its new place, and move it back; the guest must not touch it meanwhile."""
    place, move = qemu.memory(PAGE_SIZE), MREMAP_MAYMOVE | MREMAP_FIXED
    qemu.syscall("mremap", page.hva, PAGE_SIZE, PAGE_SIZE, move | flags, place).require("mremap")
    answer = load(qemu, place)
    qemu.syscall("mremap", place, PAGE_SIZE, PAGE_SIZE, move, page.hva).require("mremap back")
    return answer
