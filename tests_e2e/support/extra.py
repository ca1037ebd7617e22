# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests of other shapes than a host's own: on a pristine host one that is under test, and a plain one beside it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from common.errors import MachineLostError
from common.waiting import Deadline
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest, GuestSpec
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.checks import works

BOOT = 240.0  # seconds that a boot may take on a slow, busy machine
PORTS = 10  # the extra guests' are so much higher
Shape = Callable[[GuestSpec], GuestSpec]


class Among:
    """A host, seen as that of some of its guests: the one under test first, then the plain one, if there is one."""

    def __init__(self, host: Host, guests: tuple[Guest, ...]) -> None:
        self.guests = guests
        self._host = host

    @property
    def guest(self) -> Guest:
        """The one under test."""
        return self.guests[0]

    @property
    def plain_guest(self) -> Guest | None:
        """The plain one beside it."""
        return self.guests[1] if len(self.guests) > 1 else None

    def __getattr__(self, name: str) -> Any:
        """All else is the host's."""
        return getattr(self._host, name)

    def close(self) -> None:
        """Nothing: who started the host ends it."""


class Extras:
    """A pristine host, and extra guests on it that several claims share; made when first asked for."""

    def __init__(self, pool: HostPool) -> None:
        self._pool = pool
        self._ends = contextlib.ExitStack()
        self._host: Host | None = None
        self._kept: dict[str, tuple[Among, contextlib.ExitStack]] = {}

    @property
    def host(self) -> Host:
        """The host. A lost one is replaced."""
        if self._host is not None and self._host.vitals.reason is not None:
            self.close()
        if self._host is None:
            self._host = self._ends.enter_context(self._pool.fresh())
            # These guests use little of their memory, and the host has not much more than one of them may have.
            self._host.ssh.run(["sh", "-c", "echo 1 > /proc/sys/vm/overcommit_memory"], seconds=20).require()
            # Nobody needs its own guests, whose clocks tick.
            for guest in self._host.guests:
                guest.qmp.execute("stop")
        return self._host

    def kept(self, shape: Shape, name: str, number: int) -> Among:
        """Guests of a shape that stay for the claims to come; booted anew if one of them was lost.

        :param number: of their ports; other than that of all others that are there at the time.
        """
        host = self.host
        if name in self._kept:
            guests, ends = self._kept[name]
            if all(guest.vitals.reason is None for guest in guests.guests):
                return guests
            ends.close()
        ends = self._ends.enter_context(contextlib.ExitStack())
        try:
            guests = ends.enter_context(booted(host, shape, name=name, number=number))
        except MachineLostError as error:  # as with a host's first boot: the emulation loses a guest now and then
            warnings.warn(f"the guests '{name}' did not boot, which is tried again: {error}", stacklevel=2)
            guests = ends.enter_context(booted(self.host, shape, name=name, number=number))
        self._kept[name] = guests, ends
        return guests

    def close(self) -> None:
        """End all."""
        self._kept.clear()
        self._host = None
        self._ends.close()


@contextlib.contextmanager
def booted(host: Host, shape: Shape, *, name: str = "another", number: int = 1) -> Iterator[Among]:
    """Guests of a shape, one that opts in where the host's own does and a plain one, booted side by side."""
    with contextlib.ExitStack() as ends:
        specs = [shape(beside(guest.spec, name, number)) for guest in host.guests]
        guests = tuple(ends.enter_context(host.extra_guest(spec)) for spec in specs)
        for guest in guests:
            guest.wait_for_boot(1, Deadline(BOOT))
        yield Among(host, guests)


def beside(spec: GuestSpec, name: str = "another", number: int = 1) -> GuestSpec:
    """The same for one more guest: with a name and ports of its own."""
    ports = {"ssh_port": spec.ssh_port + PORTS * number, "qmp_port": spec.qmp_port + PORTS * number}
    return replace(spec, name=f"{name}-{spec.name}", **ports)


def works_at_once(claim: Trial, host: Host, check: Callable[[Guest], list[Check]]) -> None:
    """As ``works``, in both guests at the same time: for what takes long."""
    running: dict[str, Future[list[Check]]] = {}
    with ThreadPoolExecutor(len(host.guests)) as side_by_side:

        def found(guest: Guest) -> list[Check]:
            if not running:
                running.update({one.spec.name: side_by_side.submit(check, one) for one in host.guests})
            return running[guest.spec.name].result()

        works(claim, host, found)


def works_unprotected(claim: Trial, host: Host, check: Callable[[Guest], list[Check]]) -> None:
    """As ``works_at_once``, where not even the guest that asks for protection is to get it."""
    with ThreadPoolExecutor(len(host.guests)) as side_by_side:
        claim.legitimate(*side_by_side.map(check, host.guests))
