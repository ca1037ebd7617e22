# SPDX-License-Identifier: GPL-2.0-or-later
"""The host that Bochs makes here: an Intel machine with VMX, EPT and unrestricted guest, which works anywhere.

QEMU's emulation has no VMX. Bochs has, and is slower: one processor.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from common.commands import output
from common.errors import MachineError
from common.progress import Terminal
from common.store import Store, digest
from common.waiting import Deadline, poll_until
from guest_images.archive import File, newc
from guest_images.keys import Keys
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup.emulated.bochs import (
    CPU,
    CYLINDER,
    IPS,
    PROGRAM,
    STATE,
    Bochs,
    Machine,
    configuration,
    installed_files,
)
from host_setup.emulated.direct_boot import INITRAMFS, KERNEL, PARAMETERS, parameters, protected_mode_kernel
from host_setup.emulated.host import Accelerator
from host_setup.emulated.local_host import BOOT, OPENSSH, RESTORE, LocalHost
from host_setup.emulated.saved import Saved, SavedHosts
from host_setup.hosts.guest_spec import PATIENCE, PLAIN, GuestSpec
from host_setup.hosts.running import FAST_SSH
from host_setup.this_machine import HostKind

BOCHS = Accelerator(HostKind.EMULATED, "emulated (Bochs, VMX, EPT)", "", CPU)
"""Beside those of QEMU's."""
BOOT_DISK = "boot.img"
WRITTEN = 946_684_800.0  # seconds since 1970: a restored Bochs takes no disk that was written at another time
EXPECTED_COLD = 60.0  # seconds
ALL_OF_IT = 256  # MiB of a saved state beside the machine's memory, with room to spare
MIB = 1 << 20
# The TSC's speed is known: to measure it takes time. A reboot is a triple fault, with which Bochs ends. No check of the
# timer: as on a host of QEMU's. No HT: of one CPU Bochs says once that its package has eight cores and once that it has
# one, and the kernel warns (Linux 6.12: arch/x86/kernel/cpu/topology_common.c parse_legacy()). The initramfs is no
# tmpfs: EROFS reads no file of one (fs/erofs/super.c erofs_fc_get_tree(), fs/ramfs/inode.c).
WORDS = (
    "console=ttyS0,115200 rootfstype=ramfs panic=-1 oops=panic nokaslr reboot=t"
    f" kvm.force_emulation_prefix=1 numa=fake=2 no_timer_check clearcpuid=ht tsc_early_khz={IPS // 1000} {PATIENCE}"
)
INIT = Path(__file__).with_name("bochs_init.c")
E1000 = "drivers/net/ethernet/intel/e1000"
OLDEST = (6, 12)  # of Linux: mounts a file with EROFS (EROFS_FS_BACKED_BY_FILE)

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

    :ivar init: its first program, made of ``INIT``. :ivar network: the driver of its network card, a module.
    :ivar library: for Bochs, made of ``PRELOAD``. :ivar sector: the boot sector, made of ``SECTOR_SOURCE``.
    :ivar words: more of them on its kernel's command line.
    """

    kernel_image: Path
    kernel_key: str
    rootfs: RootFs
    payload: Payload
    keys: Keys
    init: Path
    network: Path
    library: Path
    sector: Path
    guests: tuple[GuestSpec, ...] = (PLAIN,)
    memory: int = 1024
    words: str = ""

    def content(self) -> dict[int, bytes]:
        """What is in its memory when it is switched on, by addresses: from there it boots."""
        images = {
            "init": self.init,
            "e1000.ko": self.network,
            "root.erofs": self.rootfs.host_image,
            "payload.erofs": self.payload.image,
        }
        initramfs = newc({name: File(file.read_bytes(), 0o755) for name, file in images.items()})
        kernel = self.kernel_image.read_bytes()
        return {
            PARAMETERS: parameters(kernel, len(initramfs), self.command_line),
            KERNEL: protected_mode_kernel(kernel),
            INITRAMFS: initramfs,
        }

    @property
    def command_line(self) -> str:
        """Its kernel's whole command line."""
        return f"{WORDS} {self.words}".rstrip()

    @property
    def _own(self) -> tuple[Path, ...]:
        """What of it is made on this machine, beside kernel and images."""
        return self.init, self.network, self.library, self.sector

    @property
    def key(self) -> str:
        """Hash of all that a saved state depends on."""
        nowhere = Path("/")
        machine = configuration(Machine(self.memory, nowhere, {}, {}), nowhere, 0, 0)
        shape = json.dumps([machine, self.command_line, installed_files(), *(guest.argv() for guest in self.guests)])
        return digest(shape, self.kernel_key, self.rootfs.key, self.payload.key, *self._own)


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


def _clear(folder: Path) -> None:
    """Remove what Bochs has read, and what it leaves, beside the files of a report."""
    shutil.rmtree(folder / STATE, ignore_errors=True)
    for lock in folder.glob(f"{BOOT_DISK}*.lock"):
        lock.unlink(missing_ok=True)


def version() -> str:
    """What Bochs calls itself, for instance ``Bochs x86 Emulator 2.7``."""
    lines: list[str] = []
    lines += output([PROGRAM, "--help"], stage="emulator", complaints=lines).decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if "Emulator" in line), "")


class BochsHost(LocalHost):
    """A host of Bochs's that runs, with its guests.

    :param ports: free ones of this machine's loopback, one for each port of the host that is reached from here.
    :param saves: a folder that is there, for ``save``.
    :param saved: one that ``save`` has written: the host goes on from there.
    :ivar started: how: ``cold`` or ``restored``.
    """

    qemu = None
    """Nobody looks into it from outside."""

    def __init__(
        self,
        spec: BochsSpec,
        folder: Path,
        ports: Sequence[int] | None = None,
        *,
        saves: Path | None = None,
        saved: Path | None = None,
    ) -> None:
        super().__init__(spec.guests, spec.keys)
        self.started = "cold" if saved is None else "restored"
        self.spec = spec
        self.tier = BOCHS.kind.value
        there = (FAST_SSH, OPENSSH, *(guest.ssh_port for guest in spec.guests))
        self._until_it_runs = ExitStack()
        self._forwards = dict(zip(there, ports or reserved_ports(len(there), self._until_it_runs), strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        disk = folder / BOOT_DISK
        # A restored one has read it all.
        content = {
            folder / f"{address:x}": (address, part) for address, part in ({} if saved else spec.content()).items()
        }
        for file in (disk, *content):
            self._until_it_runs.callback(file.unlink, missing_ok=True)
        # A report has neither links, nor the lock that Bochs leaves beside the disk when it is killed.
        self._until_it_runs.callback(_clear, folder)
        try:
            disk.write_bytes(spec.sector.read_bytes().ljust(CYLINDER, b"\0"))
            os.utime(disk, (WRITTEN, WRITTEN))
            for file, (_, part) in content.items():
                file.write_bytes(part)
            addresses = {address: file for file, (address, _) in content.items()}
            machine = Machine(spec.memory, disk, addresses, self._forwards)
            self._bochs = Bochs(
                machine,
                vitals=self.vitals,
                folder=folder,
                on_beat=self._beats.take_line,
                library=spec.library,
                saves=saves,
                state=None if saved is None else saved / STATE,
            )
        except BaseException:
            self._until_it_runs.close()
            raise
        self._runs_in(self._bochs)
        # It has one thread, in whose time all happens, and no other is as slow.
        for vitals in (self.vitals, *self.guest_vitals.values()):
            vitals.uncounted = self._bochs.seconds_without_cpu

    def go_on(self) -> None:
        """Wait until a restored host runs."""
        self._wait_for_beat("host", self._patience(RESTORE), explain=self._explain)
        self._until_it_runs.close()

    def save(self) -> None:
        """Write its state to the folder of ``saves``; it runs on.

        :raises MachineError: Bochs cannot.
        """
        self._bochs.save()

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
            "kind": BOCHS.description,
            "emulator": version(),
            "cpu": CPU,
            "cpus": "1",
            "memory": f"{self.spec.memory} MiB",
            "guests": ", ".join(f"{guest.name} ({guest.memory} MiB)" for guest in self.spec.guests),
            "qemu of the guest": self.spec.rootfs.version("qemu-system-x86"),
            "command line": self.booted_with(),
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


class BochsHosts(SavedHosts[BochsHost]):
    """Hands out running hosts of one shape; parameters as of ``SavedHosts``."""

    _seconds_to_boot = EXPECTED_COLD

    def __init__(
        self, spec: BochsSpec, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
    ) -> None:
        super().__init__(spec.guests, store, terminal, folder, note=note)
        self.spec = spec

    def cold(self, cmdline: str = "", *, alone: bool = False) -> BochsHost:
        """A host booted from nothing, its guests too.

        :param cmdline: added to its kernel's command line. :param alone: without guests.
        """
        spec = replace(self.spec, words=f"{self.spec.words} {cmdline}".strip())
        host = BochsHost(replace(spec, guests=()) if alone else spec, self._next_folder())
        return self._boot_cold(host, alone=alone)

    def _entry(self, make: Callable[[Path], None]) -> Path:
        need = (self.spec.memory + ALL_OF_IT) * MIB
        return self._store.get_or_make("snapshot", self.spec.key, make, need=need)

    def _to_be_saved(self, folder: Path) -> BochsHost:
        state = folder / STATE
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        return BochsHost(self.spec, self._next_folder(), saves=state)

    def _restored(self, saved: Saved) -> BochsHost:
        host = BochsHost(self.spec, self._next_folder(), saved=saved.folder)
        try:
            host.go_on()
        except BaseException:
            host.close()
            raise
        return host

    def _save_loadable(self, host: BochsHost, folder: Path) -> None:  # noqa: ARG002
        host.save()
