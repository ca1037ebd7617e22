# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof rows``: run rows of ``tiny_vm`` on a fresh host, also with other parameters of its kernel's.

Each runs in a guest that does not ask for protection, and in one that does, on private pages and on pages that it
shares. Without names all rows run. A row is SKIP, with the reason, where the host lacks what the row is about: another
processor, SVM, VMX or SMAP, or KVM's private registers with EPT and without unrestricted guest. No claim is judged.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from common.errors import DeadlineError, MachineError, UserInputError
from common.paths import cache_root
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from guest_images.programs import programs
from host_setup.emulated.bochs_host import BOCHS
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.local_host import LocalHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts.facts import facts
from host_setup.hosts.guest_spec import HOST_PROGRAMS, ROW_SECONDS, row_seconds
from host_setup.provision import EMULATORS, accelerator, hosts_of_bochs, prepare
from host_setup.this_machine import survey
from host_setup.tools.endurance import reporting
from host_setup.tools.fresh_host import add_options, settings

WAYS = ("plain", "private", "shared")
REGISTERS_CHECK, REFUSED = "ENABLE with registers", f"{-errno.EOPNOTSUPP & (1 << 64) - 1:#x}"
NO_PRIVATE_REGISTERS = (
    "with EPT and without unrestricted guest KVM keeps no registers private: real mode's tables are the VMM's"
)
PARAMETERS = ("ept", "unrestricted_guest")
VMX_ROWS = ("nested-vmx", "nested-vmx-shadow")
SVM_ROWS = ("nested", "nested-tables", "nested-again", "nested-shares", "fail-nested", "traced", "neighbour")
BESIDE_ROWS = ("ended", "kept-register", "backtrace", "refused-moved", "refused-beside")
"""In which two threads must run at the same time."""

OPEN = ("alternate", "mappings of the VMM that this added, above a few", hex(2000))
"""A row, a check of it, and what it finds of a protected guest: tests_e2e/boundaries/test_mappings.py says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """What decides which rows can be tried on a host.

    :ivar features: of its processor, as ``facts`` names them. :ivar processors: how many.
    :ivar ept: whether KVM uses it; None: it has no such parameter. :ivar unrestricted: likewise of unrestricted guest.
    :ivar swaps: whether it has swap.
    :ivar switches_tasks: whether its emulator carries out task switches, so that KVM never does.
    """

    features: frozenset[str]
    processors: int
    ept: bool | None
    unrestricted: bool | None
    swaps: bool
    switches_tasks: bool

    @property
    def refuses_registers(self) -> bool:
        """Whether KVM makes no registers private there."""
        return self.ept is True and self.unrestricted is False

    def lacks(self, row: str) -> str:
        """Why a row cannot be tried there; empty: it can."""
        if row in SVM_ROWS and "svm" not in self.features:
            return "the processor has no SVM, by which the row's hypervisor runs its guest"
        if row in VMX_ROWS and "vmx" not in self.features:
            return "the processor has no VMX, by which the row's hypervisor runs its guest"
        if row == "walk-smep-smap" and "smap" not in self.features:
            return "the processor has no SMAP"
        if row in BESIDE_ROWS and self.processors < 2:
            return "the host has one processor, and two threads must run at the same time"
        if row == "swapped" and not self.swaps:
            return "the host has no swap"
        if row == "task-switch" and self.switches_tasks:
            return "QEMU's emulation of SVM carries out task switches by itself"
        if row == "asks-managed" and self.unrestricted is False:
            return "KVM emulates real mode, and has the processor run VMCALL again, which it does not there"
        return ""


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof rows", description=__doc__)
    add_options(parser)
    parser.add_argument("--emulator", choices=EMULATORS, default="qemu", help="what emulates the host")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="the guest's pages; default: all three")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all")
    return parser


def main(argv: list[str]) -> int:
    """Run it."""
    options = options_parser().parse_intermixed_args(argv)
    terminal = Terminal()
    verdicts: Counter[str] = Counter()
    rows = programs(Store(cache_root()), terminal).rows()
    if unknown := [row for row in options.rows if row not in rows]:
        near = [row for name in unknown for row in difflib.get_close_matches(name, rows)]
        raise UserInputError(f"tiny_vm has no row {', '.join(unknown)}", hint=f"one of: {' '.join(near or rows)}")
    with _host(options, terminal) as host:
        looked = _look(host)
        for row in options.rows or rows:
            if lack := looked.lacks(row):
                verdicts["SKIP"] += len(options.ways)
                _say(f"SKIP  {row:24}{lack}")
                continue
            for way in options.ways:
                began = time.monotonic()
                verdict, reasons = _verdict(host, row, way, refuses=looked.refuses_registers)
                verdicts[verdict] += 1
                _say(
                    f"{verdict}  {row:24}{way:9}{time.monotonic() - began:6.1f} s",
                    *(f"      {reason}" for reason in reasons),
                )
                host.vitals.check()
    _say(", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items(), reverse=True)))
    return 1 if verdicts["FAIL"] else 0


def _say(*lines: str) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201


@contextmanager
def _host(options: argparse.Namespace, terminal: Terminal) -> Iterator[LocalHost]:
    """A fresh host without guests."""
    request = replace(settings(options), emulator=options.emulator)
    with reporting("rows", list, list) as folder:
        store = Store(cache_root())
        if accelerator(request.host, None, survey(), request.emulator) is BOCHS:
            _, by_bochs = hosts_of_bochs(request, store, terminal, folder, note=terminal.say)
            host: LocalHost = by_bochs.cold(options.words, alone=True)
        else:
            _, spec = prepare(request, store, terminal)
            host = EmulatedHosts(spec, store, terminal, folder, note=terminal.say).cold(options.words, alone=True)
        with closing(host):
            yield host


def _look(host: LocalHost) -> Host:
    """What is looked up on a host, by its own files."""
    files = [f"/sys/module/kvm_intel/parameters/{name}" for name in PARAMETERS]
    found = host.ssh.run(["cat", *files], seconds=ROW_SECONDS).text.split()
    ept, unrestricted = (word == "Y" for word in found) if found else (None, None)
    features = frozenset(facts(host.ssh)["features"].split(", "))
    return Host(
        features,
        int(host.ssh.run(["nproc"], seconds=ROW_SECONDS).require().text),
        ept,
        unrestricted,
        swaps=len(host.ssh.run(["cat", "/proc/swaps"], seconds=ROW_SECONDS).require().text.splitlines()) > 1,
        switches_tasks=isinstance(host, EmulatedHost) and "svm" in features,
    )


def _verdict(host: LocalHost, row: str, way: str, *, refuses: bool) -> tuple[str, list[str]]:
    """What becomes of a row, and why it is no PASS, in words."""
    try:
        done = host.ssh.run([f"{HOST_PROGRAMS}/tiny_vm", row, way], seconds=row_seconds(row))
    except (DeadlineError, MachineError) as error:
        return "FAIL", [str(error)]
    checks = [json.loads(line) for line in done.text.splitlines()]
    if refuses and any(check["name"].startswith(REGISTERS_CHECK) and check["got"] == REFUSED for check in checks):
        return "SKIP", [NO_PRIVATE_REGISTERS]
    wrong = [
        check for check in checks if check["got"] != check["expected"] and (row, check["name"], check["got"]) != OPEN
    ]
    faults = [f"{check['name']}: {check['got']}, not {check['expected']}" for check in wrong]
    if done.status != 0 or not checks:
        faults.append(f"status {done.status}")
    return "FAIL" if faults else "PASS", faults


if __name__ == "__main__":
    end_with(main)
