# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at a CPU while the guest's program has its canary in registers, with the guest played."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import DeadlineError
from signoff.observation import Check
from tests_e2e.support import nested, registers
from tests_e2e.support.kvm import SPARE
from tests_e2e.support.registers import GENERAL, change_checks, look_checks


class FakeGuest:
    """A guest whose program is at work for so many questions, and finds its registers kept or not."""

    def __init__(self, state: str, *, kept: bool = True, at_work: bool = True) -> None:
        self.content, self.state, self.kept, self.at_work = os.urandom(4096), state, kept, at_work
        self.canaries = self

    @contextmanager
    def holding(self, _: object, *, seconds: float) -> Iterator[Future[dict[str, Any]]]:  # noqa: ARG002  as Guest's
        answer: Future[dict[str, Any]] = Future()
        if not self.at_work:
            answer.set_result({"kept": self.kept})
        yield answer
        if not answer.done():
            answer.set_result({"kept": self.kept})


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> None:
    def user_canary(guest: FakeGuest) -> SimpleNamespace:
        return SimpleNamespace(planted=SimpleNamespace(content=guest.content, state=guest.state))

    monkeypatch.setattr(registers, "user_canary", user_canary)
    monkeypatch.setattr(registers, "PAUSE", 0.0)


def right(checks: list[Check]) -> list[bool]:
    return [check.right for check in checks]


@pytest.mark.parametrize(
    ("state", "tells", "verdicts"),
    [
        ("private", False, [True, True]),
        ("private", True, [False, True]),
        ("plain", True, [True, True]),
        ("plain", False, [False, True]),
    ],
)
def test_private_registers_must_not_be_told_and_plain_ones_must(
    state: str, *, tells: bool, verdicts: list[bool]
) -> None:
    guest = FakeGuest(state)
    looks: list[int] = []

    def look(_: Any) -> bytes:
        looks.append(1)
        return guest.content[GENERAL] if tells else bytes(64)

    assert right(look_checks(guest, look, GENERAL)) == verdicts
    assert len(looks) == (1 if tells else registers.LOOKS if state == "private" else registers.SEARCH)


def test_a_look_that_leaves_the_registers_changed_is_not_right() -> None:
    assert right(look_checks(FakeGuest("private", kept=False), lambda _: b"", GENERAL)) == [True, False]


@pytest.mark.parametrize(
    ("state", "kept", "verdict"),
    [("private", True, True), ("private", False, False), ("plain", False, True), ("plain", True, False)],
)
def test_private_registers_must_stay_and_plain_ones_must_change(state: str, *, kept: bool, verdict: bool) -> None:
    assert right(change_checks(FakeGuest(state, kept=kept), lambda _, __: True)) == [verdict]


def test_a_program_that_was_never_seen_at_work_proves_nothing() -> None:
    idle = FakeGuest("private", at_work=False)
    with pytest.raises(DeadlineError, match="never seen at work"):
        look_checks(idle, lambda _: b"", GENERAL)
    with pytest.raises(DeadlineError, match="never seen at work"):
        change_checks(idle, lambda _, __: True)


def test_a_hypervisors_page_has_its_code_its_guests_and_a_directory_that_maps_it() -> None:
    page = nested.code_page(nested.HYPERVISOR)
    assert page.startswith(nested.HYPERVISOR)
    assert len(page) == 4096
    (entry,) = struct.unpack_from("<I", page, SPARE >> 22 << 2)
    assert entry & ~0x3FFFFF == SPARE & ~0x3FFFFF


def test_a_control_block_bears_its_mark_and_what_a_processor_insists_on() -> None:
    block = nested.guest_block(0x1122334455667788, 0x5566)
    assert struct.unpack_from("<Q", block, 0x50) == (0x1122334455667788,)
    assert struct.unpack_from("<Q", block, nested.RAX_AT) == (0x5566,)
    assert struct.unpack_from("<I", block, 0x10)[0] & 1  # VMRUN is intercepted
    assert struct.unpack_from("<I", block, 0x58)[0] > 0  # an address space
    assert struct.unpack_from("<Q", block, 0x4D0)[0] & nested.EFER_SVME
