# SPDX-License-Identifier: GPL-2.0-or-later
"""A round of the stress: what makes it fail; host and guests are fakes here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import MachineError
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest_spec import PLAIN, PROTECTED
from host_setup.tools import stress as module
from tests.unit.machine_samples import FakeSsh


class FakeGuest:
    """A guest whose host says how many pages are out of the direct map, one number after the other."""

    def __init__(self, spec: Any, *, protected: bool, out: tuple[int, ...] = (), work: str = "2 rounds") -> None:
        self.spec, self.protected, self.pid = spec, protected, 77
        self._out, self._work = list(out), work
        self.memory = self

    def checks(self, *_: str, seconds: float) -> list[dict[str, str]]:
        assert seconds > 0
        return [{"name": "content", "expected": "2 rounds", "got": self._work}]

    def protection(self) -> str:
        pages = self._out.pop(0) if len(self._out) > 1 else self._out[0]
        return f"enabled: 0\nhost_pages_out_of_direct_map: {pages}\n"


def host(*guests: FakeGuest, log: str = "all is well\n") -> Any:
    return SimpleNamespace(
        guests=list(guests),
        vitals=Vitals("the host"),
        ssh=FakeSsh(kill="", dmesg="[    1.0] quiet\n"),
        kernel_log=lambda: log,
    )


def victim(**how: Any) -> FakeGuest:
    return FakeGuest(PROTECTED, protected=True, **how)


def witness(*out: int) -> FakeGuest:
    return FakeGuest(PLAIN, protected=False, out=out)


def test_round_that_gives_all_memory_back_is_well() -> None:
    machine = host(victim(), witness(13000, 0))
    module.stress(machine, 2)
    assert machine.ssh.ran[0] == "kill -KILL 77"


@pytest.mark.parametrize(
    ("guests", "why"),
    [
        ((witness(0),), "nothing to stress"),
        ((FakeGuest(PROTECTED, protected=False), witness(0)), "nothing to stress"),
        ((victim(work="1 rounds"), witness(5, 0)), "lost its content"),
        ((victim(), witness(0)), "no page is out of the direct map"),
    ],
)
def test_round_that_shows_nothing_or_a_wrong_page_fails(guests: tuple[FakeGuest, ...], why: str) -> None:
    with pytest.raises(MachineError, match=why):
        module.stress(host(*guests), 2)


def test_memory_that_stays_out_fails_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEARDOWN", 0.01)
    with pytest.raises(Exception, match="5 pages are still out"):
        module.stress(host(victim(), witness(5)), 2)


def test_complaint_of_the_kernel_fails_the_round() -> None:
    with pytest.raises(MachineError, match="BUG: sleeping"):
        module.stress(host(victim(), witness(5, 0), log="[    2.0] BUG: sleeping function called\n"), 2)


def test_host_that_does_not_tell_is_an_error() -> None:
    silent = witness(1)
    silent.protection = lambda: ""  # type: ignore[method-assign]
    with pytest.raises(MachineError, match="does not report"):
        module.out_of_direct_map(silent)


def test_shares_that_are_not_all_taken_back_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        module.main(["--shares", "3"])
    assert "--shares is an even number" in capsys.readouterr().err
