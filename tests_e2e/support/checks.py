# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's check programs, and what they found as checks of a claim."""

from __future__ import annotations

from host_setup.hosts.guest import Guest
from signoff.observation import Check


def checks(guest: Guest, *argv: str) -> list[Check]:
    """Run a check program in the guest.

    :param argv: its name and arguments.
    :raises ChannelError: it could not do its work; that is no wrong result, but none at all.
    """
    return [Check(found["name"], _text(found["expected"]), _text(found["got"])) for found in guest.checks(*argv)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
