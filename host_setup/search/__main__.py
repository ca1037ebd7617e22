# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof search``: look for a sequence of operations after which somebody sees what is not theirs.

A small VM on an emulated host does what sequences say: its guest shares pages, takes them back, reads and writes; its
VMM changes memory slots, mappings and what holds its memory. After each operation every page is tried in five ways, and
each answer is compared with a model. A sequence that fails is shortened and written to a file; --replay runs it alone.
Each search adds a line to searches.txt in the same folder, which says what was tried.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path

from common.errors import SealproofError, UserInputError
from common.numbers import minutes
from common.paths import PROJECT, cache_root, parse_path
from common.program import end_with
from common.progress import Terminal, clock
from common.store import Store
from common.waiting import Deadline
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.kernel import layers, series, source
from host_setup.kernel.series import Protection
from host_setup.provision import Settings, prepare
from host_setup.search import sequence_file
from host_setup.search.machine import Check, search
from host_setup.search.trial import Disagreement, OnHost, Tally, disagreement, is_defined, offers_protection, shorten
from host_setup.tools.endurance import reporting

ROUND = 20  # sequences between two looks at the clock
ROUNDS = 1 << 16  # of a seed, at most: no two seeds have a round in common


class HostLoan:
    """A host for one sequence after the other; a fresh one where the last one came to harm."""

    def __init__(self, hosts: EmulatedHosts) -> None:
        self._hosts = hosts
        self._host: EmulatedHost | None = None

    def host(self) -> EmulatedHost:
        """A host that lives. Its own guests stand still: nobody needs them, and they take its time."""
        if self._host is not None and self._host.lost is not None:
            self.end()
        if self._host is None:
            self._host = self._hosts.start()
            for guest in self._host.guests:
                guest.qmp.execute("stop")
        return self._host

    def end(self) -> None:
        """End it."""
        if self._host is not None:
            self._host.close()
            self._host = None


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof search", description=__doc__)
    parser.add_argument("--minutes", type=minutes, default=10.0, help="how long to search; default: 10")
    parser.add_argument("--seed", type=int, help="seed of the sequences; default: a random one")
    parser.add_argument("--replay", type=parse_path, metavar="FILE", help="run only the sequence in this file")
    parser.add_argument(
        "--finds",
        type=parse_path,
        default=PROJECT / "reports" / "finds",
        metavar="FOLDER",
        help="where failing sequences go",
    )
    parser.add_argument("--series", default=series.DEFAULT, metavar="NAME", help="patch series, a name or a folder")
    source.add_option(parser)
    parser.add_argument("--layers", default=(), type=layers.parse_names, metavar="NAMES", help="configuration layers")
    parser.add_argument(
        "--mode", choices=[str(mode) for mode in Protection], default=str(Protection.PROTECTED),
        help="plain: the guest does not ask for protection",
    )  # fmt: skip
    return parser


def main(argv: list[str]) -> int:
    """Search, or replay."""
    options = options_parser().parse_args(argv)
    sequence = None if options.replay is None else sequence_file.read(options.replay)
    number = options.seed if options.seed is not None else secrets.randbelow(1 << 32)
    terminal, tally = Terminal(), Tally()
    about, failing = [f"seed {number}" if sequence is None else f"sequence {options.replay}"], list[str]()

    def lines() -> list[str]:
        return [f"{', '.join(about)}: {tally}", f"found: {len(failing)}"] if tally.sequences else []

    with reporting("search", lines, lambda: failing) as folder:
        store = Store(cache_root())
        settings = Settings("emulated", options.series, options.kernel_source, tuple(options.layers))
        kernel, spec = prepare(settings, store, terminal)
        lent = HostLoan(EmulatedHosts(spec, store, terminal, folder, note=terminal.say))
        run = OnHost(lent.host, lent.end)
        try:
            offered = offers_protection(run)
            protects = offered and options.mode == str(Protection.PROTECTED)
            about += [f"series {kernel.series}", f"Linux {kernel.release}", "protected" if protects else "plain"]

            def check(operations: Sequence[str]) -> Disagreement | None:
                return disagreement(operations, run, tally, offered=offered)

            if sequence is None:
                terminal.say(f"seed {number}: --seed {number} tries the same sequences again")
                failed = _search(check, tally, number, Deadline(60 * options.minutes), terminal, protects=protects)
                if failed is not None:
                    _tell(failing, options.finds / f"{number}.txt", ", ".join(about), *failed, check)
            elif not is_defined(sequence, offered=offered):
                raise UserInputError(f"{options.replay} needs a kernel that offers protection", stage="search")
            elif (wrong := check(sequence)) is not None:
                failing.append(str(wrong))
        finally:
            lent.end()
            if lines():
                sequence_file.note(options.finds / "searches.txt", "; ".join(lines()))
    return 1 if failing else 0


def _search(
    check: Check, tally: Tally, number: int, deadline: Deadline, terminal: Terminal, *, protects: bool
) -> tuple[tuple[str, ...], Disagreement] | None:
    """The first sequence that failed, and how; nothing if none did.

    :param number: the seed. :param protects: whether the guest asks for protection.
    :raises SealproofError: not even a sequence without operations comes to what it must.
    """
    wrong = check(())
    if wrong is not None:
        raise SealproofError(f"a VM that does nothing already fails: {wrong}", stage="search")
    with terminal.step(f"search for {clock(deadline.seconds)}") as step:
        rounds, failed = 0, None
        while failed is None and (not rounds or not deadline.due()):
            failed = search(check, number=number * ROUNDS + rounds, sequences=ROUND, protects=protects)
            rounds += 1
            step.update(1 - deadline.seconds_left() / deadline.seconds, f"{tally.sequences} sequences")
    return failed


def _tell(
    failing: list[str], file: Path, about: str, operations: tuple[str, ...], wrong: Disagreement, check: Check
) -> None:
    """Keep what failed at once, and shortened as soon as it is; it stands in ``failing`` whatever ends this."""

    def tell(operations: Sequence[str], wrong: Disagreement, remark: str) -> None:
        sequence_file.write(file, operations, [f"Found by {about}. {remark}", f"Seen: {wrong}"])
        failing[:] = ["\n".join([str(wrong), remark, "", *operations, "", f"./sealproof search --replay {file}"])]

    tell(operations, wrong, "It failed once.")
    try:
        short, again = operations, check(operations)
        if again is not None:
            short = shorten(operations, check)
            again = check(short)
    except SealproofError as error:
        tell(operations, wrong, f"It failed once, and could not be shortened: {error}")
        return
    if again is None:
        tell(operations, wrong, "It failed once, and not each time that it was tried again.")
    else:
        tell(short, again, "It fails each time.")


if __name__ == "__main__":
    end_with(main)
