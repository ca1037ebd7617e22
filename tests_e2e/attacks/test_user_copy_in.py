# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls of QEMU by which the kernel writes to a page: what was read or received, and results of many kinds."""

from __future__ import annotations

import select
import signal
import struct
import termios
from collections.abc import Callable

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support import conduits
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.conduits import Conduit, fill
from tests_e2e.support.overwriting import as_found, as_into_own_memory
from tests_e2e.support.steps import descriptor_of, open_file, without_descriptor

CLOCK_MONOTONIC = 1
PR_GET_NAME = 16
SIGSET = 8  # bytes of a signal set
EPOLL_CTL_ADD, EPOLL_EVENT = 1, struct.Struct("<IQ")
FUTEX_WAKE_OP, FUTEX_PRIVATE_FLAG = 5, 128
CLONE_VM, CLONE_VFORK, CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID = 0x100, 0x4000, 0x100000, 0x200000
WALL = 0x40000000
# clone, and the child at once exit(0): syscall; test eax,eax; jnz +9; xor edi,edi; mov eax,60; syscall
CLONE = bytes.fromhex("0f05 85c0 7509 31ff b83c000000 0f05")
CLONE_NUMBER = 56
AT = -(2**62)  # among arguments: where the page's address goes

Probe = Callable[[Puppet, Target], Answer]


def _into_page(conduit: Conduit, call: Callable[[Puppet, int, int], Done]) -> Probe:
    """The probe that makes a call read a page's worth of a pattern, which waits in a conduit, into the page."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduit(qemu) as ends:
            return Answer(call(qemu, fill(qemu, ends, PATTERN), page.hva), wrote=PATTERN)

    return probe


def _result(size: int, name: str, *args: int) -> Probe:
    """The probe of a call that always has the same result: ``args`` with AT for the page's address."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return as_into_own_memory(
            qemu, page, size, lambda at: qemu.syscall(name, *(at if arg == AT else arg for arg in args))
        )

    return probe


def test_qemu_cannot_read_a_pipe_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest by read() of a pipe."""
    attack.by_qemu(
        "read(pipe)", _into_page(conduits.pipe, lambda qemu, out, at: qemu.syscall("read", out, at, PAGE_SIZE))
    )


def test_qemu_cannot_pread_a_file_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest by pread64() of a file."""
    attack.by_qemu(
        "pread64(file)",
        _into_page(conduits.tmp_file, lambda qemu, out, at: qemu.syscall("pread64", out, at, PAGE_SIZE, 0)),
    )


def test_qemu_cannot_readv_a_memfd_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest by readv() of a memfd."""
    attack.by_qemu(
        "readv(memfd)",
        _into_page(
            conduits.memory_file, lambda qemu, out, at: qemu.syscall("readv", out, qemu.iovec(at, PAGE_SIZE), 1)
        ),
    )


def test_qemu_cannot_receive_unix_stream_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest by recvfrom() of a unix stream socket."""
    attack.by_qemu("recvfrom(unix stream)", _into_page(conduits.unix_stream, _recvfrom))


def test_qemu_cannot_receive_udp_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest by recvfrom() of a UDP socket."""
    attack.by_qemu("recvfrom(UDP)", _into_page(conduits.udp, _recvfrom))


def test_qemu_cannot_receive_tcp_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest by recvmsg() of a TCP socket."""

    def call(qemu: Puppet, out: int, at: int) -> Done:
        message = struct.pack("<QI4xQQQQi4x", 0, 0, qemu.iovec(at, PAGE_SIZE), 1, 0, 0, 0)  # struct msghdr
        return qemu.syscall("recvmsg", out, qemu.memory(message), 0)

    attack.by_qemu("recvmsg(TCP)", _into_page(conduits.tcp, call))


def test_qemu_cannot_read_proc_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest by read() of a file of procfs."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_file(qemu, "/proc/version", 0) as file:
            return as_into_own_memory(qemu, page, 64, lambda at: qemu.syscall("pread64", file, at, 64, 0))

    attack.by_qemu("pread64(/proc/version)", probe)


def test_qemu_cannot_getrandom_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel overwrite a private page of its guest with random bytes."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return as_found(qemu, page, PAGE_SIZE, lambda at: qemu.syscall("getrandom", at, PAGE_SIZE, 0))

    attack.by_qemu("getrandom", probe)


def test_qemu_cannot_get_time_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write the time to a private page of its guest."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return as_found(qemu, page, 16, lambda at: qemu.syscall("clock_gettime", CLOCK_MONOTONIC, at))

    attack.by_qemu("clock_gettime", probe)


def test_qemu_cannot_get_sysinfo_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write the result of sysinfo() to a private page of its guest."""
    attack.by_qemu("sysinfo", lambda qemu, page: as_found(qemu, page, 112, lambda at: qemu.syscall("sysinfo", at)))


def test_qemu_cannot_get_names_of_files_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write a folder's entries to a private page of its guest by getdents64()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with open_file(qemu, "/proc", 0) as folder:  # its first entry is ".": 19 bytes, the name and its end
            return as_into_own_memory(qemu, page, 21, lambda at: _first_entry(qemu, folder, at))

    attack.by_qemu("getdents64", probe)


def test_qemu_cannot_get_uname_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write its own name to a private page of its guest by uname()."""
    attack.by_qemu("uname", _result(390, "uname", AT))


def test_qemu_cannot_get_folder_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write the name of its folder to a private page of its guest by getcwd()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        size = qemu.syscall("getcwd", qemu.memory(PAGE_SIZE), PAGE_SIZE).require("getcwd")
        answer = as_into_own_memory(qemu, page, size, lambda at: qemu.syscall("getcwd", at, PAGE_SIZE))
        return Answer(without_descriptor(answer.done), wrote=answer.wrote)

    attack.by_qemu("getcwd", probe)


def test_qemu_cannot_get_file_status_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write a file's status to a private page of its guest by fstat()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduits.memory_file(qemu) as (file, _):
            return as_into_own_memory(qemu, page, 144, lambda at: qemu.syscall("fstat", file, at))

    attack.by_qemu("fstat", probe)


def test_qemu_cannot_get_socket_name_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write a socket's address to a private page of its guest by getsockname()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduits.udp(qemu) as (_, out):
            length = qemu.memory(struct.pack("<I", 16))
            return as_into_own_memory(qemu, page, 16, lambda at: qemu.syscall("getsockname", out, at, length))

    attack.by_qemu("getsockname", probe)


def test_qemu_cannot_get_pipe_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write two descriptors to a private page of its guest by pipe2(), nor keep them."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduits.pipe(qemu) as (into, out):
            wrote = struct.pack("<ii", out, into)
        # The two lowest free descriptors are these again; close() tells which are there: both, or none after a failure.
        done = qemu.syscall("pipe2", page.hva, 0)
        there = sum(qemu.syscall("close", file).errno is None for file in (out, into))
        return Answer(done if there == (2 if done.errno is None else 0) else Done(returned=there), wrote=wrote)

    attack.by_qemu("pipe2", probe)


def test_qemu_cannot_get_affinity_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write a set of processors to a private page of its guest."""
    attack.by_qemu("sched_getaffinity", _result(8, "sched_getaffinity", 0, 8, AT))


def test_qemu_cannot_get_its_name_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write its thread's name to a private page of its guest by prctl()."""
    attack.by_qemu("prctl(PR_GET_NAME)", _result(16, "prctl", PR_GET_NAME, AT, 0, 0, 0))


def test_qemu_cannot_get_signal_mask_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write its signal mask to a private page of its guest by rt_sigprocmask()."""
    attack.by_qemu("rt_sigprocmask", _result(SIGSET, "rt_sigprocmask", signal.SIG_BLOCK, 0, AT, SIGSET))


def test_qemu_cannot_read_a_timer_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write how often a timer expired to a private page of its guest."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with descriptor_of(qemu, "timerfd_create", CLOCK_MONOTONIC, 0) as timer:
            once = qemu.memory(struct.pack("<qqqq", 0, 0, 0, 1))  # after 1 ns, and never again
            qemu.syscall("timerfd_settime", timer, 0, once, 0).require("timerfd_settime")
            return Answer(qemu.syscall("read", timer, page.hva, 8), wrote=struct.pack("<Q", 1))

    attack.by_qemu("read(timerfd)", probe)


def test_qemu_cannot_get_residency_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write which of its pages are there to a private page of its guest by mincore()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        pages = 16
        own = qemu.memory(PATTERN * pages)
        return as_into_own_memory(qemu, page, pages, lambda at: qemu.syscall("mincore", own, pages * PAGE_SIZE, at))

    attack.by_qemu("mincore", probe)


def test_qemu_cannot_get_ioctl_result_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write the result of an ioctl to a private page of its guest."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduits.pipe(qemu) as ends:
            out = fill(qemu, ends, PATTERN)
            return as_into_own_memory(qemu, page, 4, lambda at: qemu.syscall("ioctl", out, termios.FIONREAD, at))

    attack.by_qemu("ioctl(FIONREAD)", probe)


def test_qemu_cannot_get_events_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write events to a private page of its guest by epoll_wait()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with descriptor_of(qemu, "epoll_create1", 0) as poll, conduits.pipe(qemu) as (into, _):
            event = EPOLL_EVENT.pack(select.EPOLLOUT, 0x0123456789ABCDEF)
            qemu.syscall("epoll_ctl", poll, EPOLL_CTL_ADD, into, qemu.memory(event)).require("epoll_ctl")
            return as_into_own_memory(
                qemu, page, EPOLL_EVENT.size, lambda at: qemu.syscall("epoll_wait", poll, at, 1, 0)
            )

    attack.by_qemu("epoll_wait", probe)


def test_qemu_cannot_select_by_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel read a set of descriptors from a private page of its guest, nor write it back."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        # Of one descriptor: the other bits of the word are not looked at, and all are cleared.
        done = qemu.syscall("select", 1, 0, 0, page.hva, qemu.memory(16))
        return Answer(done, wrote=bytes(8))

    attack.by_qemu("select", probe)


def test_qemu_cannot_set_a_futex_in_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel set a futex in a private page of its guest by FUTEX_WAKE_OP."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        value = 0x123
        done = qemu.syscall(
            "futex", qemu.memory(4), FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, 1, page.hva, value << 12
        )  # FUTEX_OP(FUTEX_OP_SET, value, FUTEX_OP_CMP_EQ, 0)
        return Answer(done, wrote=struct.pack("<I", value))

    attack.by_qemu("futex(FUTEX_WAKE_OP)", probe)


def test_qemu_cannot_get_a_child_id_into_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel write a new process's id to a private page of its guest by clone()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        done = _short_lived(qemu, CLONE_PARENT_SETTID, rdx=page.hva)
        return Answer(without_descriptor(done), wrote=struct.pack("<i", done.require("clone")))

    attack.by_qemu("clone(CLONE_PARENT_SETTID)", probe)


def test_qemu_cannot_have_private_page_cleared_at_exit(attack: Attack) -> None:
    """QEMU cannot have the kernel clear a word of a private page of its guest when a thread of it ends."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return Answer(without_descriptor(_short_lived(qemu, CLONE_CHILD_CLEARTID, r10=page.hva)), wrote=bytes(4))

    attack.by_qemu("clone(CLONE_CHILD_CLEARTID)", probe)


def _first_entry(qemu: Puppet, folder: int, at: int) -> Done:
    qemu.syscall("lseek", folder, 0, 0).require("lseek")
    return qemu.syscall("getdents64", folder, at, 24)


def _recvfrom(qemu: Puppet, out: int, at: int) -> Done:
    return qemu.syscall("recvfrom", out, at, PAGE_SIZE, 0, 0, 0)


def _short_lived(qemu: Puppet, flag: int, **registers: int) -> Done:
    """How clone() ended, of a process on QEMU's memory that has come and gone without a signal: it gives its id."""
    done = qemu.run(CLONE, rax=CLONE_NUMBER, rdi=CLONE_VM | CLONE_VFORK | flag, **registers)
    qemu.syscall("wait4", done.require("clone"), 0, WALL, 0).require("wait4")
    return done
