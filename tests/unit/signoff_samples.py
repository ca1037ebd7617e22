# SPDX-License-Identifier: GPL-2.0-or-later
"""Observations and claims for the tests of signoff."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from typing import Any

from common.ending import Ending
from signoff.contract import ProbeClaim
from signoff.observation import Aim, Canary, Observation, Page, State, where
from signoff.trial import Trial

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


def aim_at(page: Page, state: State, data: bytes, **changes: Any) -> Aim:
    """Where a page lies: each state has its own, plain ones in a guest of their own."""
    place = 1 + list(Page).index(page) + 16 * list(State).index(state)
    facts: dict[str, Any] = {
        "run": "a run",
        "host": "c0" * 16,
        "guest": "plain" if state is State.PLAIN else "protected",
        "gpa": place << 12,
        "hva": 0x7F0000000000 + (place << 12),
        "hpa": 0x100000000 + (place << 12),
        "mapping": (0x7F0000000000, 0x7F0010000000),
        "planted": 1000.0,
        "commitment": "",
    }
    aim = Aim(**{**facts, **changes})
    return dataclasses.replace(aim, commitment=Canary(data).commitment(*where(page, state, aim)))


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
        "aim": aim_at(page, State.PRIVATE, secret(list(Page).index(page))),
        "seen": 1001.0,
    }
    return observation(**{**facts, **changes})


def observation(**facts: Any) -> Observation:
    """An observation, and how its call ended in the same breath."""
    ending = {name: facts.pop(name) for name in ("returned", "errno", "signal", "si_code", "si_addr") if name in facts}
    return Observation(**facts, ending=Ending(**ending))


def change_in(before: Observation, **changes: Any) -> Observation:
    """An observation that is otherwise."""
    return observation(**{**dataclasses.asdict(before.ending), **_fields(before), **changes})


def _fields(observation: Observation) -> dict[str, Any]:
    fields = {field.name: getattr(observation, field.name) for field in dataclasses.fields(observation)}
    del fields["ending"]
    return fields


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
        "aim": aim_at(page, changes.get("state", State.PLAIN), data),
        "seen": 1001.0,
    }
    return observation(**{**facts, **changes})


SUBJECT = [refused(page) for page in Page]
PLAIN = [leaking(page) for page in Page]
SHARED = [leaking(page, seed=20 + place, state=State.SHARED) for place, page in enumerate(Page)]
CONTROL = [*PLAIN, *SHARED]


class Told:
    """A trial that puts down where each sample lies before it is judged, as a real probe's page is."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trial, name)

    def attack(self, *, subject: Sequence[Observation], control: Sequence[Observation] = ()) -> None:
        self.trial.attack(
            subject=[self._told(observation) for observation in subject],
            control=[self._told(observation) for observation in control],
        )

    def _told(self, observation: Observation) -> Observation:
        if observation.aim is None:
            return observation
        at = observation.aim
        aim = self.trial.aim(
            observation.canary,
            observation.page,
            observation.state,
            host=at.host,
            guest=at.guest,
            addresses=(at.gpa, at.hva, at.hpa),
            mapping=at.mapping,
        )
        flag = " kp" if observation.state is State.PRIVATE else ""
        protected = observation.state is not State.PLAIN
        pid = 103 if protected else 104
        reach = (
            f"guest {at.guest} holds it at guest-physical {at.gpa:#x}, before the probe and after",
            f"its QEMU (pid {pid}) has this page at {at.hva:#x}, host-physical {at.hpa:#x}",
            f"/proc/{pid}/smaps: {at.mapping[0]:x}-{at.mapping[1]:x} rw-p 0 00:00 0 ; VmFlags: rd wr{flag} ",
            f"KVM of the guest's protection: enabled: {int(protected)} private_pages: {4096 * protected}",
        )
        return dataclasses.replace(observation, aim=aim, seen=time.time(), reach=reach)
