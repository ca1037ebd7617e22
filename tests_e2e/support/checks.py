# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests' check programs, and what they found as checks of a claim."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.watch import watched


def works(claim: Trial, host: Host, check: Callable[[Guest], list[Check]]) -> None:
    """Have a path that must work judged: in the guest under test, and as its control in the plain guest beside it.

    Each guest is watched meanwhile.
    """
    subject = watched(host, host.guest, check)
    if host.plain_guest is None:
        claim.legitimate(subject)
    else:
        control = watched(host, host.plain_guest, check)
        claim.legitimate(subject, control, protected=host.guest.protected)


def checks(guest: Guest, *argv: str, seconds: float = 30) -> list[Check]:
    """Run a check program in the guest.

    :param argv: its name and arguments. :param seconds: that it may take.
    :raises ChannelError: it could not do its work; that is no wrong result, but none at all.
    """
    return [
        Check(found["name"], _text(found["expected"]), _text(found["got"]))
        for found in guest.checks(*argv, seconds=seconds)
    ]


def seed() -> str:
    """A fresh seed for a check's pattern; it stands in the evidence."""
    return str(secrets.randbits(32))


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
