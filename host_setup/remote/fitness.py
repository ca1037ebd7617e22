# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a machine can boot a kernel of ours once, and come back: judged by its own facts, before anything is written.

Doctor says it, and a run looks before it leases the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from host_setup.inventory import Boot, Config, Remote

BUILT_IN_KEXEC = 254
"""The first systemd that starts a loaded kernel without kexec-tools."""
LONGEST = 1980
"""Characters of a command line, as in keeper.sh."""
LEAN_ROOTS = frozenset(("ext2", "ext3", "ext4"))
"""File systems that a lean kernel has for a root (host_setup/kernel/config/remote.config)."""
BARE = frozenset(("disk", "part"))
"""What a lean kernel finds a root on, as lsblk(8) calls it: it has no device mapper and no RAID."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands against it, and the next step."""

    problem: str
    advice: str


def obstacles(machine: Remote, facts: Mapping[str, str], words: str) -> Iterator[Obstacle]:
    """All that there is.

    :param facts: of the keeper. :param words: what a run adds to the command line of the machine's own kernel.
    """
    if facts.get("forwarding") == "no":
        advice = "AllowTcpForwarding local in its sshd_config, and no restrict or no-port-forwarding before our key"
        yield Obstacle("its SSH server forwards no connections, but sealproof reaches guests through them", advice)
    secure = facts.get("secure_boot") == "yes"
    lockdown = facts.get("lockdown", "")
    if secure and machine.boot is not Boot.KEXEC:
        yield Obstacle("Secure Boot is on, and does not start our kernel", "disable Secure Boot in its firmware")
    elif lockdown not in ("", "none"):
        # A kernel under test with the same words would let in no module of ours either.
        off = "disable Secure Boot" if secure else "remove lockdown= from its command line, or disable Secure Boot"
        yield Obstacle("its kernel is locked down and does not load our kernel", off)
    yield from _way(machine, facts)
    if machine.config is Config.LEAN and (lacks := _lacks(facts)):
        yield Obstacle(f"its root file system is on {lacks}, of which a lean kernel knows nothing", 'config = "own"')
    watchdog = facts.get("watchdog")
    if watchdog and machine.boot is Boot.KEXEC and machine.config is Config.LEAN:
        # With its own configuration our kernel has the driver, and its own systemd goes on to feed it.
        fact = f"its hardware watchdog ({watchdog}) runs on across kexec, and a lean kernel does not feed it"
        yield Obstacle(fact, 'config = "own"; or boot = "grub": the firmware stops it')
    if len(facts.get("kernel_line", "")) + len(words) > LONGEST:
        advice = f"shorten its command line, or command_line in the inventory: {LONGEST} characters with ours"
        yield Obstacle("its command line leaves no room for the words that a run adds", advice)


def _way(machine: Remote, facts: Mapping[str, str]) -> Iterator[Obstacle]:
    """Against the way that the inventory has it boot: in the machine's own words, where it says them."""
    systemd = int(facts.get("systemd") or 0)
    if against := facts.get(f"against_{machine.boot}"):
        fact, _, advice = against.partition(" -> ")
        yield Obstacle(fact, advice)
    elif machine.boot is Boot.KEXEC and facts.get("kexec") == "no":
        yield Obstacle("its kernel does not support kexec", 'boot = "grub" or "systemd-boot"')
    elif machine.boot is Boot.GRUB and facts.get("grub") == "no":
        yield Obstacle("it has no GRUB that can boot an entry once", 'boot = "kexec" or "systemd-boot"')
    elif machine.boot is Boot.SYSTEMD_BOOT and facts.get("systemd_boot") == "no":
        yield Obstacle("no systemd-boot", 'boot = "kexec" or "grub"')
    elif machine.boot is Boot.KEXEC and systemd < BUILT_IN_KEXEC and facts.get("kexec_tools") == "no":
        yield Obstacle(f"systemd {systemd} needs kexec-tools", 'install it, or boot = "grub"')


def _lacks(facts: Mapping[str, str]) -> str:
    """What a machine has its root file system on that a lean kernel lacks, in words; empty if nothing."""
    file_system, *layers = facts.get("root_is", "").split() or [""]
    if not layers:
        return ""
    return ", ".join([*([file_system] if file_system not in LEAN_ROOTS else []), *sorted({*layers} - BARE)])
