# SPDX-License-Identifier: GPL-2.0-or-later
"""Extra guests that several claims share: booted side by side, kept while they live, judged beside each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from common.errors import ChannelError
from common.waiting import Deadline
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import PLAIN, PROTECTED, GuestSpec
from signoff.observation import Check
from tests_e2e.support import extra as extra_module
from tests_e2e.support.extra import Among, Standing, beside, standing, works_at_once


class FakeGuest:
    def __init__(self, spec: GuestSpec) -> None:
        self.spec, self.vitals, self.protected = spec, Vitals(spec.name), spec.opts_in
        self.waited: list[int] = []
        self.qmp, self.asked = self, []  # type: ignore[var-annotated]

    def execute(self, command: str) -> None:
        self.asked.append(command)

    def wait_for_boot(self, number: int, _: Deadline) -> None:
        self.waited.append(number)


class FakeHost:
    """A host and its pool."""

    tier = "emulated"

    def __init__(self, *specs: GuestSpec) -> None:
        self.vitals, self.ssh, self.guest_specs = Vitals("the host"), self, specs
        self.guests = tuple(FakeGuest(spec) for spec in specs)
        self.guest, self.plain_guest = self.guests[0], self.guests[1] if len(specs) > 1 else None
        self.events: list[str] = []

    def run(self, argv: list[str], *, seconds: float) -> FakeHost:  # noqa: ARG002  as Ssh.run
        self.events.append(argv[-1])
        return self

    def require(self) -> None:
        pass

    @contextmanager
    def fresh(self) -> Iterator[FakeHost]:
        self.vitals = Vitals("the host")
        self.events.append("a host")
        yield self
        self.events.append("its end")

    @contextmanager
    def extra_guest(self, spec: GuestSpec) -> Iterator[FakeGuest]:
        self.events.append(spec.name)
        yield FakeGuest(spec)
        self.events.append(f"end of {spec.name}")


class FakeTrial:
    def __init__(self) -> None:
        self.given: list[Any] = []

    def legitimate(self, *args: Any, **kwargs: Any) -> None:
        self.given.append((args, kwargs))


@pytest.fixture(autouse=True)
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra_module, "look_and_watch", lambda _, guest, look, **__: look(guest))


@pytest.fixture
def host() -> Any:
    return FakeHost(PROTECTED, PLAIN)


def test_guest_beside_has_a_name_and_ports_of_its_own() -> None:
    spec = beside(PROTECTED)
    assert (spec.name, spec.ssh_port, spec.qmp_port) == ("another-protected", 2233, 4455)
    assert replace(spec, name="protected", ssh_port=2223, qmp_port=4445) == PROTECTED


def test_guests_of_a_shape_boot_side_by_side_on_a_host_of_their_own(host: Any) -> None:
    with standing(host, lambda spec: replace(spec, cpus=len(spec.name))) as guests:
        assert host.events[:2] == ["a host", "echo 1 > /proc/sys/vm/overcommit_memory"]
        assert host.events[2:] == ["another-protected", "another-plain"]
        assert [guest.asked for guest in host.guests] == [["stop"], ["stop"]], "the host's own are not needed"
        assert guests.guest.spec.cpus == len("another-protected"), "a shape may depend on the name"
        assert guests.plain_guest is guests.guests[1]
        assert [guest.waited for guest in guests.guests] == [[1], [1]]
    assert host.events[4:] == ["end of another-plain", "end of another-protected", "its end"]


@pytest.mark.parametrize("which", ["host", "guest"])
def test_standing_guests_serve_all_claims_until_one_is_lost(host: Any, which: str) -> None:
    standing = Standing(host, lambda spec: spec)
    assert host.events == []
    first = standing.guests()
    assert standing.guests() is first
    assert host.events.count("a host") == 1
    (host if which == "host" else first.guests[1]).vitals.note_loss("it died")
    assert standing.guests() is not first
    assert [event for event in host.events if "host" in event or "its end" in event] == ["a host", "its end", "a host"]
    standing.close()
    standing.close()
    assert host.events[-1] == "its end"
    assert host.events.count("its end") == 2


def test_both_guests_are_checked_at_once(host: Any) -> None:
    trial: Any = FakeTrial()
    both = threading.Barrier(2, timeout=10)

    def check(guest: Guest) -> list[Check]:
        both.wait()
        return [Check("name", guest.spec.name, guest.spec.name)]

    works_at_once(trial, host, check)
    result = tuple([Check("name", name, name)] for name in ("protected", "plain"))
    assert trial.given == [(result, {"protected": True})]


def test_check_that_fails_in_one_guest_is_told(host: Any) -> None:
    def check(guest: Guest) -> list[Check]:
        if guest.spec.opts_in:
            return []
        raise ChannelError("no answer")

    trial: Any = FakeTrial()
    with pytest.raises(ChannelError, match="no answer"):
        works_at_once(trial, host, check)
    assert trial.given == []


def test_lone_plain_guest_is_under_test(host: Any) -> None:  # noqa: ARG001
    lone: Any = FakeHost(PLAIN)
    trial: Any = FakeTrial()
    with standing(lone, lambda spec: spec) as guests:
        assert guests.plain_guest is None
        works_at_once(trial, guests, lambda _: [])
    assert trial.given == [(([],), {"protected": None})]
    assert Among(lone, lone.guests).guest is lone.guest
