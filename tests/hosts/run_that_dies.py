# SPDX-License-Identifier: GPL-2.0-or-later
"""A run that gets a signal when its machine is in a state.

usage: run_that_dies.py STATE SIGNAL INVENTORY SERIES          the machine is 'standin'
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from common.errors import UserInputError
from common.paths import cache_root
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from host_setup.provision import Settings, kernel_for_machines, real_machine
from host_setup.remote.leased import Leased, LeaseState, bring_back_on_error


def main(argv: list[str]) -> int:
    """Lease, provision, boot and restore, unless the signal ends it."""
    state, by, inventory = LeaseState(argv[0]), signal.Signals[argv[1]], Path(argv[2])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as in every run of ours
    store, terminal = Store(cache_root()), Terminal()
    machine = real_machine(Settings(host="standin", inventory=inventory))
    if machine is None:
        raise UserInputError(f"no machine standin in {inventory}")
    kernel, programs = kernel_for_machines(Settings(series=argv[3]), store, terminal)

    def on_state(reached: LeaseState) -> None:
        if reached is state:
            os.kill(os.getpid(), by)

    def note(words: str) -> None:
        sys.stderr.write(words)

    leased = Leased(*machine, inventory.parent, terminal, note=note, on_state=on_state)
    with bring_back_on_error(leased):
        leased.provision(kernel, programs)
        leased.boot()
    leased.restore()
    return 0


if __name__ == "__main__":
    end_with(main)
