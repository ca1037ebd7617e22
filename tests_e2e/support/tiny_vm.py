# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the host's program ``tiny_vm``: a VM of our own, whose guest does one thing on pages of each kind."""

from __future__ import annotations

import json
from collections.abc import Sequence

from host_setup.hosts.base import Host
from host_setup.hosts.guest_spec import HOST_PROGRAMS, row_seconds
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.each import attempt, result_of
from tests_e2e.support.watch import host_kernel

PRIVATE_AND_SHARED = ("private", "shared")
# On the host's command line: KVM shadows the guests' page tables. Each vendor's part of KVM reads its own word.
SHADOW_PAGING = "kvm_amd.npt=0 kvm_intel.ept=0"


def tiny_vm_works(
    trial: Trial,
    host: Host,
    row: str,
    *more: str,
    on: Host | None = None,
    ways: Sequence[str] = PRIVATE_AND_SHARED,
    unsaid: str = "",
) -> None:
    """Have rows of tiny_vm judged: in a protected guest on private and on shared pages, and in a plain one as control.

    :param host: tells by its guests whether its kernel can protect.
    :param on: the host that the rows run on, if it is another. :param ways: of the protected guest's pages.
    :param unsaid: what the host's kernel may not say in its log; empty: it may say anything that is no complaint.
    """
    where = on or host
    since = len(where.kernel_log())
    rows = (row, *more)

    def log() -> list[Check]:
        logs = [host_kernel(where, since)]
        if unsaid:
            lines = [line for line in where.kernel_log()[since:].splitlines() if unsaid in line]
            logs.append(Check(f"lines of the host's log with {unsaid}", "0", str(len(lines))))
        return logs

    plain = [check for name in rows for check in run(where, name)]
    if host.plain_guest is None:
        trial.legitimate([*plain, *log()])
    else:
        tried = [(name, way) for name in rows for way in ways]
        subject = attempt(lambda: [check for name, way in tried for check in run(where, name, way)], in_time=True)
        trial.legitimate([*result_of(subject, f"pages that are {' or '.join(ways)}", [plain]), *log()], plain)


def run(host: Host, row: str, way: str = "plain") -> list[Check]:
    """Run a row once.

    :param way: ``plain``, ``private`` or ``shared``.
    """
    return parse(
        host.ssh.run([f"{HOST_PROGRAMS}/tiny_vm", row, way], seconds=row_seconds(row)).require().text, row, way
    )


def parse(text: str, row: str, way: str) -> list[Check]:
    """What a row has printed."""
    answers = [json.loads(line) for line in text.splitlines()]
    return [
        Check(f"{row}, {way}: {line['name']}", line["expected"] or "none", line["got"] or "none") for line in answers
    ]
