# SPDX-License-Identifier: GPL-2.0-or-later
"""The threat model of the RFC "KVM protected memory extension" (second version, October 2020), held against the claims.

Its parts are the RFC's: what it mitigates, what it does not mitigate, and the issues that it leaves open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from signoff.contract import Class, Kind, ProbeClaim
from signoff.observation import After, Page, State
from signoff.report.data import Report
from signoff.results import Row
from signoff.verdict import Status

_WORST_FIRST = (Status.FAIL, Status.ERROR, Status.MISS, Status.SKIP, Status.PASS)
_ABOUT = (Kind.ATTACK, Kind.ORACLE)
MITIGATED, NOT_MITIGATED, OPEN = "Mitigated", "Not mitigated", "Open issues"


@dataclass(frozen=True, slots=True)
class Threat:
    """A line of the threat model.

    :ivar words: the RFC's. :ivar classes: whose claims are about it. :ivar names: a pattern for more claims' ids.
    :ivar writes: of these claims, only those that try to write. :ivar note: what the claims leave out, or go by.
    """

    part: str
    words: str
    classes: tuple[Class, ...] = ()
    names: str = ""
    writes: bool = False
    note: str = ""


_THREATS = (
    Threat(
        MITIGATED,
        "Host kernel “accidental” access to guest data (think speculation)",
        (Class.KERNEL_ADDRESS,),
        note="No speculative load is tried: the page tables are walked, as what none maps has no address to load from.",
    ),
    Threat(
        MITIGATED,
        "Host kernel induced access to guest data (write(fd, &guest_data_ptr, len))",
        (Class.KERNEL_USER_COPY, Class.KERNEL_GUP),
    ),
    Threat(MITIGATED, "Host userspace access to guest data (compromised QEMU)", (Class.HOST_USER, Class.KVM)),
    Threat(
        MITIGATED,
        "Guest privilege escalation via compromised QEMU device emulation",
        (Class.HOST_USER, Class.KERNEL_USER_COPY, Class.KERNEL_GUP, Class.KVM),
        names=r"^qemu_cannot_(set|have|step|interrupt|start)_",
        writes=True,
        note="Claims that a page or a register of the guest is not changed. They stand in the lines above as well.",
    ),
    Threat(
        NOT_MITIGATED,
        "Full host kernel compromise, and hardware attacks",
        (Class.COMPROMISE,),
        note="The host's kernel can map the pages again; a device without an IOMMU reads them.",
    ),
    Threat(
        OPEN,
        "Touching the direct mapping leads to fragmentation",
        names=r"^(direct_map_of_the_host|sharing_every_second_page_splits)_",
        note="Speed is not measured here: make bench ARGS='--protection' does.",
    ),
    Threat(
        OPEN,
        "Page migration, KSM and swap are not supported",
        (Class.MEMORY_MANAGEMENT,),
        note="By the series' design private pages are neither moved, merged nor swapped.",
    ),
    Threat(
        OPEN,
        "The feature interferes with NUMA balancing",
        names=r"numa",
        note="A kernel of --layers numa has it on during every claim.",
    ),
    Threat(OPEN, "Reboot and kexec", names=r"_(reset|reboots|kexec)$"),
    Threat(OPEN, "Live migration of a guest needs a new flow", names=r"^guest_is_(saved|migrated)_"),
    Threat(OPEN, "A guest cannot ask its host whether a page is unmapped"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A threat and what the run says of it.

    :ivar rows: the claims about it. :ivar status: the worst of them; None: there is none. :ivar weakest: those that
        have it, if it is not PASS. :ivar narrow: how many are tried on fewer kinds of page than there are.
    :ivar open: boundaries that the run has shown to be open.
    """

    threat: Threat
    rows: tuple[Row, ...]
    status: Status | None
    weakest: tuple[Row, ...]
    narrow: int
    open: tuple[Row, ...]

    @property
    def sections(self) -> list[tuple[Kind, Class, int]]:
        """Where its claims stand on the page: kind, class and how many."""
        places = [(row.claim.kind, row.claim.threat) for row in self.rows]
        return [(kind, threat, places.count((kind, threat))) for kind, threat in dict.fromkeys(places)]


def threats(report: Report) -> list[tuple[str, list[Line]]]:
    """The threat model, part by part."""
    lines = [_line(threat, report.rows) for threat in _THREATS]
    return [(part, [line for line in lines if line.threat.part == part]) for part in (MITIGATED, NOT_MITIGATED, OPEN)]


def _line(threat: Threat, rows: Sequence[Row]) -> Line:
    about = tuple(row for row in rows if _is_about(threat, row))
    boundaries = _boundaries(threat, rows)
    judged = about or boundaries
    status = min((row.result.status for row in judged), key=_WORST_FIRST.index, default=None)
    return Line(
        threat,
        rows=judged,
        status=status,
        weakest=tuple(row for row in judged if row.result.status is status and status is not Status.PASS),
        narrow=sum(isinstance(row.claim, ProbeClaim) and len(row.claim.pages) < len(Page) for row in judged),
        open=tuple(row for row in boundaries if row.result.status is Status.PASS),
    )


def _is_about(threat: Threat, row: Row) -> bool:
    claim = row.claim
    if threat.names and re.search(threat.names, claim.id) and claim.kind is not Kind.BOUNDARY:
        return True
    if claim.threat not in threat.classes or claim.kind not in _ABOUT:
        return False
    return not threat.writes or (isinstance(claim, ProbeClaim) and _writes(claim))


def _writes(claim: ProbeClaim) -> bool:
    return claim.outcome(State.PLAIN).page_after is After.OVERWRITTEN


def _boundaries(threat: Threat, rows: Iterable[Row]) -> tuple[Row, ...]:
    if threat.writes:
        return ()
    return tuple(
        row
        for row in rows
        if row.claim.kind is Kind.BOUNDARY
        and (row.claim.threat in threat.classes or (threat.names and re.search(threat.names, row.claim.id)))
    )
