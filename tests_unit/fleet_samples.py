# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of a sign-off, as machines deliver them, for the tests of merging."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from common.paths import PROJECT
from signoff.contract import Contract, Mode
from signoff.evidence import Evidence
from signoff.observation import Check
from signoff.record import Kernel, Patch, Record, Tier
from signoff.report import write
from signoff.results import kept, kept_check, unreached
from signoff.verdict import Status
from tests_unit.signoff_samples import CONTROL, SUBJECT

HEALTH = ("host_kernel_stays_healthy", "guest_does_not_stall")


def _few() -> str:
    """The real contract's first claims and those about health: the whole would take the tests minutes."""
    head, *claims = (PROJECT / "tests_e2e" / "contract.toml").read_text(encoding="utf-8").split("[[claim]]")
    health = [text for text in claims if any(f'id = "{name}"' in text for name in HEALTH)]
    return "[[claim]]".join([head, *claims[:4], *health])


CONTRACT = _few()
CLAIMS = Contract.model_validate(tomllib.loads(CONTRACT)).claims
WELL = dict.fromkeys(HEALTH, Status.PASS)
FIRST, SECOND, THIRD = (claim.id for claim in CLAIMS[:3])
KERNEL = Kernel("6.12.117", "ab" * 20, "linux-source-6.12", "cd" * 32, (Patch("0001-x.patch", "ef" * 32),))


def part(reports: Path, number: int, machine: str, verdicts: dict[str, Status], **changes: Any) -> Path:
    """A run's folder that came to its end, unless ``changes`` of its record say otherwise.

    :param verdicts: of the claims that it tried; all others are MISS, as they are in a run of some files.
    """
    record = Record(
        run=f"20261122T205632Z-{number:06x}",
        started="2026-11-22T20:56:32Z",
        ended="2026-11-22T20:58:01Z",
        mode=Mode.PROTECTED,
        command="pytest tests_e2e/attacks/test_it.py",
        commit="0" * 40,
        tier=Tier.EMULATED,
        series="a-series",
        kernel=KERNEL,
        host={"processor": "AuthenticAMD", "started": "restored"},
        machine=machine,
    )
    record = dataclasses.replace(record, **changes)
    reports.mkdir(parents=True, exist_ok=True)
    contract = reports / "contract.toml"
    contract.write_text(CONTRACT, encoding="utf-8")
    evidence = Evidence.create(reports, record.run, contract)
    for claim in CLAIMS:
        if claim.id in verdicts:
            evidence.append(_tried(evidence, claim, verdicts[claim.id], machine))
        elif record.ended:
            evidence.append(unreached(claim, record.mode, "", Status.MISS, "not run: not among those asked for"))
    evidence.write_record(record)
    write(evidence.folder)
    return evidence.folder


def _tried(evidence: Evidence, claim: Any, status: Status, machine: str) -> Any:
    bare = unreached(claim, Mode.PROTECTED, "A sentence.", status, f"{status} on {machine}")
    return dataclasses.replace(
        bare,
        control="read",
        shared="read",
        runs=tuple([kept("subject", one) for one in SUBJECT] + [kept("control", one) for one in CONTROL]),
        checks=(kept_check("subject", Check("sum", "4", "4")),),
        seconds=1.5,
        command=f"pytest -k {claim.id}",
        evidence=(evidence.attach(claim.id, "console.log", f"of {machine}\n"),),
    )
