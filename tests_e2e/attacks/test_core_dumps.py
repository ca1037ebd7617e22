# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by a process that dies: the kernel writes its memory to a file, or to a program that handles such dumps."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import struct
from collections.abc import Callable, Sequence

from common.errors import ChannelError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import AimedObservation, Answer, Attack, Target, pages_of
from tests_e2e.support.cores import TO_A_FILE, TO_A_HANDLER, core_of, cores_go, page_in_core

NO_LIMIT = 2**64 - 1
TASK_SIZE = 0x7FFFFFFFF000  # where the memory of a process ends: asm/page_64_types.h
WALL = 0x40000000  # __WALL of linux/wait.h
DUMP = 60.0  # seconds


def test_host_cannot_read_private_page_in_core_dump_of_qemu(attack: Attack) -> None:
    """A core dump of QEMU, which is aborted, does not hold the private pages of its guest."""
    _of_qemu(attack, TO_A_FILE, "SIGABRT")


def test_host_cannot_read_private_page_in_core_dump_to_a_handler(attack: Attack) -> None:
    """Nor does the program get them that the kernel starts to handle the core dump of QEMU."""
    _of_qemu(attack, TO_A_HANDLER, "SIGABRT, core_pattern |")


def _of_qemu(attack: Attack, pattern: str, call: str) -> None:
    with attack.pool.fresh() as host, cores_go(host.ssh, pattern):
        # The plain guest's first, as for all that costs a QEMU its life.
        observations = [
            dump for guest, sets in reversed(pages_of(host)) for dump in _abort(attack, host, guest, sets, call)
        ]
    attack.judge(observations)


def _abort(attack: Attack, host: Host, guest: Guest, sets: Sequence[str], call: str) -> list[AimedObservation]:
    """Abort a guest's QEMU, and look for all of the guest's pages in the core dump."""
    aimed = attack.aim(guest, sets)
    pages = [aim.target for aim in aimed]
    with attack.puppeteer(host) as puppeteer, puppeteer.inside(guest.pid) as qemu:
        _prepare(qemu, pages)
    guest.may_end()
    host.ssh.run(["kill", "-ABRT", str(guest.pid)], seconds=10).require()
    poll_until(lambda: guest.vitals.reason is not None, Deadline(DUMP), "QEMU to dump its memory and end")
    core = core_of(guest.pid)
    contents = [page_in_core(host.ssh, core, page.hva) for page in pages]
    host.ssh.run(["rm", core], seconds=10).require()  # it lies in the host's memory
    # What the dump does not even know as mapped the kernel never came to.
    answers = [
        Answer(
            Done(returned=len(data or b"")), data or b"", met="" if data is None else "the dump tells of the mapping"
        )
        for data in contents
    ]
    return attack.observe(call, guest, aimed, answers)


def test_host_cannot_read_private_page_in_core_dump_of_forked_child(attack: Attack) -> None:
    """QEMU cannot have a child inherit a private page of its guest, so that the child's core dump would hold it."""
    with cores_go(attack.host.ssh, TO_A_FILE):
        attack.by_qemu("MADV_DOFORK, fork, SIGSEGV", _child_dumps(attack))


def _child_dumps(attack: Attack) -> Callable[[Puppet, Target], Answer]:
    ssh = attack.host.ssh

    def probe(qemu: Puppet, page: Target) -> Answer:
        # QEMU excludes its guest's memory from forks.
        advised = qemu.syscall("madvise", page.hva, PAGE_SIZE, mmap.MADV_DOFORK)
        child = qemu.syscall("clone", 0, 0, 0, 0, 0).require("fork")
        with attack.puppeteer(attack.host) as puppeteer, puppeteer.inside(child) as dying:
            _prepare(dying, [page])
        qemu.syscall("kill", child, signal.SIGSEGV).require("kill the child")
        status = qemu.memory(4)
        poll_until(
            lambda: qemu.syscall("wait4", child, status, WALL | os.WNOHANG, 0).require("wait4") == child,
            Deadline(DUMP),
            "the child to dump its memory",
        )
        if advised.errno is None:
            qemu.syscall("madvise", page.hva, PAGE_SIZE, mmap.MADV_DONTFORK).require("MADV_DONTFORK")
        if not os.WCOREDUMP(*struct.unpack("<i", qemu.read(status, 4))):
            raise ChannelError(f"the child {child} of QEMU dumped no core")
        data = page_in_core(ssh, core_of(child), page.hva)
        ssh.run(["rm", core_of(child)], seconds=10).require()
        return Answer(advised, data or b"")

    return probe


def _prepare(dying: Puppet, pages: Sequence[Target]) -> None:
    """Let a process dump as much as it wants, and leave out all but these pages: its dump lies in the host's memory."""
    limit = dying.memory(struct.pack("<QQ", NO_LIMIT, NO_LIMIT))
    dying.syscall("prlimit64", 0, resource.RLIMIT_CORE, limit, 0).require("prlimit(RLIMIT_CORE)")
    starts = [0, *sorted(page.hva + PAGE_SIZE for page in pages)]
    ends = [*sorted(page.hva for page in pages), TASK_SIZE]
    for start, end in zip(starts, ends, strict=True):
        done = dying.syscall("madvise", start, end - start, mmap.MADV_DONTDUMP)
        if done.errno != "ENOMEM":  # there is unmapped memory in between; all that is mapped has been dealt with
            done.require("MADV_DONTDUMP")
