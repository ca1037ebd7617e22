# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by moving the page to another frame: the copy stays where it was."""

from __future__ import annotations

import struct

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer, Attack, Target
from tests_e2e.support.chain import call
from tests_e2e.support.frames import frame_after

MPOL_DEFAULT, MPOL_BIND = 0, 2  # linux/mempolicy.h
MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL = 1, 2, 4
NODES = 64  # bits of a node mask
MADV_SOFT_OFFLINE = 101  # asm-generic/mman-common.h
UNPOISON = "/sys/kernel/debug/hwpoison/unpoison-pfn"


def test_host_cannot_move_private_page_by_move_pages(attack: Attack) -> None:
    """The host cannot move a private page of a guest to another frame by move_pages(), and leave a copy behind."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        return _read_after_move_pages(attacker, page, MPOL_MF_MOVE_ALL)

    attack.by_a_process("move_pages(MPOL_MF_MOVE_ALL)", probe)


def test_qemu_cannot_move_private_page_by_move_pages(attack: Attack) -> None:
    """QEMU cannot move a private page of its guest to another frame by move_pages(), and leave a copy behind."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return _read_after_move_pages(qemu, page, MPOL_MF_MOVE)

    attack.by_qemu("move_pages(MPOL_MF_MOVE)", probe)


def test_qemu_cannot_move_private_page_by_mbind(attack: Attack) -> None:
    """QEMU cannot move a private page of its guest to another frame by mbind(), and leave a copy behind."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        mask = qemu.memory(struct.pack("<Q", 1 << _other_node(qemu, page)))
        move = call("mbind", page.hva, PAGE_SIZE, MPOL_BIND, mask, NODES, MPOL_MF_MOVE | MPOL_MF_STRICT)
        (done,), frame = frame_after(qemu, page, move)
        qemu.syscall("mbind", page.hva, PAGE_SIZE, MPOL_DEFAULT, 0, 0, 0).require("mbind(MPOL_DEFAULT)")
        return Answer(done, frame.data, met=frame.met)

    attack.by_qemu("mbind(MPOL_MF_MOVE)", probe)


def test_qemu_cannot_move_private_page_by_soft_offline(attack: Attack) -> None:
    """QEMU cannot have a private page of its guest moved off a frame that is to go offline (MADV_SOFT_OFFLINE)."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        (done,), frame = frame_after(qemu, page, call("madvise", page.hva, PAGE_SIZE, MADV_SOFT_OFFLINE))
        if done.errno is None:
            number = str(page.hpa // PAGE_SIZE)
            attack.host.ssh.run(["sh", "-c", 'echo "$1" > "$0"', UNPOISON, number], seconds=10).require()
        return Answer(done, frame.data, met=frame.met)

    attack.by_qemu("madvise(MADV_SOFT_OFFLINE)", probe)


def _read_after_move_pages(process: Puppet, page: Target, how: int) -> Answer:
    """Move a page of QEMU's, and read the frame that it was in.

    What became of the page stands in its status, which is its node, or a negative errno.
    """
    node = _other_node(process, page)
    pages, nodes = process.memory(struct.pack("<Q", page.hva)), process.memory(struct.pack("<i", node))
    status = process.memory(bytes(4))  # written to: the kernel needs no memory for it
    (done,), frame = frame_after(process, page, call("move_pages", page.qemu, 1, pages, nodes, status, how))
    done.require("move_pages")
    (now,) = struct.unpack("<i", process.read(status, 4))
    return Answer(Done(returned=0) if now == node else Done.of_result(now), frame.data, met=frame.met)


def _other_node(process: Puppet, page: Target) -> int:
    """The memory node, of the host's two, that the page is not on."""
    pages, status = process.memory(struct.pack("<Q", page.hva)), process.memory(4)
    process.syscall("move_pages", page.qemu, 1, pages, 0, status, 0).require("move_pages, to ask")
    (node,) = struct.unpack("<i", process.read(status, 4))
    return 1 - Done.of_result(node).require("the page's node")
