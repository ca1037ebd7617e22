# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots and restores emulated hosts again and again, and counts those that stalled, failed or were not what was saved.

Each time each guest must answer, its clock must advance at the right rate while it sleeps (a lost timer is what stalls
a nested guest under emulation), and after a restore all nonces must be the saved ones, never asked for.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable

from common.errors import DeadlineError, MachineLostError, SealproofError
from common.paths import cache_root
from common.program import end_with
from common.progress import Terminal, clock
from common.store import Store
from host_setup.endurance import told
from host_setup.hosts.emulated import EmulatedHost
from host_setup.hosts.snapshots import NotPristineError
from host_setup.kernel import series, source
from host_setup.provision import Settings, made_here

SLEEPS = 3  # clock checks of 0.2 s each


class Tally:
    """How a number of starts went."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.troubles: list[str] = []

    def add(self, start: Callable[[], EmulatedHost]) -> None:
        """Start a host, try its guest, end it, and count how that went."""
        begun = time.monotonic()
        try:
            host = start()
            try:
                self.seconds.append(time.monotonic() - begun)
                _try_guests(host)
            finally:
                host.close()
        except (MachineLostError, DeadlineError) as error:
            self._trouble("stalled", error)
        except SealproofError as error:
            self._trouble("fell back" if isinstance(error, NotPristineError) else "failed", error)
        else:
            self.outcomes["well"] += 1

    def _trouble(self, kind: str, error: SealproofError) -> None:
        self.outcomes[kind] += 1
        self.troubles.append(f"{kind}: {error}")

    def line(self, what: str, wanted: int) -> str:
        """One line of the table."""
        counts = "  ".join(f"{kind} {self.outcomes[kind]}" for kind in ("well", "stalled", "failed", "fell back"))
        times = sorted(self.seconds) or [0.0]
        spread = f"median {clock(statistics.median(times))}, longest {clock(times[-1])}"
        return f"{what:<9} {sum(self.outcomes.values())} of {wanted}:  {counts}   start: {spread}"


def _try_guests(host: EmulatedHost) -> None:
    for guest in host.guests * SLEEPS:
        wrong = [check for check in guest.checks("check_clock") if check["expected"] != check["got"]]
        if wrong:
            raise SealproofError(f"the clock of guest {guest.spec.name} is wrong: {wrong}", stage="guest")


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--boots", type=int, default=50, help="cold boots of host and guest")
    parser.add_argument("--restores", type=int, default=200, help="restores of both")
    parser.add_argument("--series", default=series.DEFAULT)
    source.add_option(parser)
    return parser


def main(argv: list[str]) -> int:
    """Run the soak. Exit status 0 if every start went well, else 1."""
    parser = options_parser()
    options = parser.parse_args(argv)
    if min(options.boots, options.restores) < 0 or not options.boots + options.restores:
        parser.error("nothing to do: --boots and --restores are both 0")
    terminal = Terminal()
    boots, restores = Tally(), Tally()

    def lines() -> list[str]:
        tallies = (("boots", boots, options.boots), ("restores", restores, options.restores))
        return [tally.line(what, wanted) for what, tally, wanted in tallies if tally.outcomes]

    with told("soak", lines, lambda: boots.troubles + restores.troubles) as folder:
        settings = Settings("emulated", options.series, options.kernel_source)
        _, hosts = made_here(settings, Store(cache_root()), terminal, folder, note=terminal.say)
        saved = hosts.saved()
        for what, tally, count, start in (
            ("boots", boots, options.boots, hosts.cold),
            ("restores", restores, options.restores, lambda: hosts.restore(saved)),
        ):
            with terminal.step(f"{count} {what}") as step:
                for done in range(count):
                    tally.add(start)
                    step.update((done + 1) / count, tally.troubles[-1].splitlines()[0] if tally.troubles else "")
    return 0 if not boots.troubles + restores.troubles else 1


if __name__ == "__main__":
    end_with(main)
