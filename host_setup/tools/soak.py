# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots and restores emulated hosts again and again, and counts those that stalled, failed or were not what was saved.

Each time each guest must answer, its clock must advance at the right rate while it sleeps (a lost timer is what stalls
a nested guest under emulation), and after a restore all nonces must be the saved ones, never asked for. Then one guest
reboots again and again, and must be opted in each time, if the series lets it.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from common.errors import DeadlineError, MachineLostError, SealproofError
from common.numbers import whole_number
from common.paths import cache_root
from common.program import end_with
from common.progress import Terminal, clock
from common.store import Store
from common.waiting import Deadline
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.saved import NotPristineError
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import beside
from host_setup.hosts.reboots import reboot_in_a_row
from host_setup.kernel import series, source
from host_setup.provision import Settings, provide_locally
from host_setup.tools.endurance import reporting

REBOOT = 240.0  # seconds that one may take on a slow, busy machine
STARTS = ("boots", "restores", "reboots")
SLEEPS = 3  # clock checks of 0.2 s each


class Tally:
    """How a number of starts went.

    :param kind: their name. :param goal: how many there are to be.
    """

    def __init__(self, kind: str, goal: int) -> None:
        self.kind = kind
        self.goal = goal
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.troubles: list[str] = []

    def add(self, start: Callable[[], EmulatedHost]) -> None:
        """Start a host, try its guests, end it, and count how that went."""
        with self._count_errors():
            begun = time.monotonic()
            with contextlib.closing(start()) as host:
                self.seconds.append(time.monotonic() - begun)
                _try_guests(host.guests)

    def add_reboot(self, guest: Guest) -> None:
        """Reboot a guest, try it, and count the result."""
        with self._count_errors():
            begun = time.monotonic()
            reboot_in_a_row(guest, 1, Deadline(REBOOT))
            self.seconds.append(time.monotonic() - begun)
            if guest.protected != guest.spec.opts_in:
                raise SealproofError(
                    f"after a reboot guest {guest.spec.name} is not in the mode that was asked for", stage="guest"
                )
            _try_guests([guest])

    @contextlib.contextmanager
    def _count_errors(self) -> Iterator[None]:
        try:
            yield
        except (MachineLostError, DeadlineError) as error:
            self._trouble("stalled", error)
        except SealproofError as error:
            self._trouble("fell back" if isinstance(error, NotPristineError) else "failed", error)
        else:
            self.outcomes["well"] += 1

    def _trouble(self, kind: str, error: SealproofError) -> None:
        self.outcomes[kind] += 1
        self.troubles.append(f"{kind}: {error}")

    def fill(self, terminal: Terminal, start: Callable[[], None], *, of_one: bool = False) -> None:
        """Start until there are as many as wanted.

        :param start: adds one start. :param of_one: all starts are of one machine, so none follows one that went wrong.
        """
        if not self.goal:
            return
        with terminal.step(f"{self.goal} {self.kind}") as step:
            for done in range(self.goal):
                start()
                step.update((done + 1) / self.goal, "".join(self.troubles[-1:]).partition("\n")[0])
                if of_one and self.troubles:
                    return

    def line(self) -> str:
        """One line of the table."""
        counts = "  ".join(f"{kind} {self.outcomes[kind]}" for kind in ("well", "stalled", "failed", "fell back"))
        times = sorted(self.seconds) or [0.0]
        spread = f"median {clock(statistics.median(times))}, longest {clock(times[-1])}"
        return f"{self.kind:<9} {sum(self.outcomes.values())} of {self.goal}:  {counts}   start: {spread}"


def _try_guests(guests: Sequence[Guest]) -> None:
    for guest in [*guests] * SLEEPS:
        wrong = [check for check in guest.checks("check_clock") if check["expected"] != check["got"]]
        if wrong:
            raise SealproofError(f"the clock of guest {guest.spec.name} is wrong: {wrong}", stage="guest")


@contextlib.contextmanager
def _rebooting(host: EmulatedHost) -> Iterator[Guest]:
    """One more guest like the one under test, whose QEMU outlives a reset; ends the host as well."""
    with contextlib.closing(host):
        for guest in host.guests:
            guest.qmp.execute("stop")
        with host.extra_guest(replace(beside(host.guest.spec), reboots=True)) as guest:
            guest.wait_for_boot(1, Deadline(REBOOT))
            yield guest


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof soak", description=(__doc__ or "").splitlines()[0])
    count = whole_number(0)
    parser.add_argument("--boots", type=count, default=50, help="cold boots of host and guest; default: 50")
    parser.add_argument("--restores", type=count, default=200, help="restores of both; default: 200")
    parser.add_argument("--reboots", type=count, default=20, help="reboots of one guest, in a row; default: 20")
    parser.add_argument("--series", default=series.DEFAULT, help=f"a name or a folder; default: {series.DEFAULT}")
    source.add_option(parser)
    return parser


def main(argv: list[str]) -> int:
    """Run the soak. Exit status 0 if every start went well, else 1."""
    parser = options_parser()
    options = parser.parse_args(argv)
    boots, restores, reboots = tallies = tuple(Tally(kind, getattr(options, kind)) for kind in STARTS)
    if not any(tally.goal for tally in tallies):
        parser.error("nothing to do: one of --boots, --restores and --reboots must be above 0")
    terminal = Terminal()

    def lines() -> list[str]:
        return [tally.line() for tally in tallies if tally.outcomes]

    def troubles() -> list[str]:
        return [trouble for tally in tallies for trouble in tally.troubles]

    with reporting("soak", lines, troubles) as folder:
        settings = Settings("emulated", options.series, options.kernel_source)
        _, hosts = provide_locally(settings, Store(cache_root()), terminal, folder, note=terminal.say)
        saved = hosts.saved_state()

        boots.fill(terminal, lambda: boots.add(hosts.cold))
        restores.fill(terminal, lambda: restores.add(lambda: hosts.restore(saved)))
        if reboots.goal:
            with _rebooting(hosts.restore(saved)) as guest:
                reboots.fill(terminal, lambda: reboots.add_reboot(guest), of_one=True)
    return 0 if not troubles() else 1


if __name__ == "__main__":
    end_with(main)
