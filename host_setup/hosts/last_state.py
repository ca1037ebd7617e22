# SPDX-License-Identifier: GPL-2.0-or-later
"""What host and guests do now: QMP status, all registers, tasks that are blocked, the last lines of consoles."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from common.errors import SealproofError
from host_setup.channels.qmp import Qmp
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host

PATIENCE = 5.0  # seconds for each question
_LINES = 30
# A task in state D (proc_pid_stat(5)) waits for something that no signal ends. The shell reads by itself: a guest's
# busybox takes long to start programs. The name is in brackets, and may have some of its own.
_BLOCKED = """
for task in /proc/[0-9]*/task/[0-9]*; do
    read -r stat < "$task/stat" || continue
    case ${stat##*) } in D*) echo "${stat%) [A-Z] *})"; cat "$task/stack"; esac
done 2> /dev/null
echo all
"""


def last_state(host: Host, *, whole: bool) -> Iterator[tuple[str, str]]:
    """What to say of a host, by title; what does not answer says why.

    :param whole: with registers and blocked tasks, which takes a second or two.
    """
    lost, qemu = host.vitals.reason is not None, host.qemu
    if lost:
        yield "the host is lost", str(host.vitals.reason)
    if qemu is not None:
        yield "the host", qemu.explain()
        if whole:
            yield "registers of the host", _answer_of(lambda: _registers(qemu.qmp))
    if lost or (qemu is not None and qemu.qmp.stops.runs):  # one that sleeps answers nothing but QMP
        return
    yield "last lines of the host's kernel", _answer_of(lambda: _kernel_log(host.ssh))
    if whole:
        yield "blocked tasks of the host", _answer_of(lambda: _blocked_tasks(host.ssh))
    for guest in host.all_guests:
        name = guest.vitals.name
        if guest.stopped:
            continue
        yield f"last lines of {name}", _answer_of(guest.console_tail)
        if not whole:
            continue
        yield f"QMP status of {name}", _answer_of(lambda: _status(guest.qmp))  # noqa: B023  called here alone
        yield f"registers of {name}, as QEMU has them", _answer_of(lambda: _registers(guest.qmp))  # noqa: B023
        if guest.vitals.reason is None:
            yield f"blocked tasks of {name}", _answer_of(lambda: _blocked_tasks(guest.ssh))  # noqa: B023


def _answer_of(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except (SealproofError, OSError) as error:
        return f"no answer: {error}"


def _status(qmp: Qmp) -> str:
    return str(qmp.execute("query-status", seconds=PATIENCE)["status"])


def _registers(qmp: Qmp) -> str:
    return qmp.monitor("info registers -a", seconds=PATIENCE)


def _blocked_tasks(ssh: Ssh) -> str:
    tasks = ssh.run(["sh", "-c", _BLOCKED], seconds=PATIENCE).text
    return tasks.removesuffix("all").rstrip() or "none" if tasks.endswith("all") else f"{tasks}\n(not all were read)"


def _kernel_log(ssh: Ssh) -> str:
    """Also lines that no console shows: which process died of a signal."""
    return ssh.run(["sh", "-c", f"dmesg | tail -n {_LINES}"], seconds=PATIENCE).text
