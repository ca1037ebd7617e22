# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to end a guest: by a reset or by closing the VM, where its QEMU lives on, and by the end of QEMU."""

from __future__ import annotations

import re
import select
import struct
from collections.abc import Callable

from common.errors import ChannelError, DeadlineError, MachineLostError, SealproofError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done, Puppet, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest

KVM_FILE = "anon_inode:kvm-v"  # a VM's, or a virtual CPU's
OUT_OF_DIRECT_MAP = "host_pages_out_of_direct_map: [1-9]"  # in debugfs
KVM_DEBUGFS = "/sys/kernel/debug/kvm"
WAIT = 1000  # milliseconds
TIMEOUT = 20.0
ENDS = 120.0  # seconds until QEMU has given back all memory, on a busy machine
# What each thread of a process does: where it is in user space or in which system call (proc_pid_syscall(5)), and where
# in the kernel.
_THREADS = """
cd "/proc/$0/task" || exit
for thread in *; do
    read -r name < "$thread/comm" && read -r stat < "$thread/stat" && stat=${stat##*) } || continue
    echo "thread $thread ($name), state ${stat%% *}"
    cat "$thread/syscall" "$thread/stack"
done
"""


def reset(guest: Guest) -> Done:
    """Reset the machine, and stop it in its firmware."""
    guest.qmp.execute("set-action", {"reboot": "reset"})  # our guests' QEMUs end by a reset otherwise
    guest.qmp.execute("stop")
    guest.qmp.execute("system_reset")
    # The VM is to run: that is how KVM learns of it. The firmware takes far longer to get to what was there.
    before = guest.memory.exits().total
    guest.qmp.execute("cont")
    poll_until(lambda: guest.memory.exits().total > before, Deadline(TIMEOUT), "the VM to run anew", interval=0.02)
    guest.qmp.execute("stop")
    return Done(returned=0)


def close_vm(host: Host, puppeteer: Puppeteer, guest: Guest) -> Done:
    """Have QEMU close its VM; how the last close() ended."""
    guest.qmp.execute("stop")
    links = host.ssh.run(["ls", "-l", f"/proc/{guest.pid}/fd"], seconds=10).require().text
    files = [int(fd) for fd in re.findall(rf" (\d+) -> {KVM_FILE}", links)]
    maps = host.ssh.run(["grep", KVM_FILE, f"/proc/{guest.pid}/maps"], seconds=10).require().text
    mapped = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in maps.splitlines()]
    if not files or not mapped:
        raise ChannelError(f"QEMU {guest.pid} has no VM open, or no virtual CPU mapped:\n{links}{maps}")
    with puppeteer.inside(guest.pid) as qemu:
        for first, end in mapped:
            qemu.syscall("munmap", first, end - first).require("munmap of the virtual CPU")
        closed = [qemu.syscall("close", file) for file in files]
    names = host.ssh.run(["ls", KVM_DEBUGFS], seconds=10).require().text.split()
    if any(name.startswith(f"{guest.pid}-") for name in names):
        raise ChannelError(f"the VM of QEMU {guest.pid} has not ended: {names}")
    return closed[-1]


def ask_to_quit(guest: Guest) -> str:
    """Ask a QEMU to end by itself, and do not wait for the end.

    :returns: how QEMU answered; QEMU may end before it answers.
    """
    guest.may_end()
    try:
        guest.qmp.execute("quit")
    except (ChannelError, MachineLostError, DeadlineError) as error:
        return f"quit was asked, and then: {error.message}"
    return "QMP took the quit"


def has_quit(host: Host, guest: Guest) -> None:
    """Have a QEMU end by itself, and wait until it is gone, and its memory with it."""
    pid = guest.pid  # which QEMU takes away with it
    _wait_until_gone(host, guest, pid, ask_to_quit(guest))


def kill_qemu(host: Host, guest: Guest) -> None:
    """Kill a QEMU, and wait until it is gone, and its memory with it."""
    guest.may_end()
    host.ssh.run(["kill", "-KILL", str(guest.pid)], seconds=20).require()
    _wait_until_gone(host, guest, guest.pid, "it was sent SIGKILL")


def _wait_until_gone(host: Host, guest: Guest, pid: int, answer: str) -> None:
    process = f"/proc/{pid}"
    poll_until(
        lambda: host.ssh.run(["test", "-e", process], seconds=20).status,
        Deadline(ENDS),
        "the end of QEMU",
        explain=lambda: lives_on(host, guest, answer),
    )


def lives_on(host: Host, guest: Guest, answer: str) -> str:
    """What to say of a QEMU that was to end: how it answered, its status, what each of its threads does.

    :param answer: how it took the order.
    """

    def threads() -> str:
        done = host.ssh.run(["sh", "-c", _THREADS, str(guest.pid)], seconds=TIMEOUT)
        return done.text.rstrip() or "it is no process of the host's any more"

    def answer_to(ask: Callable[[], object]) -> object:
        try:
            return ask()
        except SealproofError as error:
            return error.message

    return (
        f"QEMU {guest.pid} of {guest.vitals.name}: {answer}\n"
        f"QMP query-status: {answer_to(lambda: guest.qmp.execute('query-status'))}\n{answer_to(threads)}"
    )


def wait_for_ends(process: Puppet, *ends: int, explain: Callable[[], str] = lambda: "") -> None:
    """Wait for the ends of processes, which have given back their memory then; nothing is started for that.

    :param ends: descriptors of them (pidfd_open(2)), in the process that waits.
    :param explain: what to say of them if they go on.
    """
    for end in ends:
        request = process.memory(struct.pack("<ihh", end, select.POLLIN, 0))
        poll_until(
            lambda: process.syscall("poll", request, 1, WAIT).require("poll") == 1,  # noqa: B023  called in its turn
            Deadline(ENDS),
            "the end of QEMU",
            explain=explain,
        )


def memory_is_back(other: Guest) -> None:
    """Wait until the host's direct map has all that VMs which have ended had private, which is clear then.

    :param other: a guest that nothing is private in; KVM's debugfs of its VM tells of all of the host.
    """
    poll_until(
        lambda: not re.search(OUT_OF_DIRECT_MAP, other.memory.protection()),
        Deadline(ENDS),
        "private memory to come back",
        interval=0.2,
    )
