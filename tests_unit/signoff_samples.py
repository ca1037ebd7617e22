# SPDX-License-Identifier: GPL-2.0-or-later
"""Observations and claims for the tests of signoff."""

from __future__ import annotations

import random
from typing import Any

from signoff.contract import ProbeClaim
from signoff.observation import Canary, Observation, Page, State

READ = {"returned": 4096, "leak": "page"}
REFUSED = {"returned": -1, "errno": "EFAULT", "leak": "none"}


def secret(seed: int) -> bytes:
    """Random bytes that the tests, unlike anybody else, can make again."""
    return random.Random(seed).randbytes(4096)


def probe(**changes: Any) -> ProbeClaim:
    """An attack: read a page, EFAULT when it is private."""
    table = {
        "id": "host_cannot_read",
        "kind": "attack",
        "class": "kernel-gup",
        "source": "somewhere",
        "reason": "because",
        "plain": READ,
        "protected": REFUSED,
    }
    if set(changes.get("pages", Page)) != set(Page):
        table["narrowed"] = "for a test"
    return ProbeClaim.model_validate({**table, **changes})


def refused(page: Page, **changes: Any) -> Observation:
    """A probe of a private page that ended as contracted."""
    facts: dict[str, Any] = {
        "page": page,
        "state": State.PRIVATE,
        "call": "process_vm_readv",
        "canary": Canary(secret(list(Page).index(page))),
        "reach": ("gpa 0x1000", "hva 0x7f0000001000"),
        "returned": -1,
        "errno": "EFAULT",
    }
    return Observation(**{**facts, **changes})


def leaking(page: Page, *, seed: int | None = None, **changes: Any) -> Observation:
    """A probe of a plain page that read all of it."""
    data = secret(list(Page).index(page) + 10 if seed is None else seed)
    facts: dict[str, Any] = {
        "page": page,
        "state": State.PLAIN,
        "call": "process_vm_readv",
        "canary": Canary(data),
        "reach": ("gpa 0x1000", "hva 0x7f0000001000"),
        "returned": 4096,
        "data": data,
    }
    return Observation(**{**facts, **changes})


SUBJECT = [refused(page) for page in Page]
PLAIN = [leaking(page) for page in Page]
SHARED = [leaking(page, seed=20 + place, state=State.SHARED) for place, page in enumerate(Page)]
CONTROL = [*PLAIN, *SHARED]
