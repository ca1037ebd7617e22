# SPDX-License-Identifier: GPL-2.0-or-later
"""One Bochs of this machine: what it is told to emulate, started, watched on its console and its exit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.environment import environment
from common.errors import ImageError, MachineError, SetupError
from common.store import Store, digest, file_sha256
from common.waiting import Deadline, Stopwatch, poll_until
from host_setup.channels.vitals import Vitals
from host_setup.emulated.emulator import Emulator

PROGRAM = "bochs-bin"  # Debian's "bochs" is a script that starts it
BIOS, VGA_BIOS = Path("/usr/share/bochs/BIOS-bochs-latest"), Path("/usr/share/vgabios/vgabios.bin")
CPU = "corei7_haswell_4770"
"""The model with EPT, VPID, unrestricted guest and VMCS shadowing that runs guests fast: with a later one's PML they
are 70 times slower (Bochs 2.7)."""
IPS = 100_000_000  # emulated instructions for a second of the machine's clock, which so many cycles of its TSC are
HEADS, PER_TRACK = 16, 63
CYLINDER = HEADS * PER_TRACK * 512  # bytes
LINE = 255  # characters of a path that Bochs takes
MOST_FORWARDS = 5  # iodev/network/eth_slirp.cc: MAX_HOSTFWD
GUEST_ADDRESS = "10.0.2.15"
PLUGINS = "*/bochs/plugins/*.so"  # its devices, below /usr/lib
PANIC = ">>PANIC<<"  # in Bochs's log: what ends it, a triple fault for instance
PRELOAD = Path(__file__).with_name("bochs_preload.c")
SAVE = 60.0  # seconds
PLUGINS_NAMED = "plugin_ctrl: "
LOADED = ("biosdev", "iodebug", "parallel", "gameport", "extfpuirq", "serial", "unmapped", "e1000")
"""Devices that Bochs 2.7 loads by default when it boots, in its order, but the speaker; and ours. A restored one loads
what is named, and has their timers by their numbers: in another order each device gets another one's timer."""
STATE = "state"
"""Where a host that goes on from a saved state has it, beside its console."""
SETTINGS = "config"  # Bochs's name for its configuration, in a saved state
SAVED = "saved"  # bochs_preload.c: holds 1
MEMORY = "memory.ram"  # Bochs's name


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that Bochs emulates.

    :ivar memory: MiB. :ivar disk: what it boots from, an image of one cylinder.
    :ivar content: files that its memory holds when it is switched on, by their addresses.
    :ivar forwards: ports of this machine's loopback, by the port of the machine that each leads to.
    """

    memory: int
    disk: Path
    content: Mapping[int, Path]
    forwards: Mapping[int, int]


def configuration(machine: Machine, folder: Path, console: int, beat: int) -> str:
    """Bochs's configuration file.

    :param folder: where Bochs finds ``slirp.conf``.
    :param console: file descriptor that the first serial line goes to. :param beat: likewise, of the second.
    :raises MachineError: a path is one that Bochs cannot be told of.
    """
    disk, slirp = machine.disk, folder / "slirp.conf"
    for path in (disk, slirp, *machine.content.values()):
        if len(str(path)) > LINE or not str(path).isascii() or any(sign in str(path) for sign in '",\n$'):
            raise MachineError(f"Bochs cannot be told of the path {path}", hint="use a shorter and plainer --reports")
    shape = f"cylinders=1, heads={HEADS}, spt={PER_TRACK}"
    lines = [
        "config_interface: textconfig",
        "display_library: term",
        f"cpu: model={CPU}, count=1, ips={IPS}, reset_on_triple_fault=0, ignore_bad_msrs=1",
        f"memory: guest={machine.memory}, host={machine.memory}",
        f"romimage: file={BIOS}, options=fastboot",
        f"vgaromimage: file={VGA_BIOS}",
        # Its clock never runs ahead of ours: an idle machine sleeps, and a busy one's deadlines grow.
        "clock: sync=slowdown, time0=utc",
        f"{PLUGINS_NAMED}e1000=1, speaker=0",
        "pci: enabled=1, chipset=i440fx, slot1=e1000",
        f'e1000: enabled=1, mac=52:54:00:12:34:56, ethmod=slirp, ethdev=slirp, script="{slirp}"',
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
        f'ata0-master: type=disk, mode=volatile, path="{disk}", {shape}',
        *(
            f'optramimage{number}: file="{file}", address={address:#x}'
            for number, (address, file) in enumerate(machine.content.items(), start=1)
        ),
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


def compile_here(source: Path, store: Store, *flags: str) -> Path:
    """What gcc makes of a file of ours, for this machine; from the cache if that has it.

    :raises ImageError: with the compiler's lines.
    """

    def gcc(*arguments: str) -> str:
        done = subprocess.run(["gcc", *arguments], env=environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ImageError(f"{source.name} does not compile\n{done.stderr}")
        return done.stdout

    def make(folder: Path) -> None:
        gcc("-O2", "-Wall", "-Wextra", "-Werror", *flags, "-o", str(folder / source.stem), str(source))

    return store.get_or_make("bochs", digest(gcc("--version"), *flags, source), make) / source.stem


class Bochs(Emulator):
    """A running Bochs whose serial lines are ours: the first is the console, the second has the heartbeat.

    :param folder: where its configuration, ``console.log``, ``console.times`` and ``bochs.log`` go.
    :param on_beat: called, from a thread, with each heartbeat line that the machine sends.
    :param library: made of ``PRELOAD``. :param saves: a folder that is there, for ``save``.
    :param state: a folder that ``save`` has written: it goes on from there.
    :raises SetupError: Bochs is not installed. :raises MachineError: it cannot be told of a path.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        vitals: Vitals,
        folder: Path,
        on_beat: Callable[[str], None],
        library: Path,
        saves: Path | None = None,
        state: Path | None = None,
    ) -> None:
        super().__init__("Bochs", vitals=vitals, folder=folder, on_beat=on_beat)
        self._saves = saves
        self._stops = Stopwatch()
        for file in (BIOS, VGA_BIOS):
            if not file.exists():
                raise SetupError(f"Bochs lacks {file}", hint="run 'make doctor': it names the Debian package")
        settings, commands = folder / "bochsrc", folder / "debugger.rc"
        begin = ["-f", str(settings)]
        # The terminal is for its text display, which nobody sees.
        env = {"TERM": "linux", "LD_PRELOAD": str(library)}
        if state is not None:
            ours = _with_own_settings(state, folder)
            settings, begin = ours / SETTINGS, ["-r", str(ours)]
        if saves is not None:
            env["SEALPROOF_SAVE"] = str(saves)
        commands.write_text("c\n", encoding="ascii")  # Debian's Bochs waits in its debugger
        (folder / "slirp.conf").write_text(forwarding(machine.forwards), encoding="ascii")
        console, theirs_console = os.pipe()
        beat, theirs_beat = os.pipe()
        try:
            text = configuration(machine, folder, theirs_console, theirs_beat)
            text = text if state is None else _with_plugins_named(text)
            for file in (settings, folder / "bochsrc"):  # the state goes when it is read; this stays
                file.write_text(text, encoding="ascii")
            self._start(
                [PROGRAM, "-q", *begin, "-rc", str(commands)],
                os.fdopen(beat, encoding="ascii", errors="replace"),
                os.fdopen(console, "rb"),
                pass_fds=(theirs_console, theirs_beat),
                env=env,
            )
        finally:
            os.close(theirs_console)
            os.close(theirs_beat)

    def explain(self) -> str:
        """What the machine is doing, for a wait that ran out: last lines of Bochs and of the console."""
        return f"Bochs: {self._last_words() or 'no complaint'}\nconsole ends with:\n{self.tail()}"

    def save(self) -> None:
        """Let Bochs write its state, memory included, to the folder of ``saves``; Bochs runs on.

        :raises MachineError: it cannot.
        """
        if self._saves is None:
            raise MachineError("this Bochs was not started to be saved")
        result = self._saves / SAVED
        self._process.send_signal(signal.SIGUSR1)
        answer = poll_until(
            lambda: result.exists() and result.read_text(encoding="ascii"),
            Deadline(SAVE, uncounted=self.seconds_without_cpu),
            "Bochs to write its state",
            check=self.vitals.check,
            explain=self.explain,
        )
        if answer != "1":
            raise MachineError("Bochs cannot write its state", hint="is the disk full?")
        # Most of it is zero: no blocks for that.
        subprocess.run(["fallocate", "--dig-holes", str(self._saves / MEMORY)], env=environment(), check=False)

    def stop(self) -> None:
        """Stop the machine, its clocks included."""
        self._process.send_signal(signal.SIGSTOP)
        self._stops.begin()

    def go_on(self) -> None:
        """Let the machine run on."""
        self._process.send_signal(signal.SIGCONT)
        self._stops.end()

    def seconds_stopped(self) -> float:
        """Seconds, so far, in which it stood still because we have stopped it."""
        return self._stops.seconds()

    def _last_words(self) -> str:
        return "\n".join(line for line in super()._last_words().splitlines() if PANIC in line)


def _with_own_settings(state: Path, folder: Path) -> Path:
    """A saved state whose files are links to another's, and whose configuration is still to be written."""
    ours = folder / STATE
    ours.mkdir()
    for file in state.iterdir():
        if file.name != SETTINGS:
            (ours / file.name).symlink_to(file)
    return ours


def _with_plugins_named(text: str) -> str:
    """A configuration with which a restored machine has the devices, and the order of them, that it booted with."""
    named = f"{PLUGINS_NAMED}{', '.join(f'{plugin}=1' for plugin in LOADED)}\n"
    return named + "".join(line for line in text.splitlines(keepends=True) if not line.startswith(PLUGINS_NAMED))
