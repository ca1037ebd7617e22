# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of a sign-off, as machines deliver them, for the tests of merging."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.paths import PROJECT
from signoff.contract import CLAIM
from signoff.verdict import Status
from tests.unit.report_samples import KERNEL, Change, Story

KEY = Ed25519PrivateKey.generate()
HEALTH = ("host_kernel_stays_healthy", "guest_does_not_stall")


def _few() -> str:
    """Four attacks of the real contract, which may be SKIP, and its claims about health: all would take minutes."""
    return "version = 2\n" + "".join(
        f"[[claim]]\n{head}{words}{text}"
        for name, head, words in (
            ("attack-kernel-gup", 'kind = "attack"\nclass = "kernel-gup"\n', 'skip = { when = "no-vfio" }'),
            ("health-health", 'kind = "health"\nclass = "health"\n', ""),
        )
        for text in (PROJECT / f"tests_e2e/contract/{name}.toml").read_text(encoding="utf-8").split("[[claim]]")[1:5]
    )


CONTRACT = _few()
CLAIMS = [CLAIM.validate_python(entry) for entry in tomllib.loads(CONTRACT)["claim"]]
WELL = dict.fromkeys(HEALTH, Status.PASS)
FIRST, SECOND, THIRD = (claim.id for claim in CLAIMS[:3])


def part(
    reports: Path,
    number: int,
    machine: str,
    verdicts: dict[str, Status],
    *,
    key: Ed25519PrivateKey = KEY,
    change: Change = lambda _claim, _role, facts: facts,
    **changes: Any,
) -> Path:
    """A run's folder that came to its end, unless ``changes`` of its record say otherwise.

    :param verdicts: of the claims that it tried; all others are MISS, as they are in a run of some files.
    :param key: of who signed it. :param change: of what is observed.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    facts = {
        "command": "pytest tests_e2e/attacks/test_it.py",
        "kernel": KERNEL,
        "host": {"processor": "AuthenticAMD, QEMU", "started": "restored", "devices": "kvm"},
        "machine": machine,
    }
    story = Story(
        reports,
        contract=CONTRACT,
        run=f"{moment}-{number:06x}",
        statuses=verdicts,
        change=change,
        **{**facts, **changes},
    )
    for claim in CLAIMS:
        if claim.id in verdicts:
            story.add(claim)
        elif story.record.ended:
            story.miss(claim)
    return story.end(key)
