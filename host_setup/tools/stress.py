# SPDX-License-Identifier: GPL-2.0-or-later
"""Protects, shares, takes back and kills, again and again, and looks whether the host's kernel stays healthy.

A round: a host boots, and its guests, of which one opts in; pages are shared and taken back many times, then its QEMU
gets SIGKILL. All of its memory must return to the direct map, and the kernel must have said nothing.
Best with ``--layers debug``, which has the kernel look at its locks and its memory itself.
"""

from __future__ import annotations

import argparse
import contextlib
import re

from common.errors import MachineError, SealproofError
from common.numbers import whole_number
from common.paths import cache_root
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from common.waiting import Deadline, poll_until
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts import kernel_log
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import PLAIN, PROTECTED
from host_setup.kernel import series, source
from host_setup.kernel.layers import Layer, parse_names
from host_setup.provision import Settings, prepare
from host_setup.tools.endurance import reporting

TEARDOWN = 120.0  # seconds; each page is cleared and mapped again
PER_SHARE = 0.2  # seconds, at most, on a kernel with all its checks


def out_of_direct_map(guest: Guest) -> int:
    """Pages of the host that are out of its direct map, as KVM tells (debugfs, at any VM).

    :raises MachineError: it does not tell.
    """
    match = re.search(r"^host_pages_out_of_direct_map: (\d+)$", guest.memory.protection(), re.MULTILINE)
    if match is None:
        raise MachineError("the host's kernel does not report which pages are out of its direct map", hint="--series?")
    return int(match[1])


def stress(host: EmulatedHost, shares: int) -> None:
    """One round, on a host that is thrown away afterwards.

    :param shares: how often a page is shared and taken back; half of them a process's, half of them a kernel's.
    :raises SealproofError: something went wrong; says what.
    """
    guests = {guest.spec.name: guest for guest in host.guests}
    if PROTECTED.name not in guests or not guests[PROTECTED.name].protected:
        raise MachineError("no guest is protected, so there is nothing to stress")
    victim, witness = guests[PROTECTED.name], guests[PLAIN.name]
    checks = victim.checks("check_share", str(shares // 2), seconds=60 + shares * PER_SHARE)
    if wrong := [check for check in checks if check["expected"] != check["got"]]:
        raise MachineError(f"a shared page lost its content: {wrong}")
    if not out_of_direct_map(witness):
        raise MachineError("no page is out of the direct map although a guest is protected")
    host.ssh.run(["kill", "-KILL", str(victim.pid)], seconds=10).require()
    poll_until(
        lambda: out_of_direct_map(witness) == 0,
        Deadline(TEARDOWN),
        "the guest's memory to return to the direct map",
        check=host.vitals.check,
        explain=lambda: f"{out_of_direct_map(witness)} pages are still out",
        interval=0.5,
    )
    log = host.kernel_log() + host.ssh.run(["dmesg"], seconds=20).require().text
    if splats := kernel_log.splats(log):
        raise MachineError("the host's kernel is unhealthy:\n" + "\n".join(splats))


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof stress", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=whole_number(1), default=20, help="a fresh host for each; default: 20")
    parser.add_argument(
        "--shares",
        type=whole_number(2),
        default=10_000,
        help="how often a page is shared in each round; default: 10000",
    )
    parser.add_argument("--series", default=series.DEFAULT, help=f"a name or a folder; default: {series.DEFAULT}")
    source.add_option(parser)
    parser.add_argument("--layers", type=parse_names, default=(Layer.DEBUG,), help="of the kernel; default: debug")
    return parser


def main(argv: list[str]) -> int:
    """Run the rounds. Exit status 0 if all went well, else 1."""
    parser = options_parser()
    options = parser.parse_args(argv)
    if options.shares % 2:
        parser.error("--shares is an even number: what is shared is taken back")
    terminal = Terminal()
    tried, troubles = 0, list[str]()
    settings = Settings("emulated", options.series, options.kernel_source, options.layers)

    def lines() -> list[str]:
        summary = f"{tried} of {options.rounds} rounds of {options.shares} shares: {tried - len(troubles)} well"
        return [summary] if tried else []

    with reporting("stress", lines, lambda: troubles) as folder:
        store = Store(cache_root())
        _, spec = prepare(settings, store, terminal)
        hosts = EmulatedHosts(spec, store, terminal, folder, note=terminal.say)
        with terminal.step(f"{options.rounds} rounds of {options.shares} shares") as step:
            while tried < options.rounds:
                try:
                    with contextlib.closing(hosts.cold()) as host:
                        stress(host, options.shares)
                except SealproofError as error:
                    troubles.append(f"round {tried + 1}: {error}")
                tried += 1
                step.update(tried / options.rounds, troubles[-1].splitlines()[0] if troubles else "")
    return 1 if troubles else 0


if __name__ == "__main__":
    end_with(main)
