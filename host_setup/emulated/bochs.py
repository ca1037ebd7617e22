# SPDX-License-Identifier: GPL-2.0-or-later
"""One Bochs of this machine: what it is told to emulate, started, watched on its console and its exit."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import MachineError, SetupError
from common.store import file_sha256
from common.waiting import Stopwatch
from host_setup.channels.vitals import Vitals
from host_setup.emulated.boot_disk import HEADS, PER_TRACK
from host_setup.emulated.emulator import Emulator

PROGRAM = "bochs-bin"  # Debian's "bochs" is a script that starts it
BIOS, VGA_BIOS = Path("/usr/share/bochs/BIOS-bochs-latest"), Path("/usr/share/vgabios/vgabios.bin")
CPU = "corei7_haswell_4770"
"""The model with EPT, VPID, unrestricted guest and VMCS shadowing that runs guests fast: with a later one's PML they
are 70 times slower (Bochs 2.7)."""
IPS = 100_000_000  # emulated instructions for a second of the machine's clock, which so many cycles of its TSC are
LINE = 255  # characters of a path that Bochs takes
MOST_FORWARDS = 5  # iodev/network/eth_slirp.cc: MAX_HOSTFWD
GUEST_ADDRESS = "10.0.2.15"
PLUGINS = "*/bochs/plugins/*.so"  # its devices, below /usr/lib
PANIC = ">>PANIC<<"  # in Bochs's log: what ends it, a triple fault for instance
ATA = "ata%d: enabled=1, ioaddr1=%#x, ioaddr2=%#x, irq=%d"


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that Bochs emulates.

    :ivar memory: MiB. :ivar disk: what it boots from, an image of ``cylinders`` of ``boot_disk``'s geometry.
    :ivar cdrom: an image, which nothing writes to.
    :ivar forwards: ports of this machine's loopback, by the port of the machine that each leads to.
    """

    memory: int
    disk: Path
    cylinders: int
    cdrom: Path
    forwards: Mapping[int, int]


def configuration(machine: Machine, folder: Path, console: int, beat: int) -> str:
    """Bochs's configuration file.

    :param folder: where Bochs finds ``slirp.conf``.
    :param console: file descriptor that the first serial line goes to. :param beat: likewise, of the second.
    :raises MachineError: a path is one that Bochs cannot be told of.
    """
    paths = (machine.disk, machine.cdrom, folder / "slirp.conf")
    for path in paths:
        if len(str(path)) > LINE or not str(path).isascii() or any(sign in str(path) for sign in '",\n$'):
            option = "--cache-folder" if path == machine.cdrom else "--reports"
            raise MachineError(f"Bochs cannot be told of the path {path}", hint=f"use a shorter and plainer {option}")
    disk, cdrom, slirp = paths
    shape = f"cylinders={machine.cylinders}, heads={HEADS}, spt={PER_TRACK}"
    lines = [
        "config_interface: textconfig",
        "display_library: term",
        f"cpu: model={CPU}, count=1, ips={IPS}, reset_on_triple_fault=0, ignore_bad_msrs=1",
        f"memory: guest={machine.memory}, host={machine.memory}",
        f"romimage: file={BIOS}, options=fastboot",
        f"vgaromimage: file={VGA_BIOS}",
        # Its clock never runs ahead of ours: an idle machine sleeps, and a busy one's deadlines grow.
        "clock: sync=slowdown, time0=utc",
        "plugin_ctrl: e1000=1, speaker=0",
        "pci: enabled=1, chipset=i440fx, slot1=e1000",
        f'e1000: enabled=1, mac=52:54:00:12:34:56, ethmod=slirp, ethdev=slirp, script="{slirp}"',
        ATA % (0, 0x1F0, 0x3F0, 14),
        ATA % (1, 0x170, 0x370, 15),
        f'ata0-master: type=disk, mode=volatile, path="{disk}", {shape}',
        f'ata1-master: type=cdrom, path="{cdrom}", status=inserted',
        "boot: disk",
        f"com1: enabled=1, mode=file, dev=/dev/fd/{console}",
        f"com2: enabled=1, mode=file, dev=/dev/fd/{beat}",
        "log: -",
        "panic: action=fatal",
        # The kernel reads counters that this processor lacks, twice a tick: no word of that.
        "error: action=report, cpu0=ignore",
        "info: action=ignore",
        "debug: action=ignore",
    ]
    return "".join(f"{line}\n" for line in lines)


def forwarding(forwards: Mapping[int, int]) -> str:
    """The configuration of Bochs's own network: it reaches nothing but the ports of this machine that lead there.

    :param forwards: as ``Machine.forwards``.
    """
    if len(forwards) > MOST_FORWARDS:
        raise MachineError(f"Bochs forwards {MOST_FORWARDS} ports at most, not {len(forwards)}")
    rules = [f"hostfwd=tcp:127.0.0.1:{here}-{GUEST_ADDRESS}:{there}" for there, here in forwards.items()]
    return "".join(f"{line}\n" for line in ("# slirp config", "restricted=1", *rules))


def installed_files() -> dict[str, str]:
    """The SHA-256 of each file that Bochs consists of on this machine, by its path."""
    program = shutil.which(PROGRAM)
    files = [Path(program)] if program else []
    files += [BIOS, VGA_BIOS, *sorted(Path("/usr/lib").glob(PLUGINS))]
    return {str(file): file_sha256(file) for file in files if file.is_file()}


class Bochs(Emulator):
    """A running Bochs whose serial lines are ours: the first is the console, the second has the heartbeat.

    :param folder: where its configuration, ``console.log``, ``console.times`` and ``bochs.log`` go.
    :param on_beat: called, from a thread, with each heartbeat line that the machine sends.
    :raises SetupError: Bochs is not installed. :raises MachineError: it cannot be told of a path.
    """

    def __init__(self, machine: Machine, *, vitals: Vitals, folder: Path, on_beat: Callable[[str], None]) -> None:
        super().__init__("Bochs", vitals=vitals, folder=folder, on_beat=on_beat)
        self._stops = Stopwatch()
        for file in (BIOS, VGA_BIOS):
            if not file.exists():
                raise SetupError(f"Bochs lacks {file}", hint="run 'make doctor': it names the Debian package")
        settings, commands = folder / "bochsrc", folder / "debugger.rc"
        commands.write_text("c\n", encoding="ascii")  # Debian's Bochs waits in its debugger
        (folder / "slirp.conf").write_text(forwarding(machine.forwards), encoding="ascii")
        console, theirs_console = os.pipe()
        beat, theirs_beat = os.pipe()
        try:
            settings.write_text(configuration(machine, folder, theirs_console, theirs_beat), encoding="ascii")
            self._start(
                [PROGRAM, "-q", "-f", str(settings), "-rc", str(commands)],
                os.fdopen(beat, encoding="ascii", errors="replace"),
                os.fdopen(console, "rb"),
                pass_fds=(theirs_console, theirs_beat),
                env={"TERM": "linux"},  # for its text display, which nobody sees
            )
        finally:
            os.close(theirs_console)
            os.close(theirs_beat)

    def explain(self) -> str:
        """What the machine is doing, for a wait that ran out: last lines of Bochs and of the console."""
        return f"Bochs: {self._last_words() or 'no complaint'}\nconsole ends with:\n{self.tail()}"

    def stop(self) -> None:
        """Have its clocks stand still."""
        self._process.send_signal(signal.SIGSTOP)
        self._stops.begin()

    def go_on(self) -> None:
        """Have it run on."""
        self._process.send_signal(signal.SIGCONT)
        self._stops.end()

    def seconds_stopped(self) -> float:
        """Seconds, so far, in which it stood still because we have stopped it."""
        return self._stops.seconds()

    def _last_words(self) -> str:
        return "\n".join(line for line in super()._last_words().splitlines() if PANIC in line)
