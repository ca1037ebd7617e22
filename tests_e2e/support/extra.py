# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: D102  what a method of Host does, the protocol says
"""Guests of other shapes than a host's own: on a pristine host one that is under test, and a plain one beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from common.waiting import Deadline
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host, Outside
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import PLAIN, PROTECTED, GuestSpec, beside
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.each import on_each_at_once, opted_in
from tests_e2e.support.watch import look_and_watch

BOOT = 240.0  # seconds that a boot may take on a slow, busy machine
Shape = Callable[[GuestSpec], GuestSpec]


class Among(Host):
    """A host, seen as that of some of its guests: the one under test first, then the plain one, if there is one.

    All else is the host's own.
    """

    def __init__(self, host: Host, guests: tuple[Guest, ...]) -> None:
        self.tier, self.vitals, self.guest_specs = host.tier, host.vitals, host.guest_specs
        self._host = host
        self._guests = guests

    @property
    def guests(self) -> tuple[Guest, ...]:
        """These guests."""
        return self._guests

    @property
    def guest(self) -> Guest:
        """The one under test."""
        return self._guests[0]

    @property
    def plain_guest(self) -> Guest | None:
        """The plain one beside it."""
        return self._guests[1] if len(self._guests) > 1 else None

    @property
    def ssh(self) -> Ssh:
        return self._host.ssh

    def log_in(self, seconds: float) -> Ssh:
        return self._host.log_in(seconds)

    @property
    def qemu(self) -> Outside | None:
        return self._host.qemu

    @property
    def all_guests(self) -> tuple[Guest, ...]:
        return self._host.all_guests

    @property
    def lost(self) -> str | None:
        return self._host.lost

    def extra_guest(self, spec: GuestSpec) -> AbstractContextManager[Guest]:
        return self._host.extra_guest(spec)

    def beats(self, who: str) -> int:
        return self._host.beats(who)

    def identity(self) -> dict[str, str]:
        return self._host.identity()

    def kernel_log(self) -> str:
        return self._host.kernel_log()

    def login_command(self, guest: GuestSpec | None = None) -> str:
        return self._host.login_command(guest)

    def sleep(self) -> None:
        self._host.sleep()

    def close(self) -> None:
        """Nothing: who started the host ends it."""


@contextlib.contextmanager
def standing(pool: HostPool, shape: Shape) -> Iterator[Among]:
    """Guests of a shape for several claims, booted side by side: one that opts in as the host's own, a plain one."""
    with pool.fresh() as host, contextlib.ExitStack() as ends:
        make_room(host)
        # Pause the host's own guests: unused here, and their timers cost time.
        for guest in host.guests:
            guest.qmp.execute("stop")
        guests = tuple(ends.enter_context(host.extra_guest(shape(beside(guest.spec)))) for guest in host.guests)
        on_each_at_once(guests, lambda guest: guest.wait_for_boot(1, Deadline(BOOT)), in_time=True)
        yield Among(host, guests)


class Standing:
    """Guests of a shape for all claims that ask for them, booted when the first one does.

    Where one of them or their host is lost, the next claim gets others.
    """

    def __init__(self, pool: HostPool, shape: Shape) -> None:
        self._pool = pool
        self._shape = shape
        self._ends = contextlib.ExitStack()
        self._among: Among | None = None

    def guests(self) -> Among:
        """The guests, both alive."""
        if self._among is not None and self._is_lost(self._among):
            self.close()
        if self._among is None:
            self._among = self._ends.enter_context(standing(self._pool, self._shape))
        return self._among

    def close(self) -> None:
        """End them, and their host."""
        self._among = None
        self._ends.close()

    def _is_lost(self, among: Among) -> bool:
        return among.vitals.reason is not None or any(guest.vitals.reason is not None for guest in among.guests)


def open_registers(spec: GuestSpec) -> GuestSpec:
    """A guest that keeps its memory private and not its registers: what QEMU sets there, its CPU goes on with.

    A kernel that knows nothing of private registers takes no notice of the word.
    """
    return replace(spec, cmdline=f"{spec.cmdline} kvm_protected_state=off".strip())


def make_room(host: Host) -> None:
    """Let the host overcommit memory: extra guests touch little of theirs."""
    host.ssh.run(["sh", "-c", "echo 1 > /proc/sys/vm/overcommit_memory"], seconds=20).require()


def works_at_once(trial: Trial, host: Host, check: Callable[[Guest], list[Check]]) -> None:
    """As ``works``, in both guests at the same time: for what takes long."""
    results = _watch_at_once(host, host.guests, check)
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def works_beside(
    trial: Trial,
    host: Host,
    pool: HostPool,
    shape: Shape,
    look: Callable[[Guest], list[Check]],
    prepare: Callable[[Host], object] = lambda _: None,
    *,
    refused: bool = False,
) -> None:
    """Have it judged whether what ``look`` finds is right in a guest of that shape, and in a plain one beside it.

    Both are watched from their start on.

    :param host: tells whether there is a guest to be protected. :param prepare: does it to the pristine host.
    :param refused: the guest asks for protection and must not get it.
    """
    specs = [PLAIN] if host.plain_guest is None else [PROTECTED, PLAIN]

    def whole_life(guest: Guest) -> list[Check]:
        guest.wait_for_boot(1, Deadline(BOOT))
        return look(guest)

    with pool.fresh() as fresh, contextlib.ExitStack() as stack:
        make_room(fresh)
        prepare(fresh)
        guests = [stack.enter_context(fresh.extra_guest(beside(shape(spec)))) for spec in specs]
        results = _watch_at_once(fresh, guests, whole_life, from_start=True)
        trial.legitimate(*results, protected=None if refused else opted_in(guests[0], results))


def _watch_at_once(
    host: Host, guests: Sequence[Guest], look: Callable[[Guest], list[Check]], *, from_start: bool = False
) -> list[list[Check]]:
    return on_each_at_once(guests, partial(look_and_watch, host, look=look, from_start=from_start), in_time=True)
