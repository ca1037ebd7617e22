# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof doctor FILE``: tries each machine of an inventory, and changes nothing on any.

Exit 0: each can be used. 1: at least one cannot, and the reason is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from common.errors import SealproofError
from common.paths import parse_path
from common.program import end_with
from common.threads import workers
from common.waiting import Deadline
from host_setup import inventory
from host_setup.hosts.guest_spec import PLAIN, PROTECTED
from host_setup.inventory import Boot, Config, Local, NoConsole, Remote
from host_setup.remote.console import ConsoleLog
from host_setup.remote.control import Control
from host_setup.remote.fitness import obstacles
from host_setup.remote.leased import words_to_add
from host_setup.this_machine import survey, why_not_nested
from host_setup.tools.doctor import Finding, Grade

REACH = 20.0  # seconds
KIB = 1024
ROOM = 64 * KIB  # KiB of disk: kernel, script, lease
IMAGES = 512 * KIB  # KiB of memory, beside the guests'

_Add = Callable[[Grade, str, str], None]


def examine(name: str, machine: Local | Remote | SealproofError) -> list[Finding]:
    """What there is to say of one machine. Whatever goes wrong with it, others have a word, too.

    :param machine: or what is wrong with its entry in the inventory.
    """
    try:
        return _examine(name, machine)
    except SealproofError as error:
        lines = error.message.splitlines() or [""]
        return [Finding(Grade.STOP, name, line, error.hint if line is lines[-1] else "") for line in lines]
    except Exception as error:  # noqa: BLE001  of one machine; it must not hide what there is to say of the others
        return [_own_fault(name, error)]


def _own_fault(name: str, error: Exception) -> Finding:
    message = f"{type(error).__name__}: {error}".splitlines()[0]
    advice = "please report this: it is a bug in sealproof"
    return Finding(Grade.STOP, name, f"doctor failed on this machine: {message}", advice)


def _examine(name: str, machine: Local | Remote | SealproofError) -> list[Finding]:
    if isinstance(machine, SealproofError):
        raise machine
    if isinstance(machine, Local):
        against = why_not_nested(survey()) if machine.kind == "nested" else ""
        text = f"{machine.kind}, on this machine{': ' if against else ''}{against}"
        advice = "'make doctor' without INVENTORY says what to do about it" if against else ""
        return [Finding(Grade.STOP if against else Grade.OK, name, text, advice)]
    control = Control(name, machine)
    try:
        control.connect(Deadline(REACH))
        facts = control.facts()
    finally:
        control.close()
    return judge(name, machine, facts)


def judge(name: str, machine: Remote, facts: Mapping[str, str]) -> list[Finding]:
    """What a machine's own word means for a run."""
    findings = [_identity(name, machine, facts)]

    def add(state: Grade, fact: str, advice: str) -> None:
        findings.append(Finding(state, name, fact, advice))

    if not machine.expendable:
        add(Grade.STOP, "not expendable", f"if a run may reboot it, write expendable = true in [machine.{name}]")
    if facts.get("root") != "yes":
        add(Grade.STOP, f"{machine.user} is not root and has no sudo", "log in as root, or give that user sudo")
    if not facts.get("systemd"):
        add(Grade.STOP, "no systemd", "a run needs it to bring the machine back: use another machine")
    if facts.get("machine") != "x86_64":
        add(Grade.STOP, f"architecture {facts.get('machine')}", "use an x86-64 machine")
    if not facts.get("extension"):
        add(Grade.STOP, "the processor shows neither svm nor vmx", "enable virtualisation in its firmware")
    if facts.get("holder"):
        add(Grade.NOTE, f"leased by {facts['holder']}, last heard of {facts.get('silent')} s ago", "wait for that run")
    _boot(name, machine, facts, add)
    _room(machine, facts, add)
    if isinstance(machine.console, NoConsole):
        add(Grade.NOTE, "no console", "with a console, a kernel that does not boot says why")
    if machine.power is None:
        add(Grade.NOTE, "no power command", "with a power command, a machine that hangs comes back by itself")
    elif shutil.which(machine.power.cycle[0]) is None:
        add(
            Grade.STOP,
            f"its power command, {machine.power.cycle[0]}, is not installed here",
            "install it, or correct the command",
        )
    return findings


def _identity(name: str, machine: Remote, facts: Mapping[str, str]) -> Finding:
    memory = int(facts.get("memory") or 0) // KIB
    virtual = facts.get("virtual", "")
    where = "" if virtual == "none" else f", a virtual machine ({virtual or 'of unknown kind'})"
    fact = f"Linux {facts.get('release')}, {facts.get('processor')}, {facts.get('cpus')} CPUs, {memory} MiB{where}"
    return Finding(Grade.OK, name, f"{machine.address}: {fact}")


def _boot(name: str, machine: Remote, facts: Mapping[str, str], add: _Add) -> None:
    for obstacle in obstacles(machine, facts, words_to_add(machine)):
        add(Grade.STOP, obstacle.problem, obstacle.advice)
    if machine.config is Config.LEAN and facts.get("selinux") == "yes":
        fact = (
            "it has SELinux and a lean kernel has not: on the way back it may label all its files anew, and boot again"
        )
        add(Grade.NOTE, fact, f'config = "own", or time for that in boot of [machine.{name}.limits]')
    if "crypt" in facts.get("root_is", "").split():
        fact = "its root file system is encrypted: with each kernel, ours too, it must open without a person"
        add(Grade.NOTE, fact, "try that once: a key in a TPM may be for its own kernel alone")
    if machine.config is Config.OWN and not facts.get("config"):
        add(Grade.STOP, "its kernel's configuration is not in /boot", 'config = "lean", if its devices are a QEMU\'s')


def _room(machine: Remote, facts: Mapping[str, str], add: _Add) -> None:
    rooms = [("disk", "/var/lib", ROOM)]
    if machine.boot is Boot.GRUB:
        rooms.append(("boot_disk", "/boot", ROOM))
    elif machine.boot is Boot.SYSTEMD_BOOT and "esp_disk" in facts:
        rooms.append(("esp_disk", "the EFI system partition", ROOM + int(facts.get("initramfs_size") or 0)))
    for fact, where, needed in rooms:
        free = int(facts.get(fact) or 0)
        if free < needed:
            add(Grade.STOP, f"{free // KIB} MiB free for {where}", f"free some: {needed // KIB} MiB are needed")
    need = IMAGES + (PLAIN.memory + PROTECTED.memory) * KIB
    available = int(facts.get("available") or 0)
    if available < need:
        add(
            Grade.STOP,
            f"{available // KIB} MiB of memory available",
            f"stop other processes: {need // KIB} MiB are needed",
        )


@contextlib.contextmanager
def consoles(machines: Mapping[str, Local | Remote | SealproofError]) -> Iterator[Callable[[str], list[Finding]]]:
    """Try the console of each machine: what there is to say of it, by the machine's name.

    They begin together, as each may take its time. From the main thread, as any process is started.
    """
    logs: dict[str, ConsoleLog | Exception] = {}
    with tempfile.TemporaryDirectory(prefix="sealproof-doctor-") as folder, contextlib.ExitStack() as all_of_them:
        for name, machine in machines.items():
            if isinstance(machine, Remote):
                try:
                    logs[name] = log = ConsoleLog(machine.console, Path(folder) / name)
                    all_of_them.callback(log.close)
                except Exception as error:  # noqa: BLE001  as above
                    logs[name] = error
        yield lambda name: _console(name, logs.get(name))


def _console(name: str, log: ConsoleLog | Exception | None) -> list[Finding]:
    if log is None:
        return []
    if isinstance(log, SealproofError):
        return [Finding(Grade.STOP, name, log.message, log.hint)]
    if isinstance(log, Exception):
        return [_own_fault(name, log)]
    problem = log.settle()
    if log.is_held:
        return [
            Finding(
                Grade.NOTE,
                name,
                "another session holds its console",
                "a run that leases the machine takes the console over",
            )
        ]
    if not problem:
        return []
    return [Finding(Grade.STOP, name, problem, f"see console in [machine.{name}]; try its command by hand")]


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof doctor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("inventory", type=parse_path)
    return parser


def main(argv: list[str]) -> int:
    """Print a line for each finding; the exit status is in the module's description."""
    machines = inventory.load_each(options_parser().parse_args(argv).inventory)
    with consoles(machines) as console_findings, workers(len(machines)) as all_of_them:
        each = zip(machines, all_of_them.map(examine, machines, machines.values()), strict=True)
        findings = [finding for name, some in each for finding in (*some, *console_findings(name))]
    width = max(len(name) for name in machines)
    for finding in findings:
        sys.stdout.write(f"  {finding.state:<7} {finding.subject:<{width}}  {finding.fact}\n")
        if finding.advice:
            sys.stdout.write(f"  {'':<7} {'':<{width}}  -> {finding.advice}\n")
    return 1 if any(finding.state is Grade.STOP for finding in findings) else 0


if __name__ == "__main__":
    end_with(main)
