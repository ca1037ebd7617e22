# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests' check programs, and what they found as checks of a claim."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.watch import look_and_watch


def works(trial: Trial, host: Host, check: Callable[[Guest], list[Check]]) -> None:
    """Have a path that must work judged: in the guest under test, and as its control in the plain guest beside it.

    Each guest is watched meanwhile.
    """
    results = on_each(host.guests, lambda guest: look_and_watch(host, guest, check), in_time=True)
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def checks(guest: Guest, *argv: str, cpu: int | None = None, seconds: float = 30) -> list[Check]:
    """Run a check program in the guest.

    :param argv: its name and arguments. :param cpu: the guest's processor that it must run on.
    :param seconds: until it must be done.
    :raises ChannelError: it could not do its work; that is no wrong result, but none at all.
    """
    answers = guest.checks(*argv, cpu=cpu, seconds=seconds)
    return [Check(check["name"], _text(check["expected"]), _text(check["got"])) for check in answers]


def well(guest: Guest, *, opted_in: bool | None = None) -> list[Check]:
    """Checks that the guest has the protection it should, a working clock, and intact shared pages.

    :param opted_in: whether the guest should be protected; None: as its spec asks.
    """
    expected = guest.spec.opts_in if opted_in is None else opted_in
    return [
        Check("opted in", str(expected).lower(), str(guest.protected).lower()),
        *checks(guest, "check_clock", "kvm-clock"),
        *checks(guest, "check_share", "16", "1"),
    ]


def seed() -> str:
    """A fresh seed for a check's pattern; it stands in the evidence."""
    return str(secrets.randbits(32))


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
