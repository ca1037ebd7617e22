# SPDX-License-Identifier: GPL-2.0-or-later
"""Which guest a host is to run: its QEMU's command line, and where host and guest have their files.

Every guest boots the same kernel from the same files with the same devices; what differs is whether it may ask its host
for protection. Its virtio devices ask the guest for addresses that they may use (``iommu_platform``), as a protected
guest must bounce its data through pages that it has shared; a plain one gives them any address.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from host_setup.channels.ssh import Ssh
from host_setup.kernel.series import Protection

GUEST_RUN_DIR = "/run/guest"
GUEST_PROGRAMS = "/sealproof"  # in the guest
HOST_PROGRAMS = "/payload/programs"
ROW_SECONDS = 40.0  # of tiny_vm; the program gives up after 20, unless the kernel does not let it
_LONG_ROWS = {
    "comes-back": 900.0,  # it runs all the others
    "kernels-memory": 240.0,  # it makes many requests
    "freed-along": 60.0,
}
# The nested guest's LAPIC TSC-deadline timer gets lost under emulation; off, none of 32 boots hung (docs/emulation.md).
# And the emulation does not tell KVM of a nested XSETBV, so CPUID's XSAVE sizes stay what they were before it, and the
# guest's kernel warns of them ("XSAVE consistency problem"): the guest gets no XSAVE.
CPU = "host,migratable=off,tsc-deadline=off,xsave=off"
VIRTIO = "iommu_platform=on,disable-legacy=on"
# Of 2 KiB each, 16 MiB in all. By itself the kernel takes 64 MiB, and clears each of their pages as it boots: a fifth
# of the boot.
BOUNCE_SLOTS = 8192
# Host and guests complain of a stall late: a kernel counts the time in which a busy computer does not run it. By
# default a soft lockup is one of 20 s and a stall of RCU one of 21 s; here both are of two minutes (Linux 6.12:
# kernel/watchdog.c get_softlockup_thresh(), kernel/rcu/tree_stall.h). Heartbeats find what hangs sooner.
PATIENCE = "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120"
_COMMAND_LINE = f"console=ttyS0 loglevel=5 panic=-1 oops=panic nokaslr {PATIENCE}"
BESIDE = 10  # the ports of one more guest are so much higher


def row_seconds(row: str) -> float:
    """How long a row of ``tiny_vm`` may take."""
    return _LONG_ROWS.get(row, ROW_SECONDS)


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A guest to be.

    :param opts_in: whether it asks its host for protection, if the host offers it; it boots also if it cannot have it.
    :param memory: MiB. :param cpus: virtual CPUs.
    :param ssh_port: TCP port of the host that leads to the guest's SSH server.
    :param qmp_port: port of the host's loopback that leads to its QEMU's QMP. :param scratch: MiB of its disk.
    :param machine: QEMU's name of the chipset. :param backend: what its memory is made of, as QEMU's ``-object`` takes
        it; empty: anonymous memory. :param reboots: a reset boots it again; else it ends its QEMU.
    :param cmdline: added to its kernel's command line. :param extra: added to QEMU's arguments.
    """

    name: str = "plain"
    opts_in: bool = False
    memory: int = 192
    cpus: int = 1
    ssh_port: int = 2222
    qmp_port: int = 4444
    scratch: int = 32
    machine: str = "pc"
    backend: str = ""
    reboots: bool = False
    cmdline: str = ""
    extra: tuple[str, ...] = ()

    @property
    def console(self) -> str:
        """The guest's console log, a file of the host."""
        return f"{GUEST_RUN_DIR}/{self.name}.console"

    @property
    def beat(self) -> str:
        """The guest's heartbeat, a file of the host."""
        return f"{GUEST_RUN_DIR}/{self.name}.beat"

    @property
    def pid_file(self) -> str:
        """Where the guest's QEMU leaves its process id, a file of the host."""
        return f"{GUEST_RUN_DIR}/{self.name}.pid"

    def argv(self) -> list[str]:
        """The command that starts the guest on its host; a real QEMU on KVM, nothing of ours in it."""
        disk = f"{GUEST_RUN_DIR}/{self.name}.disk"
        net = f"user,id=net,hostfwd=tcp::{self.ssh_port}-:22"
        protection = f"kvm_protected_mem=on swiotlb={BOUNCE_SLOTS}" if self.opts_in else "kvm_protected_mem=off"
        backend = [*("-object", f"{self.backend},id=ram,size={self.memory}M")] if self.backend else []
        machine = f"{self.machine},accel=kvm{',memory-backend=ram' if backend else ''}"
        return [
            *("qemu-system-x86_64", "-name", self.name, "-nodefaults", "-no-user-config", "-display", "none"),
            *(*([] if self.reboots else ["-no-reboot"]), *backend, "-machine", machine),
            *("-cpu", CPU, "-smp", str(self.cpus), "-m", str(self.memory)),
            *("-kernel", "/payload/guest/bzImage", "-initrd", "/payload/guest/initramfs"),
            *("-append", f"{_COMMAND_LINE} {protection} {self.cmdline}".rstrip()),
            *("-serial", f"file:{self.console}", "-serial", f"file:{self.beat}"),
            *("-netdev", net, "-device", f"virtio-net-pci,netdev=net,romfile=,{VIRTIO}"),
            *("-drive", f"file={disk},if=none,id=scratch,format=raw"),
            *("-device", f"virtio-blk-pci,drive=scratch,{VIRTIO}"),
            *("-device", f"virtio-rng-pci,{VIRTIO}", "-device", "edu"),
            *("-qmp", f"tcp:127.0.0.1:{self.qmp_port},server=on,wait=off", "-pidfile", self.pid_file, "-daemonize"),
            *self.extra,
        ]

    def start(self, ssh: Ssh) -> None:
        """Start the guest's QEMU on the host.

        :raises ChannelError: QEMU refused; with what it said.
        """
        disk = f"{GUEST_RUN_DIR}/{self.name}.disk"
        ssh.run(["truncate", "-s", f"{self.scratch}M", disk], seconds=10).require()
        ssh.run(self.argv(), seconds=120).require()  # on a host of Bochs, on a busy computer, 30 were too few


PLAIN = GuestSpec()
PROTECTED = GuestSpec(name="protected", opts_in=True, memory=208, ssh_port=2223, qmp_port=4445)
"""It has 16 MiB more, as its bounce buffers take so many."""


def guests_for(*, series: Protection, mode: Protection) -> tuple[GuestSpec, ...]:
    """The guests of a host: the one under test first, then the plain one, if the one under test asks for protection.

    :param series: what the kernel brings. :param mode: what is asked for.
    """
    return (PROTECTED, PLAIN) if series is mode is Protection.PROTECTED else (PLAIN,)


def beside(spec: GuestSpec) -> GuestSpec:
    """The same for one more guest on a host: with a name and ports of its own."""
    ssh_port, qmp_port = spec.ssh_port + BESIDE, spec.qmp_port + BESIDE
    return replace(spec, name=f"another-{spec.name}", ssh_port=ssh_port, qmp_port=qmp_port)
