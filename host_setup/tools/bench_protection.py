# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures the cost of protection: two series side by side, each on its own host, in turn.

A host runs no guest but the one that measures (guest_images/programs/measure_protection.c): 32-bit code that touches,
shares and takes back pages. Its vCPUs share the host's CPUs but the first, which runs no guest. Times are of an
emulation, so only ratios count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.errors import MachineError, SealproofError
from common.numbers import MOST, whole_number
from common.paths import parse_path
from common.progress import Terminal
from common.store import Store
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from host_setup.provision import HOST_MEMORY, NODES, Settings, prepare
from host_setup.tools.endurance import reporting

PROGRAM = "measure_protection"
VCPUS = 4
TOUCHES = 2000  # pages
SPARE = 512  # MiB beside the guest, for what changes its frame
MOST_MIB = 1 << 20  # that an option may ask for
PATIENCE = 600.0  # seconds that one measurement may take

FEWER_FLUSHES = 50.0  # times
SLOWEST_POPULATE = 1.25  # times a plain guest's time
FASTER_SHARES = 4.0  # times
SHORTER_STRETCH = 20.0  # times


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: MiB that are populated, rounds of one page, and MiB that are shared and taken back."""

    populate: int
    shares: int
    stretch: int


@dataclass(slots=True)
class Measurements:
    """What was found of a series: by name, a number of each round."""

    series: str
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, numbers: Mapping[str, float]) -> None:
        """One round's numbers."""
        for name, number in numbers.items():
            self.seconds.setdefault(name, []).append(number)

    def median(self, name: str) -> float | None:
        """None when it was never measured."""
        numbers = self.seconds.get(name)
        return statistics.median(numbers) if numbers else None


def words(cpus: int, size: Size) -> dict[str, list[str]]:
    """The program's arguments, by what is measured.

    :param cpus: of the host.
    """
    last = str(cpus - 1)
    all_vcpus = [str(1 + number % (cpus - 1)) for number in range(VCPUS)]
    return {
        "interrupts": ["interrupts", str(TOUCHES), last],
        **{way: ["populate", way, str(size.populate), *all_vcpus] for way in ("plain", "huge", "private")},
        "rounds": ["rounds", str(size.shares), last],
        "stretch": ["stretch", str(size.stretch), last],
    }


def numbers(answers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """A round's numbers, by the names of the table's rows.

    :param answers: what the program said, by what was measured.
    """
    seconds = {way: answers[way]["seconds"] for way in ("plain", "huge", "private")}
    return {
        **{name: answers["interrupts"][name] for name in ("touch_calls", "touch_tlb", "unshare_calls", "unshare_tlb")},
        **{f"populate_{way}": times for way, times in seconds.items()},
        "populate": seconds["private"] / seconds["plain"],
        "populate_to_huge": seconds["private"] / seconds["huge"],
        "share_round": answers["rounds"]["microseconds"],
        "stretch": max(answers["stretch"]["share"], answers["stretch"]["unshare"]),
        "stretch_share": answers["stretch"]["share"],
        "stretch_unshare": answers["stretch"]["unshare"],
        "stretch_idle": answers["stretch"]["idle"],
        "stretch_seconds": answers["stretch"]["seconds"],
    }


def _ask(host: EmulatedHost, argv: Sequence[str]) -> dict[str, float]:
    done = host.ssh.run([f"{HOST_PROGRAMS}/{PROGRAM}", *argv], seconds=PATIENCE).require()
    try:
        answers: dict[str, float] = json.loads(done.text)
    except ValueError as error:
        raise MachineError(f"{PROGRAM} {' '.join(argv)} said {done.text!r}") from error
    return answers


# --- what is printed --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table.

    :ivar goal: in words. :ivar most: what ours may be, by today's number; None: it is only told.
    :ivar noise: the row that says what is found of this one where nothing happens.
    """

    name: str
    title: str
    goal: str = ""
    most: Callable[[float], float] | None = None
    noise: str = ""


def _at_most(part: float) -> Callable[[float], float]:
    return lambda today: today / part


def lines_of(size: Size) -> list[Line]:
    """The table's rows."""
    fewer, shorter = f"at most 1/{FEWER_FLUSHES:g}", f"at most 1/{SHORTER_STRETCH:g}"
    back = f"while {size.stretch} MiB are shared and taken back"
    return [
        Line(
            "touch_calls",
            "calls at each CPU without a guest (line CAL), per 1,000 first touches",
            fewer,
            _at_most(FEWER_FLUSHES),
        ),
        Line("touch_tlb", "  by /proc/interrupts' line TLB"),
        Line(
            "unshare_calls",
            "calls at each CPU without a guest (line CAL), per 1,000 UNSHARE",
            fewer,
            _at_most(FEWER_FLUSHES),
        ),
        Line("unshare_tlb", "  by /proc/interrupts' line TLB"),
        Line(
            "populate",
            f"populate {size.populate} MiB, {VCPUS} vCPUs: times a plain guest's",
            f"at most {SLOWEST_POPULATE:g}",
            lambda _: SLOWEST_POPULATE,
        ),
        Line("populate_plain", "  plain, seconds"),
        Line("populate_private", "  private, seconds"),
        Line("populate_to_huge", "  times a plain guest's with huge pages"),
        Line(
            "share_round",
            f"SHARE and UNSHARE of a page, {size.shares:,} rounds: us a round",
            f"at most 1/{FASTER_SHARES:g}",
            _at_most(FASTER_SHARES),
        ),
        Line("stretch", f"longest without rescheduling {back}, ms", shorter, _at_most(SHORTER_STRETCH), "stretch_idle"),
        Line("stretch_idle", "  without a call (the emulation's own), ms"),
        Line("stretch_seconds", f"  time {back}, s"),
    ]


def _number_text(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}" if abs(number) < 10 else f"{number:.1f}"


def _outcome(line: Line, today: Measurements, ours: Measurements) -> str:
    """The result of a row's goal, in words."""
    if line.most is None:
        return ""
    old, new = today.median(line.name), ours.median(line.name)
    if old is None or new is None:
        return f"{line.goal}: not measured"
    most = line.most(old)
    if new <= most and most:
        return f"{line.goal}: met"
    if not most:
        return f"{line.goal}: not decided, today there is none"
    noise = ours.median(line.noise)
    if noise is not None and noise > most:
        return f"{line.goal}: not decided, {_number_text(most)} is less than the noise"
    return f"{line.goal}: missed"


def table(lines: Sequence[Line], today: Measurements, ours: Measurements) -> str:
    """Medians side by side, and whether each goal was met; the ratio is ours to today's."""
    cells = [("", today.series, ours.series, "ratio", "goal")]
    for line in lines:
        old, new = today.median(line.name), ours.median(line.name)
        ratio = _number_text(new / old) if old and new is not None else "-"
        cells.append((line.title, _number_text(old), _number_text(new), ratio, _outcome(line, today, ours)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True)),
                row[4],
            ]
        ).rstrip()
        for row in cells
    )


# --- the command ------------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of ``make bench`` that are for this table."""
    group = parser.add_argument_group("protection")
    group.add_argument(
        "--protection", action="store_true", help="measure the cost of protection, for --series and --against"
    )
    group.add_argument("--against", metavar="SERIES", help="the series to compare with (default: --series itself)")
    for name, most, default, purpose in (
        ("--populate", MOST_MIB, 128, "MiB that a guest populates"),
        ("--shares", MOST, 10_000, "rounds of SHARE and UNSHARE"),
        ("--stretch", MOST_MIB, 1024, "MiB shared and taken back at a time"),
    ):
        group.add_argument(
            name, type=whole_number(1, most), default=default, metavar="N", help=f"{purpose} (default: {default})"
        )
    group.add_argument("--json", type=parse_path, help="also write the measurements to this file")


def run(options: argparse.Namespace, store: Store, terminal: Terminal) -> int:
    """Measure and print. Exit status 0 if all was measured, else 1; the goals are printed only."""
    size = Size(options.populate, options.shares, options.stretch)
    lines = lines_of(size)
    ours, today = (Measurements(Path(name).name) for name in (options.series, options.against or options.series))
    about, troubles = list[str](), list[str]()

    def say() -> list[str]:
        done = len(ours.seconds.get("populate", ()))
        measured = [f"medians of {done} of {options.rounds} rounds, by turns", "", table(lines, today, ours)]
        return [*about, *measured] if done else about

    with reporting("bench", say, lambda: troubles) as folder, contextlib.ExitStack() as running:
        hosts = list[tuple[Measurements, EmulatedHost]]()
        for measured, name in ((today, options.against or options.series), (ours, options.series)):
            kernel, spec = prepare(Settings("emulated", name, options.kernel_source), store, terminal)
            memory = max(size.populate, size.stretch) + HOST_MEMORY + SPARE
            spec = replace(spec, memory=memory + -memory % NODES)
            host = EmulatedHosts(spec, store, terminal, folder, note=terminal.say).cold(alone=True)
            hosts.append((measured, running.enter_context(contextlib.closing(host))))
            about.append(f"{measured.series}: Linux {kernel.release}; emulation of {spec.cpus} CPUs, {spec.memory} MiB")
        measurements = words(hosts[0][1].spec.cpus, size)
        with terminal.step(f"{options.rounds} rounds of {len(measurements)} measurements on each") as step:
            try:
                for number in range(options.rounds):
                    answers: list[dict[str, dict[str, float]]] = [{} for _ in hosts]
                    for place, (measurement, argv) in enumerate(measurements.items()):
                        step.update((number + place / len(measurements)) / options.rounds, measurement)
                        for times, (_, host) in zip(answers, hosts, strict=True):
                            times[measurement] = _ask(host, argv)
                    for times, (measured, _) in zip(answers, hosts, strict=True):
                        measured.add(numbers(times))
                    if options.json is not None:  # after each: what was measured stays if the rest is not
                        options.json.write_text(_comparison_json(today, ours), "utf-8")
            except SealproofError as error:
                troubles.append(str(error))
    return 1 if troubles else 0


def _comparison_json(today: Measurements, ours: Measurements) -> str:
    """JSON of both."""

    def entry(measured: Measurements) -> dict[str, object]:
        medians = {name: measured.median(name) for name in measured.seconds}
        return {"series": measured.series, "rounds": measured.seconds, "medians": medians}

    return json.dumps({"today": entry(today), "ours": entry(ours)}, indent=1) + "\n"
