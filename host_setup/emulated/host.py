# SPDX-License-Identifier: GPL-2.0-or-later
"""The host that QEMU makes here: emulated (an AMD machine with SVM and nested paging, which works anywhere), or nested.

A nested host is the same machine on this one's KVM, with this one's processor: it needs nested virtualisation.

Booted once, then saved with its guests running; every later use starts from that state, in a second or two. A nonce in
the memory of host and guests, and how often it was asked for, prove that what runs is that state, and that nobody used
it before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from common.errors import MachineError
from common.store import digest
from common.waiting import Deadline, poll_until
from guest_images.keys import Keys
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup.emulated.local_host import OPENSSH, RESTORE, LocalHost
from host_setup.emulated.qemu import Qemu
from host_setup.hosts.guest_spec import PATIENCE, PLAIN, GuestSpec
from host_setup.hosts.running import FAST_SSH
from host_setup.this_machine import HostKind

# Two memory nodes: pages can be moved from one to the other.
# One CPU until the devices have their addresses; guest_images/host/init starts the others. What another CPU does while
# a device's memory moves goes astray in QEMU 10.0's emulation, in one boot of fifty (docs/emulation.md).
# The length of a delay loop is given: to measure it for a late CPU takes a second, and fails. Nobody needs it exact.
# No check of the timer: it wants five ticks within so many cycles of the counter, which goes on while a busy computer
# does not run the thread that ticks. Then it tries other wirings, which QEMU has not, and panics (Linux 6.12:
# arch/x86/kernel/apic/io_apic.c timer_irq_works()). A guest's kernel leaves it out by itself (kvm.c
# paravirt_ops_setup()).
COMMAND_LINE = (
    "console=ttyS0 root=/dev/vda rootfstype=erofs ro init=/sbin/sealproof-start panic=-1 oops=panic nokaslr"
    " kvm.force_emulation_prefix=1 numa=fake=2 maxcpus=1 lpj=20000000 no_timer_check"
    f" {PATIENCE}"
)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What runs the host's instructions.

    :ivar kind: also the tier of what is proved on it. :ivar description: of it, in words.
    :ivar argument: of QEMU's ``-accel``. :ivar cpu: of its ``-cpu``.
    :ivar processor: this machine's, if it is the host's, too. :ivar extension: likewise.
    """

    kind: HostKind
    description: str
    argument: str
    cpu: str
    processor: str = ""
    extension: str = ""


# No five-level paging, which makes each walk longer. No ERMS, FSRM and FSRS: with them a kernel clears and copies by
# REP STOSB and REP MOVSB, which the emulation does byte by byte.
EMULATION = Accelerator(
    HostKind.EMULATED,
    "emulated (QEMU TCG, SVM, nested paging)",
    "tcg,thread=multi,tb-size=512",
    "max,la57=off,erms=off,fsrm=off,fsrs=off",
)


def nesting(processor: str, extension: str) -> Accelerator:
    """KVM of this machine, which offers its guests its own processor.

    :param processor: its model. :param extension: ``svm`` or ``vmx``: what its guests need for a KVM of their own.
    """
    # Said once more though "host" has it: QEMU then refuses to start where KVM does not give it.
    cpu = f"host,{extension}=on,enforce=on"
    return Accelerator(HostKind.NESTED, f"nested (QEMU on KVM, {extension})", "kvm", cpu, processor, extension)


@dataclass(frozen=True, slots=True)
class EmulatedSpec:
    """A host of QEMU's to be: what it boots, its guests, the one under test first, and its size (MiB, CPUs).

    :ivar cpus: the first of them runs no guest (guest_images/host/init), so that two are left for guests.
    :ivar disks: images beyond root and payload, read-only; the host has them as ``/dev/vdc`` and so on.
    :ivar devices: more of them, as QEMU's ``-device`` takes them.
    :ivar monitor: a socket on which QEMU answers QMP once more, for a debugger; no part of the key.
    :ivar tsc_khz: how fast its time-stamp counter runs, if that is known; no part of the key, as it was measured.
    """

    kernel_image: Path
    kernel_key: str
    rootfs: RootFs
    payload: Payload
    keys: Keys
    guests: tuple[GuestSpec, ...] = (PLAIN,)
    memory: int = 1024
    cpus: int = 3
    command_line: str = COMMAND_LINE
    disks: tuple[Path, ...] = ()
    accelerator: Accelerator = EMULATION
    tsc_khz: int = 0
    devices: tuple[str, ...] = ()
    monitor: Path | None = None

    @property
    def cmdline(self) -> str:
        """Its kernel's whole command line.

        The kernel's own first measure of the counter, by emulated timers, is often wrong by one in a thousand. It finds
        out soon, but KVM, without a constant TSC, goes on with it, and no VM's clock is right any more: its own rate of
        a VM's counter fails with "below hardware speed", unnoticed, and then KVM takes that counter for one that stands
        still (Linux 6.12: arch/x86/kvm/x86.c kvm_timer_init(), set_tsc_khz()).
        """
        return f"{self.command_line} tsc_early_khz={self.tsc_khz}" if self.tsc_khz else self.command_line

    def argv(self, memory: str = "memory-backend-ram") -> list[str]:
        """QEMU's arguments, without console, QMP and heartbeat.

        :param memory: what the host's memory is made of, as QEMU's ``-object`` takes it.
        """
        return [
            *(str(self.rootfs.qemu), "-name", "sealproof-host", "-nodefaults", "-no-user-config"),
            *("-display", "none", "-no-reboot"),
            *("-object", f"{memory},id=memory,size={self.memory}M", "-machine", "pc,memory-backend=memory"),
            *("-accel", self.accelerator.argument, "-cpu", self.accelerator.cpu),
            *("-smp", str(self.cpus), "-m", str(self.memory)),
            *("-kernel", str(self.kernel_image), "-append", self.command_line),
            *_disk("root", self.rootfs.host_image),
            *_disk("payload", self.payload.image),
            *(word for number, image in enumerate(self.disks) for word in _disk(f"disk{number}", image)),
            *(
                "-netdev",
                _network((FAST_SSH, OPENSSH, *(guest.ssh_port for guest in self.guests))),
                "-device",
                "virtio-net-pci,netdev=net,romfile=",
            ),
            *("-device", "virtio-rng-pci"),
            *(word for device in self.devices for word in ("-device", device)),
        ]

    @property
    def key(self) -> str:
        """Hash of all that a saved state depends on; the QEMU that wrote it is one of the root file system's."""
        shape = json.dumps([self.argv()[1:], self.accelerator.processor, *(guest.argv() for guest in self.guests)])
        return digest(shape, self.kernel_key, self.rootfs.key, self.payload.key)


def _network(ports: tuple[int, ...]) -> str:
    """A network of QEMU's own, in which free ports of this machine's loopback lead to these of the host."""
    return ",".join(["user,id=net", *(f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in ports)])


def _disk(name: str, image: Path) -> list[str]:
    drive = f"file={image},if=none,id={name},format=raw,readonly=on"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name}"]


def _memory_file(path: Path, *, shared: bool) -> str:
    """Memory in a file, for ``EmulatedSpec.argv``: what is written goes there, or into copies of its pages."""
    return f"memory-backend-file,mem-path={path},share={'on' if shared else 'off'}"


class EmulatedHost(LocalHost):
    """A host of QEMU's that runs, with its guests.

    :param memory: a file. A host that is booted has its memory in it, for ``save``; one that is restored finds there
        the saved memory, and gets a copy of each page that it writes: the file stays as it is.
    :param state: what ``save`` wrote; the host goes on from there.
    :ivar started: how: ``cold`` or ``restored``.
    """

    def __init__(
        self, spec: EmulatedSpec, folder: Path, *, memory: Path | None = None, state: Path | None = None
    ) -> None:
        super().__init__(spec.guests, spec.keys)
        self.spec = spec
        self.tier = spec.accelerator.kind.value
        self.started = "cold" if state is None else "restored"
        booted = replace(spec, command_line=spec.cmdline)
        argv = booted.argv(*([] if memory is None else [_memory_file(memory, shared=state is None)]))
        if spec.monitor is not None:
            argv += ["-qmp", f"unix:{spec.monitor},server=on,wait=off"]
        if state is not None:
            argv += ["-incoming", "defer"]
        self._qemu = Qemu(argv, vitals=self.vitals, folder=folder, on_beat=self._beats.take_line)
        self._runs_in(self._qemu)
        if state is not None:
            try:
                self._load(state)
            except BaseException:
                self.close()
                raise

    @property
    def qemu(self) -> Qemu:
        """The QEMU that this host runs in."""
        return self._qemu

    @cached_property
    def _forwards(self) -> dict[int, int]:
        """The port of this machine's loopback that leads to each port of the host; the system chose free ones."""
        lines = [line.split() for line in self._qemu.qmp.monitor("info usernet").splitlines()]
        # protocol[HOST_FORWARD] fd source-address source-port destination-address port ...
        return {int(words[5]): int(words[3]) for words in lines if words and words[0].endswith("[HOST_FORWARD]")}

    def _forward(self, port: int) -> int:
        if port not in self._forwards:
            raise MachineError(
                f"QEMU forwards nothing to port {port}", hint="does this QEMU have a user-mode network (slirp)?"
            )
        return self._forwards[port]

    def save(self, state: Path) -> None:
        """Stop the host and write to a file all that is not in the file of its memory.

        :raises MachineError: QEMU cannot.
        """
        qmp = self._qemu.qmp
        qmp.execute("stop")
        self._leave_memory_out()
        qmp.execute("migrate-set-parameters", {"max-bandwidth": 10 << 30})
        with state.open("wb") as out:
            qmp.send_fd("state", out.fileno())
            qmp.execute("migrate", {"uri": "fd:state"})

            def is_saved() -> bool:
                status = qmp.execute("query-migrate")["status"]
                if status in ("failed", "cancelled"):
                    raise MachineError(f"QEMU cannot save the host: migration {status}", hint="is the disk full?")
                return bool(status == "completed")

            poll_until(is_saved, Deadline(60), "the host's state to be written", check=self.vitals.check)

    def _load(self, state: Path) -> None:
        """Load what ``save`` wrote, and run on from there."""
        qmp = self._qemu.qmp
        self._leave_memory_out()
        # It has not moved: its network need not be told where it is now.
        qmp.execute("migrate-set-parameters", {"announce-rounds": 0})
        with state.open("rb") as stream:
            qmp.send_fd("state", stream.fileno())
            qmp.execute("migrate-incoming", {"uri": "fd:state"})
        self._qemu.wait_status("paused", seconds=RESTORE)  # it was saved stopped; until then it is "inmigrate"
        self.resume()

    def _leave_memory_out(self) -> None:
        """Leave memory that is in a file out of QEMU's saved state: QEMU maps the file faster than it reads it."""
        capability = {"capability": "x-ignore-shared", "state": True}
        self._qemu.qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})

    def resume(self) -> None:
        """Let it run on, after it was saved or loaded."""
        self._qemu.go_on()

    def identity(self) -> dict[str, str]:
        """What a report says of it."""
        return {
            "kind": self.spec.accelerator.description,
            "cpu": self.spec.accelerator.processor or self.spec.accelerator.cpu,
            "cpus": str(self.spec.cpus),
            "memory": f"{self.spec.memory} MiB",
            "guests": ", ".join(f"{guest.name} ({guest.memory} MiB)" for guest in self.spec.guests),
            "qemu of the host and the guest": self.spec.rootfs.version("qemu-system-x86"),
            "command line": self.booted_with(),
            "started": self.started,
        }

    def kernel_log(self) -> str:
        """The host's console, from boot or from the restored state on."""
        return self._qemu.console()

    def close(self) -> None:
        """End the host and all on it."""
        try:
            self.before_end(None)
            self._disconnect()
            self._qemu.qmp.close()
        finally:
            self._qemu.kill()
