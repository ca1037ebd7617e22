# SPDX-License-Identifier: GPL-2.0-or-later
"""The host that Bochs makes here: an Intel machine with VMX, EPT and unrestricted guest, which works anywhere.

QEMU's emulation has no VMX. Bochs has, and is slower: one processor, and each start is a cold boot.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from common.commands import output
from common.errors import MachineError
from common.waiting import Deadline, poll_until
from guest_images.keys import Keys
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup.emulated.bochs import CPU, IPS, PROGRAM, Bochs, Machine
from host_setup.emulated.boot_disk import boot_disk
from host_setup.emulated.host import Accelerator
from host_setup.emulated.local_host import BOOT, OPENSSH, LocalHost
from host_setup.emulated.local_hosts import LocalHosts
from host_setup.hosts.guest_spec import PATIENCE, PLAIN, GuestSpec
from host_setup.hosts.running import FAST_SSH
from host_setup.this_machine import HostKind

BOCHS = Accelerator(HostKind.EMULATED, "emulated (Bochs, VMX, EPT)", "", CPU)
"""Beside those of QEMU's."""
BOOT_DISK = "boot.img"
# The TSC's speed is known: to measure it takes time. A reboot is a triple fault, with which Bochs ends. No check of the
# timer: as on a host of QEMU's. No HT: of one CPU Bochs says once that its package has eight cores and once that it has
# one, and the kernel warns (Linux 6.12: arch/x86/kernel/cpu/topology_common.c parse_legacy()).
WORDS = (
    "console=ttyS0,115200 root=/dev/sr0 rootfstype=erofs ro panic=-1 oops=panic nokaslr reboot=t"
    f" kvm.force_emulation_prefix=1 numa=fake=2 no_timer_check clearcpuid=ht tsc_early_khz={IPS // 1000} {PATIENCE}"
)
# What /sbin/sealproof-start does on a host of QEMU's, whose payload is another disk.
INIT = 'init=/bin/busybox -- sh -c "/bin/busybox mount -t erofs -o ro /dev/sda1 /payload && exec /payload/host/init"'

# Bochs 2.7 traps behind a SYSCALL that is single-stepped, though IA32_FMASK has cleared TF (Intel SDM 2, SYSCALL). The
# kernel warns, once, of a trap at its first instruction, and goes on (Linux 6.12: arch/x86/kernel/traps.c
# exc_debug_kernel()). That address is also the end of what lies in front of entry_SYSCALL_64.
_STEPPED = re.compile(
    r"^[^\n]*-\[ cut here \]-[^\n]*\n[^\n]*WARNING: [^\n]* exc_debug_kernel\+(?:(?!-\[ cut here \]-).)*?"
    r"(?:x86_verw_sel\+0x40/0x40|entry_SYSCALL_64\+0x0/)(?:(?!-\[ cut here \]-).)*?-\[ end trace [^\n]*$",
    re.M | re.S,
)


@dataclass(frozen=True, slots=True)
class BochsSpec:
    """A host of Bochs's to be: what it boots, its guests, the one under test first, and its memory (MiB).

    :ivar words: more of them on its kernel's command line.
    """

    kernel_image: Path
    rootfs: RootFs
    payload: Payload
    keys: Keys
    guests: tuple[GuestSpec, ...] = (PLAIN,)
    memory: int = 1024
    words: str = ""

    @property
    def command_line(self) -> str:
        """Its kernel's whole command line."""
        return " ".join(part for part in (WORDS, self.words, INIT) if part)


def reserved_ports(count: int, stack: ExitStack) -> tuple[int, ...]:
    """Ports of this machine's loopback on which nobody listens, and which nobody else is given.

    :param stack: holds them. Bochs can listen on them nevertheless: both say SO_REUSEADDR, and ours does not listen
        (socket(7)).
    """
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for port_socket in sockets:
        port_socket.bind(("127.0.0.1", 0))  # not yet with SO_REUSEADDR: two that have it may get the same port
        port_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return tuple(port_socket.getsockname()[1] for port_socket in sockets)


def version() -> str:
    """What Bochs calls itself, for instance ``Bochs x86 Emulator 2.7``."""
    lines: list[str] = []
    lines += output([PROGRAM, "--help"], stage="emulator", complaints=lines).decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if "Emulator" in line), "")


class BochsHost(LocalHost):
    """A host of Bochs's that runs, with its guests.

    :param ports: free ones of this machine's loopback, one for each port of the host that is reached from here.
    :ivar started: how: ``cold``.
    """

    started = "cold"
    qemu = None
    """Nobody looks into it from outside."""

    def __init__(self, spec: BochsSpec, folder: Path, ports: Sequence[int] | None = None) -> None:
        super().__init__(spec.guests, spec.keys)
        self.spec = spec
        self.tier = BOCHS.kind.value
        there = (FAST_SSH, OPENSSH, *(guest.ssh_port for guest in spec.guests))
        self._until_it_runs = ExitStack()
        self._forwards = dict(zip(there, ports or reserved_ports(len(there), self._until_it_runs), strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        disk = boot_disk(spec.kernel_image.read_bytes(), spec.payload.image.read_bytes(), spec.command_line)
        self._disk = folder / BOOT_DISK
        self._until_it_runs.callback(self._disk.unlink, missing_ok=True)
        machine = Machine(spec.memory, self._disk, disk.cylinders, spec.rootfs.host_image, self._forwards)
        try:
            self._disk.write_bytes(disk.content)
            self._bochs = Bochs(machine, vitals=self.vitals, folder=folder, on_beat=self._beats.take_line)
        except BaseException:
            self._until_it_runs.close()
            raise
        self._runs_in(self._bochs)

    def boot_alone(self, deadline: Deadline | None = None) -> None:
        """As ``LocalHost``. From its kernel's first words on Bochs listens, and has its disk open, which needs no name.

        So nothing of the disk is left where this process is killed.
        """
        deadline = deadline or self._patience(BOOT)
        poll_until(
            lambda: bool(self._bochs.console()),
            deadline,
            "the host's kernel to speak",
            check=self.vitals.check,
            explain=self._explain,
        )
        self._until_it_runs.close()
        super().boot_alone(deadline)

    def _forward(self, port: int) -> int:
        if port not in self._forwards:
            raise MachineError(f"Bochs forwards nothing to port {port}")
        return self._forwards[port]

    def identity(self) -> dict[str, str]:
        """What a report says of it."""
        return {
            "kind": BOCHS.what,
            "emulator": version(),
            "cpu": CPU,
            "cpus": "1",
            "memory": f"{self.spec.memory} MiB",
            "guests": ", ".join(f"{guest.name} ({guest.memory} MiB)" for guest in self.spec.guests),
            "qemu of the guest": self.spec.rootfs.version("qemu-system-x86"),
            "command line": self.spec.command_line,
            "started": self.started,
        }

    def kernel_log(self) -> str:
        """The host's console, from boot on, with blanks for the one warning that Bochs itself brings about.

        Blanks, as who looks for what is new remembers how long the log was.
        """
        return _STEPPED.sub(lambda warning: re.sub(r"[^\n]", " ", warning[0]), self._bochs.console(), count=1)

    def close(self) -> None:
        """End the host and all on it."""
        try:
            self.before_end(None)
            self._disconnect()
        finally:
            self._bochs.kill()
            self._until_it_runs.close()


class BochsHosts(LocalHosts[BochsHost]):
    """Hands out running hosts of one shape, each booted cold; parameters as of ``LocalHosts``."""

    def __init__(self, spec: BochsSpec, folder: Path) -> None:
        super().__init__(folder)
        self.spec = spec

    def start(self) -> BochsHost:
        """A pristine host with its guests, running.

        :raises MachineError: it does not boot.
        """
        return self.cold()

    def cold(self, cmdline: str = "", *, alone: bool = False) -> BochsHost:
        """A host booted from nothing, its guests too.

        :param cmdline: added to its kernel's command line. :param alone: without guests.
        """
        spec = replace(self.spec, words=f"{self.spec.words} {cmdline}".strip())
        host = BochsHost(replace(spec, guests=()) if alone else spec, self._next_folder())
        return self._boot_cold(host, alone=alone)

    def first_log(self) -> str:
        """Nothing: no kernel ran before the first host was handed out."""
        return ""

    def close(self) -> None:
        """Do nothing: each host ends with its Bochs."""
