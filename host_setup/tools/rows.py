# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof rows``: run rows of ``tiny_vm`` on a fresh host, also with other parameters of its kernel's.

Each row runs three times: in a plain guest, and in a protected guest on private pages and on shared pages. If no row is
named, all rows run. A row that asks for private registers is SKIP where KVM cannot have them: with EPT
and without unrestricted guest. No claim is judged.
"""

from __future__ import annotations

import argparse
import errno
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from common.errors import DeadlineError, MachineError, UserInputError
from common.paths import cache_root
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from host_setup.emulated.bochs_host import BOCHS
from host_setup.emulated.local_host import LocalHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from host_setup.provision import EMULATORS, accelerator, hosts_of_bochs, prepare
from host_setup.this_machine import survey
from host_setup.tools.endurance import reporting
from host_setup.tools.fresh_host import add_options, settings

WAYS = ("plain", "private", "shared")
ASKED, REFUSED = "ENABLE with registers", f"{-errno.EOPNOTSUPP & (1 << 64) - 1:#x}"
PARAMETERS = ("ept", "unrestricted_guest")
ROW = 40.0  # seconds; tiny_vm itself gives up after 20


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
    with _host(options, terminal) as host:
        rows = _rows_of(host)
        if unknown := [row for row in options.rows if row not in rows]:
            raise UserInputError(f"tiny_vm has no row {', '.join(unknown)}", hint=f"one of: {' '.join(rows)}")
        refuses = _refuses_registers(host)
        for row in options.rows or rows:
            for way in options.ways:
                began = time.monotonic()
                verdict, faults = _verdict(host, row, way, refuses=refuses)
                verdicts[verdict] += 1
                _say(
                    f"{verdict}  {row:24}{way:9}{time.monotonic() - began:6.1f} s",
                    *(f"      {fault}" for fault in faults),
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


def _rows_of(host: LocalHost) -> list[str]:
    """The rows that tiny_vm has, as it names them where it is called wrongly."""
    done = host.ssh.run([f"{HOST_PROGRAMS}/tiny_vm"], seconds=ROW)
    return done.stderr.decode(errors="replace").partition("rows:")[2].split()


def _refuses_registers(host: LocalHost) -> bool:
    """Whether KVM makes no registers private there: real mode has tables then that the VMM can write."""
    files = [f"/sys/module/kvm_intel/parameters/{name}" for name in PARAMETERS]
    return host.ssh.run(["cat", *files], seconds=ROW).text.split() == ["Y", "N"]


def _verdict(host: LocalHost, row: str, way: str, *, refuses: bool) -> tuple[str, list[str]]:
    """What becomes of a row, and what of it is not as it must be, in words."""
    try:
        done = host.ssh.run([f"{HOST_PROGRAMS}/tiny_vm", row, way], seconds=ROW)
    except (DeadlineError, MachineError) as error:
        return "FAIL", [str(error)]
    checks = [json.loads(line) for line in done.text.splitlines()]
    if refuses and any((check["name"], check["got"]) == (ASKED, REFUSED) for check in checks):
        return "SKIP", []
    faults = [
        f"{check['name']}: {check['got']}, not {check['expected']}"
        for check in checks
        if check["got"] != check["expected"]
    ]
    if done.status != 0 or not checks:
        faults.append(f"status {done.status}")
    return "FAIL" if faults else "PASS", faults


if __name__ == "__main__":
    end_with(main)
