# SPDX-License-Identifier: GPL-2.0-or-later
"""Times our machines beside virtme-ng's: from nothing to a command's output, on the same kernel.

Three methods, in turn: virtme-ng boots one machine; we boot a host with its guest; we restore both from a saved state.
All run by software emulation, with the same CPUs and memory. One boot of each goes before, untimed: it fills the page
cache, and its memory is measured, as that takes time of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import psutil

from common import table as tables
from common.errors import SealproofError
from common.paths import cache_root
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.kernel import source
from host_setup.kernel.build import BuiltKernel
from host_setup.kernel.layers import Layer
from host_setup.kernel.series import Protection
from host_setup.provision import Settings, provide_locally
from host_setup.tools import bench_protection
from host_setup.tools.virtme_ng import VirtmeNg

RESTORE_GOAL = 1.0  # seconds
COLD_GOAL = 10.0  # seconds
FASTER_GOAL = 8.0  # times, our restore of two levels than virtme-ng's boot of one
LOST = 3  # boots of theirs that may go astray: they have no remedy for the emulation's fault (emulated/host.py)
BUSY = 0.5  # load per CPU, above which times tell little
SAMPLE = 0.05  # seconds between two looks at the memory
MIB = 1 << 20


@dataclass(slots=True)
class Row:
    """One method to get a command's output, and its measurements.

    :ivar prepare: makes what is needed, once and untimed.
    :ivar once: runs the method once, leaves nothing running, and returns its seconds.
    :ivar spare: attempts that may fail and do not count. :ivar lost: why each failed that did.
    :ivar seconds: of each timed round. :ivar peak: bytes. :ivar trouble: why it could not be measured.
    """

    name: str
    prepare: Callable[[], object]
    once: Callable[[], float]
    spare: int = 0
    lost: list[SealproofError] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    trouble: SealproofError | None = None

    @property
    def median(self) -> float | None:
        """Seconds; None when not every round could be timed."""
        return statistics.median(self.seconds) if self.seconds and self.trouble is None else None


# --- memory -----------------------------------------------------------------------------------------------------------


def machines_memory(name: str = "qemu-system") -> int:
    """Bytes used by all QEMU processes that this run has started; the programs that start them do not count.

    Of memory that several processes use each has its share (PSS, proc_pid_smaps(5)).

    :param name: with which the processes' names begin.
    """
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended while we looked
            if process.name().startswith(name):
                total += process.memory_full_info().pss
    return total


class PeakMemory:
    """The peak memory of all machines inside a ``with``."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE):
            self.bytes = max(self.bytes, machines_memory())


# --- the three ways ---------------------------------------------------------------------------------------------------


def _time_answer(start: Callable[[], EmulatedHost], ask: Callable[[EmulatedHost], object]) -> float:
    begun = time.monotonic()
    host = start()
    try:
        ask(host)
        return time.monotonic() - begun
    finally:
        host.close()


def _ways(
    kernel: BuiltKernel, hosts: EmulatedHosts, store: Store, terminal: Terminal, folder: Path
) -> tuple[Row, Row, Row]:
    """virtme-ng's boot, our cold boot, our restore."""
    cpus, memory, qemu = hosts.spec.cpus, hosts.spec.memory, hosts.spec.rootfs.qemu
    vng = VirtmeNg.of(store)
    saved = cache(hosts.saved_state)

    def theirs() -> float:
        return vng.boot(kernel.image, kernel.release, qemu=qemu, cpus=cpus, memory=memory, folder=folder / "virtme-ng")

    def cold() -> float:
        return _time_answer(hosts.cold, lambda host: host.nonces())

    def restore() -> float:
        # It proves itself by a command's output from both: there is nothing left to ask.
        return _time_answer(lambda: hosts.restore(saved()), lambda _: None)

    return (
        Row(f"virtme-ng {vng.version}, one machine", lambda: vng.install(store, terminal), theirs, LOST),
        Row("our cold boot, host and guest", lambda: None, cold),
        Row("our restore, host and guest", saved, restore),
    )


def measure(rows: Sequence[Row], rounds: int, terminal: Terminal) -> None:
    """Run each method once to measure memory, then time all of them round-robin. A method that fails is not retried."""
    for row in rows:
        _note_trouble(row, row.prepare)
    with terminal.step(f"{len(rows)} ways, 1 untimed and {rounds} timed rounds") as step:
        for number in range(rounds + 1):
            for place, row in enumerate(rows):
                step.update((number + place / len(rows)) / (rounds + 1), row.name)
                _note_trouble(row, partial(_time if number else _weigh, row))


def _note_trouble(row: Row, action: Callable[[], object]) -> None:
    while row.trouble is None:
        try:
            action()
            return
        except SealproofError as error:
            if len(row.lost) < row.spare:
                row.lost.append(error)
            else:
                row.trouble = error


def _time(row: Row) -> None:
    row.seconds.append(row.once())


def _weigh(row: Row) -> None:
    with PeakMemory() as memory:
        row.once()
    row.peak = memory.bytes


# --- what is printed --------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """The rows under each other; each ratio is to what the first row has."""
    first = rows[0]
    cells = [("", "time: median", "shortest", "longest", "ratio", "peak memory", "ratio")]
    for row in rows:
        if row.median is None:
            continue
        median, shortest, longest = (f"{seconds:.2f} s" for seconds in (row.median, min(row.seconds), max(row.seconds)))
        slower = f"{row.median / first.median:.2f}" if first.median else "-"
        larger = f"{row.peak / first.peak:.2f}" if first.median and first.peak else "-"
        cells.append((row.name, median, shortest, longest, slower, f"{row.peak / MIB:.0f} MiB", larger))
    remarks = [
        (row.name, f"not measured: {row.trouble.message.splitlines()[0]}") for row in rows if row.trouble is not None
    ]
    remarks += [
        (row.name, f"{len(row.lost)} lost and not counted: {row.lost[0].message.splitlines()[-1]}")
        for row in rows
        if row.lost
    ]
    numbers = tables.table(cells, right=range(1, len(cells[0])))
    return "\n".join([*numbers, *(tables.table(remarks) if remarks else [])])


def goals(theirs: float | None, cold: float | None, restore: float | None) -> list[str]:
    """A line for each goal: the target, the measurement, and whether it was met. Arguments: median seconds."""

    def line(goal: str, measured: str | None, *, met: bool) -> str:
        outcome = "not measured" if measured is None else f"{measured}, {'met' if met else 'missed'}"
        return f"goal: {goal}: {outcome}"

    faster = theirs / restore if theirs is not None and restore is not None else None
    return [
        line(
            f"both levels restored in at most {RESTORE_GOAL:g} s",
            None if restore is None else f"{restore:.2f} s",
            met=restore is not None and restore <= RESTORE_GOAL,
        ),
        line(
            f"at least {FASTER_GOAL:g} times faster than virtme-ng's one",
            None if faster is None else f"{faster:.1f} times",
            met=faster is not None and faster >= FASTER_GOAL,
        ),
        line(
            f"both levels cold in at most {COLD_GOAL:g} s",
            None if cold is None else f"{cold:.2f} s",
            met=cold is not None and cold <= COLD_GOAL,
        ),
    ]


def load_warning(load: float, cpus: int) -> str | None:
    """A warning about a machine that is busy with other work; None if it is idle."""
    if load <= BUSY * cpus:
        return None
    return f"warning: load average {load:.2f} on {cpus} CPUs: other work on this machine makes all times longer"


# --- the command ------------------------------------------------------------------------------------------------------


def rounds_option(text: str) -> int:
    """A number of rounds, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds, 1 or more")
    return int(text)


def options_parser() -> argparse.ArgumentParser:
    """The options of ``make bench ARGS='...'``."""
    parser = argparse.ArgumentParser(prog="sealproof bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=rounds_option, default=5, help="timed rounds of each (default: 5)")
    parser.add_argument("--series", default="stock", help="a name or a folder (default: stock)")
    source.add_option(parser)
    bench_protection.add_options(parser)
    return parser


def main(argv: list[str]) -> int:
    """Run the bench. Exit status 0 if all was measured, else 1; the goals are printed only."""
    parser = options_parser()
    options = parser.parse_args(argv)
    if not options.protection and (options.against or options.json):
        parser.error("--against and --json need --protection")
    terminal, store = Terminal(), Store(cache_root())
    warning = load_warning(os.getloadavg()[0], len(os.sched_getaffinity(0)))
    if options.protection:
        if warning is not None:
            terminal.say(warning)
        return bench_protection.run(options, store, terminal)
    folder = Path(tempfile.mkdtemp(prefix="sealproof-bench-"))  # stays when something fails
    # Two levels with one guest, on whatever series: that is what is compared with one level.
    settings = Settings("emulated", options.series, options.kernel_source, (Layer.VIRTME,), Protection.PLAIN)
    kernel, hosts = provide_locally(settings, store, terminal, folder / "hosts", note=terminal.say)
    rows = theirs, cold, restore = _ways(kernel, hosts, store, terminal, folder)
    measure(rows, options.rounds, terminal)
    spec = hosts.spec
    lines = [
        f"From nothing to a command's output, {options.rounds} rounds",
        f"Linux {kernel.release}, series {kernel.series}; emulation of {spec.cpus} CPUs, {spec.memory} MiB",
        "",
        table(rows),
        "",
        *goals(theirs.median, cold.median, restore.median),
        *([] if warning is None else [warning]),
        *(f"\n{row.name}: {row.trouble}" for row in rows if row.trouble is not None),
    ]
    print("\n".join(lines))  # noqa: T201
    if any(row.trouble is not None for row in rows):
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    end_with(main)
