# SPDX-License-Identifier: GPL-2.0-or-later
"""Of whose fault it is that a row of tiny_vm does not end: the same row in a plain guest is the control."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import DeadlineError, HarmError
from signoff.observation import Check
from tests_e2e.support import tiny_vm

RIGHT = '{"name":"n","expected":"0","got":"0"}'


def host_where(way_that_hangs: str) -> Any:
    def run(words: list[str], *, seconds: float) -> SimpleNamespace:
        if words[-1] == way_that_hangs:
            raise DeadlineError(f"waited {seconds:g} s")
        return SimpleNamespace(require=lambda: SimpleNamespace(text=RIGHT))

    return SimpleNamespace(ssh=SimpleNamespace(run=run), kernel_log=lambda: "", plain_guest="plain")


@pytest.mark.parametrize(("hangs", "raised"), [("plain", DeadlineError), ("private", HarmError), ("shared", HarmError)])
def test_row_that_hangs_in_a_protected_guest_alone_is_the_kernels_fault(hangs: str, raised: type[Exception]) -> None:
    trial: Any = SimpleNamespace(legitimate=None)  # nothing is judged
    with pytest.raises(raised):
        tiny_vm.tiny_vm_works(trial, host_where(hangs), "row")


def test_rows_that_end_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_vm, "host_kernel", lambda *_: Check("complaints", "none", "none"))
    judged: list[Any] = []
    trial: Any = SimpleNamespace(legitimate=lambda subject, control: judged.extend((subject, control)))
    tiny_vm.tiny_vm_works(trial, host_where("none"), "row")
    subject, control = judged
    assert [check.name for check in subject] == ["row, private: n", "row, shared: n", "complaints"]
    assert [check.name for check in control] == ["row, plain: n"]
