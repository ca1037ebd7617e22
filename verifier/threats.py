# SPDX-License-Identifier: GPL-2.0-or-later
"""The page's table of threats: the lines of the RFC "KVM protected memory extension", and which claims are about each.

A line says which classes of claims are about it, which claims by name, and what it leaves out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from verifier.contract import PAGES, Claim
from verifier.run import Run

_WORST_FIRST = ("FAIL", "ERROR", "MISS", "SKIP", "PASS")


class Threat(NamedTuple):
    """A line.

    :ivar writes: of the claims of the classes, only those that try to write.
    """

    words: str
    classes: tuple[str, ...] = ()
    names: str = ""
    writes: bool = False
    note: str = ""


PARTS: dict[str, tuple[Threat, ...]] = {
    "Mitigated": (
        Threat(
            "Host kernel “accidental” access to guest data (think speculation)",
            ("kernel-address",),
            note="No speculative load is tried: the page tables are walked, as what none maps has no address to load "
            "from.",
        ),
        Threat(
            "Host kernel induced access to guest data (write(fd, &guest_data_ptr, len))",
            ("kernel-user-copy", "kernel-gup"),
        ),
        Threat("Host userspace access to guest data (compromised QEMU)", ("host-user", "kvm")),
        Threat(
            "Guest privilege escalation via compromised QEMU device emulation",
            ("host-user", "kernel-user-copy", "kernel-gup", "kvm"),
            r"^qemu_cannot_(set|have|step|interrupt|start)_",
            writes=True,
            note="Claims that a page or a register of the guest is not changed. They stand in the lines above as well.",
        ),
    ),
    "Not mitigated": (
        Threat(
            "Full host kernel compromise, and hardware attacks",
            ("compromise",),
            note="The host's kernel can map the pages again; a device without an IOMMU reads them.",
        ),
    ),
    "Open issues": (
        Threat(
            "Touching the direct mapping leads to fragmentation",
            names=r"^(direct_map_of_the_host|sharing_every_second_page_splits)_",
            note="Speed is not measured here: make bench ARGS='--protection' does.",
        ),
        Threat(
            "Page migration, KSM and swap are not supported",
            ("memory-management",),
            note="By the series' design private pages are neither moved, merged nor swapped.",
        ),
        Threat(
            "The feature interferes with NUMA balancing",
            names=r"numa",
            note="A kernel of --layers numa has it on during every claim.",
        ),
        Threat("Reboot and kexec", names=r"_(reset|reboots|kexec)$"),
        Threat("Live migration of a guest needs a new flow", names=r"^guest_is_(saved|migrated)_"),
        Threat("A guest cannot ask its host whether a page is unmapped"),
    ),
}


@dataclass(frozen=True, slots=True)
class Line:
    """A threat and what the run says of it.

    :ivar claims: those about it. :ivar status: the worst of them; empty: there is none. :ivar weakest: those that have
        it, if it is not PASS. :ivar narrow: how many are tried on fewer kinds of page than there are.
    :ivar open: boundaries that are shown to be open.
    """

    threat: Threat
    claims: list[Claim]
    status: str
    weakest: list[str]
    narrow: int
    open: list[str]

    @property
    def sections(self) -> dict[tuple[str, str], int]:
        """Kinds and classes of its claims, and how many each has."""
        places = [(claim.kind, claim.threat) for claim in self.claims]
        return {place: places.count(place) for place in places}


def lines(run: Run) -> dict[str, list[Line]]:
    """The table, part by part."""
    return {part: [_line(run, threat) for threat in threats] for part, threats in PARTS.items()}


def _line(run: Run, threat: Threat) -> Line:
    every = list(run.claims.values())
    boundaries = [
        claim for claim in every if claim.kind == "boundary" and not threat.writes and _names_claim(threat, claim)
    ]
    about = [claim for claim in every if _about(threat, claim)] or boundaries
    statuses = {claim.id: run.status[claim.id] for claim in about}
    worst = min(statuses.values(), key=_WORST_FIRST.index, default="")
    return Line(
        threat,
        about,
        worst,
        [name for name, status in statuses.items() if status == worst != "PASS"],
        sum(claim.probe and len(claim.pages) < len(PAGES) for claim in about),
        [claim.id for claim in boundaries if run.status[claim.id] == "PASS"],
    )


def _names_claim(threat: Threat, claim: Claim) -> bool:
    return claim.threat in threat.classes or bool(threat.names and re.search(threat.names, claim.id))


def _about(threat: Threat, claim: Claim) -> bool:
    if claim.kind == "boundary":
        return False
    if threat.names and re.search(threat.names, claim.id):
        return True
    if claim.threat not in threat.classes or claim.kind not in ("attack", "oracle"):
        return False
    return not threat.writes or (claim.probe and claim.by_state["plain"].page_after == "overwritten")
