# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls of QEMU that keep an argument which stands in a page, and tell it again when they are asked."""

from __future__ import annotations

import os
import select
import signal
import struct
import termios
from collections.abc import Callable

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support import conduits
from tests_e2e.support.approach import straddling
from tests_e2e.support.attack import Answer, Attack, Target
from tests_e2e.support.bpf import BPF_MAP_UPDATE, map_of, on_map, value_of
from tests_e2e.support.sockets import AF_INET, SOCK_STREAM
from tests_e2e.support.steps import descriptor_of, open_pipe, read_pending, without_descriptor

STRINGS = 64  # bytes that a probe reads which gets them string by string
PR_SET_NAME, PR_GET_NAME, NAME = 15, 16, 16
IPC_PRIVATE, IPC_CREAT, IPC_RMID, IPC_NOWAIT = 0, 0o1000, 0, 0o4000
KEY_SPEC_THREAD_KEYRING, KEYCTL_READ, KEYCTL_INVALIDATE = -1, 11, 21
SOL_TCP, TCP_FASTOPEN_KEY, FASTOPEN_KEYS = 6, 33, 32
WINSIZE = 8
EPOLL_CTL_ADD = 1
SIGINFO, KERNEL_SIGINFO, SI_QUEUE = 128, 48, -1  # bytes that user space has for it, and that the kernel keeps
SIGNAL, SIGSET = 50, 8  # a real-time signal that nobody uses
WALL = 0x40000000
# vfork by clone(rdi=flags); in the child dup2(r12, 1), execve(r13, r14, r15), and exit(its errno) where that fails.
EXEC = bytes.fromhex(
    "b838000000 0f05 85c0 752a"
    "4489e7 be01000000 b821000000 0f05"
    "4c89ef 4c89f6 4c89fa b83b000000 0f05"
    "f7d8 89c7 b83c000000 0f05"
)
CLONE_VM, CLONE_VFORK = 0x100, 0x4000


def test_qemu_cannot_name_its_thread_by_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as the name of a thread, by prctl()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        before, after = qemu.memory(NAME), qemu.memory(NAME)
        qemu.syscall("prctl", PR_GET_NAME, before, 0, 0, 0).require("PR_GET_NAME")

        def string(at: int) -> tuple[Done, bytes]:
            done = qemu.syscall("prctl", PR_SET_NAME, at, 0, 0, 0)
            qemu.syscall("prctl", PR_GET_NAME, after, 0, 0, 0).require("PR_GET_NAME")
            name = qemu.read(after, NAME)
            return done, name[: min(name.index(0) + 1, NAME - 1)]  # a name that fills all was cut off

        answer = _string_by_string(page, string)
        qemu.syscall("prctl", PR_SET_NAME, before, 0, 0, 0).require("PR_SET_NAME")
        return answer

    attack.by_qemu("prctl(PR_SET_NAME)", probe)


def test_qemu_cannot_link_to_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as the path of a symbolic link."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        link, target = qemu.memory(b"/tmp/sealproof-link\0"), qemu.memory(PAGE_SIZE)

        def string(at: int) -> tuple[Done, bytes]:
            done = qemu.syscall("symlink", at, link)
            if done.errno == "ENOENT":  # the path is empty
                return Done(returned=0), b"\0"
            if done.errno is not None:
                return done, b""
            size = qemu.syscall("readlink", link, target, PAGE_SIZE).require("readlink")
            qemu.syscall("unlink", link).require("unlink")
            return done, qemu.read(target, size) + b"\0"

        return _string_by_string(page, string)

    attack.by_qemu("symlink", probe)


def test_qemu_cannot_hand_private_page_to_a_program(attack: Attack) -> None:
    """QEMU cannot have the kernel hand a private page of its guest to a new program as an argument, by execve()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        path, form = qemu.memory(b"/usr/bin/printf\0"), qemu.memory(b"%s\0")
        status = qemu.memory(4)

        def string(at: int) -> tuple[Done, bytes]:
            arguments = qemu.memory(struct.pack("<QQQQ", path, form, at, 0))
            with open_pipe(qemu) as (out, into):
                flags = CLONE_VM | CLONE_VFORK
                child = qemu.run(EXEC, rdi=flags, r12=into, r13=path, r14=arguments, r15=arguments + 24)
                qemu.syscall("wait4", child.require("clone"), status, WALL, 0).require("wait4")
                (end,) = struct.unpack("<i", qemu.read(status, 4))
                text = read_pending(qemu, out, PAGE_SIZE)
            return _end_of_child(end), text + b"\0"

        return _string_by_string(page, string)

    attack.by_qemu("execve", probe)


def test_qemu_cannot_set_an_attribute_to_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as an extended attribute of a file."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        name = qemu.memory(b"user.sealproof\0")
        with conduits.memory_file(qemu) as (file, _):
            done = qemu.syscall("fsetxattr", file, name, page.hva, PAGE_SIZE, 0)
            return Answer(done, _read_answer(qemu, done, "fgetxattr", lambda at: (file, name, at, PAGE_SIZE)))

    attack.by_qemu("fsetxattr", probe)


def test_qemu_cannot_queue_private_page_by_mq_send(attack: Attack) -> None:
    """QEMU cannot have the kernel put a private page of its guest into a POSIX message queue."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        name = qemu.memory(b"sealproof\0")
        with descriptor_of(qemu, "mq_open", name, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o600, 0) as queue:
            qemu.syscall("mq_unlink", name).require("mq_unlink")
            done = qemu.syscall("mq_timedsend", queue, page.hva, PAGE_SIZE, 0, 0)
            return Answer(
                done, _read_answer(qemu, done, "mq_timedreceive", lambda at: (queue, at, 2 * PAGE_SIZE, 0, 0))
            )

    attack.by_qemu("mq_timedsend", probe)


def test_qemu_cannot_queue_private_page_by_msgsnd(attack: Attack) -> None:
    """QEMU cannot have the kernel put a private page of its guest into a System V message queue."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        queue = qemu.syscall("msgget", IPC_PRIVATE, IPC_CREAT | 0o600).require("msgget")
        with straddling(qemu, page, struct.pack("<q", 1)) as message:  # the kind, which is no secret, stands before
            done = qemu.syscall("msgsnd", queue, message, PAGE_SIZE, IPC_NOWAIT)
        data = _read_answer(qemu, done, "msgrcv", lambda at: (queue, at, PAGE_SIZE, 0, IPC_NOWAIT), skip=8)
        qemu.syscall("msgctl", queue, IPC_RMID, 0).require("msgctl")
        return Answer(done, data)

    attack.by_qemu("msgsnd", probe)


def test_qemu_cannot_keep_private_page_as_a_key(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as a key, by add_key()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        kind, name = qemu.memory(b"user\0"), qemu.memory(b"sealproof\0")
        done = qemu.syscall("add_key", kind, name, page.hva, PAGE_SIZE, KEY_SPEC_THREAD_KEYRING)
        if done.errno is not None:
            return Answer(done)
        key = done.require("add_key")
        data = _read_answer(qemu, done, "keyctl", lambda at: (KEYCTL_READ, key, at, PAGE_SIZE))
        qemu.syscall("keyctl", KEYCTL_INVALIDATE, key).require("KEYCTL_INVALIDATE")
        return Answer(without_descriptor(done), data)

    attack.by_qemu("add_key", probe)


def test_qemu_cannot_set_a_socket_option_to_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as an option of a socket, by setsockopt()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        option, size = (SOL_TCP, TCP_FASTOPEN_KEY), qemu.memory(struct.pack("<I", FASTOPEN_KEYS))
        with descriptor_of(qemu, "socket", AF_INET, SOCK_STREAM, 0) as socket:
            done = qemu.syscall("setsockopt", socket, *option, page.hva, FASTOPEN_KEYS)
            if done.errno is not None:
                return Answer(done)
            keys = qemu.memory(FASTOPEN_KEYS)
            qemu.syscall("getsockopt", socket, *option, keys, size).require("getsockopt")
            return Answer(done, qemu.read(keys, FASTOPEN_KEYS))

    attack.by_qemu("setsockopt(TCP_FASTOPEN_KEY)", probe)


def test_qemu_cannot_put_private_page_into_a_bpf_map(attack: Attack) -> None:
    """QEMU cannot have the kernel copy a private page of its guest into a BPF map."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with map_of(qemu, PAGE_SIZE) as into:
            done = on_map(qemu, BPF_MAP_UPDATE, into, page.hva)
            return Answer(done, value_of(qemu, into, PAGE_SIZE))

    attack.by_qemu("bpf(BPF_MAP_UPDATE_ELEM)", probe)


def test_qemu_cannot_set_an_ioctl_argument_to_private_page(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as an ioctl's argument: the size of a terminal."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with conduits.terminal(qemu) as (terminal, _):
            done = qemu.syscall("ioctl", terminal, termios.TIOCSWINSZ, page.hva)
            size = qemu.memory(WINSIZE)
            qemu.syscall("ioctl", terminal, termios.TIOCGWINSZ, size).require("TIOCGWINSZ")
            return Answer(done, qemu.read(size, WINSIZE))

    attack.by_qemu("ioctl(TIOCSWINSZ)", probe)


def test_qemu_cannot_take_private_page_for_event_data(attack: Attack) -> None:
    """QEMU cannot have the kernel read a word of a private page of its guest as the data of an event of epoll."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        with descriptor_of(qemu, "epoll_create1", 0) as poll, conduits.event_counter(qemu) as (counter, _):
            qemu.syscall("write", counter, qemu.memory(struct.pack("<Q", 1)), 8).require("write")
            with straddling(
                qemu, page, struct.pack("<I", select.EPOLLIN)
            ) as event:  # which events stands before the data
                done = qemu.syscall("epoll_ctl", poll, EPOLL_CTL_ADD, counter, event)
            buffer = qemu.memory(12)
            count = qemu.syscall("epoll_wait", poll, buffer, 1, 0).require("epoll_wait")
            return Answer(done, qemu.read(buffer, 12)[4:] if count else b"")

    attack.by_qemu("epoll_ctl", probe)


def test_qemu_cannot_send_private_page_with_a_signal(attack: Attack) -> None:
    """QEMU cannot have the kernel read a private page of its guest as what a signal carries, by rt_sigqueueinfo()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        blocked, mask = qemu.memory(struct.pack("<Q", 1 << SIGNAL - 1)), qemu.memory(SIGSET)
        qemu.syscall("rt_sigprocmask", signal.SIG_BLOCK, blocked, mask, SIGSET).require("rt_sigprocmask")
        with straddling(qemu, page, struct.pack("<iiii", SIGNAL, 0, SI_QUEUE, 0)) as info:
            done = qemu.syscall("rt_tgsigqueueinfo", qemu.pid, qemu.pid, SIGNAL, info)
        siginfo, none = qemu.memory(SIGINFO), qemu.memory(16)
        signal_done = qemu.syscall("rt_sigtimedwait", blocked, siginfo, none, SIGSET)
        qemu.syscall("rt_sigprocmask", signal.SIG_SETMASK, mask, 0, SIGSET).require("rt_sigprocmask")
        return Answer(done, qemu.read(siginfo, KERNEL_SIGINFO)[16:] if signal_done.errno is None else b"")

    attack.by_qemu("rt_tgsigqueueinfo", probe)


def _string_by_string(page: Target, string: Callable[[int], tuple[Done, bytes]]) -> Answer:
    """Read the page's start by a call that takes strings: each one's end is a zero byte, and the next one is behind it.

    :param string: makes the call with an address; tells how it ended, and what of the string it had, with its zero.
    """
    data, done = b"", Done(returned=0)
    while len(data) < STRINGS and done.errno is None:
        done, more = string(page.hva + len(data))
        data += more if done.errno is None else b""
    return Answer(done, data[:STRINGS])


def _end_of_child(status: int) -> Done:
    """How the child's execve() ended, by the status of its end: 0, or the errno that it went with."""
    return Done.of_result(-(status >> 8 & 0xFF))


def _read_answer(
    qemu: Puppet, done: Done, call: str, arguments: Callable[[int], tuple[int, ...]], *, skip: int = 0
) -> bytes:
    """What the call that asks has to tell once the argument was taken; it returns how many bytes that is.

    :param arguments: by the address for its answer. :param skip: bytes of the answer before what it tells.
    """
    if done.errno is not None:
        return b""
    answer = qemu.memory(2 * PAGE_SIZE + skip)
    count = qemu.syscall(call, *arguments(answer)).require(call)
    return qemu.read(answer + skip, count)
