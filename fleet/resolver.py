# SPDX-License-Identifier: GPL-2.0-or-later
"""Avocado's resolver of ``sealproof:`` references: what follows the colon are arguments of pytest.

``avocado run "sealproof:tests_e2e -k ptrace --mode plain"``
"""

from __future__ import annotations

from avocado.core.nrunner.runnable import Runnable
from avocado.core.plugin_interfaces import Resolver
from avocado.core.resolver import ReferenceResolution, ReferenceResolutionResult

from common.errors import SealproofError
from fleet.groups import Group, groups

KIND = "sealproof"
PREFIX = f"{KIND}:"


class SealproofResolver(Resolver):  # type: ignore[misc]  # Avocado has no types
    """From a reference to one Avocado test a group of claims."""

    name = KIND
    description = "Groups of claims of a sealproof sign-off"

    def resolve(self, reference: str) -> ReferenceResolution:
        """The groups; whatever is wrong comes as Avocado's own kind of answer."""
        if not reference.startswith(PREFIX):
            info = f'does not begin with "{PREFIX}"'
            return ReferenceResolution(reference, ReferenceResolutionResult.NOTFOUND, info=info)
        try:
            runnables = [runnable(group) for group in groups(reference.removeprefix(PREFIX))]
        except SealproofError as error:
            return ReferenceResolution(reference, ReferenceResolutionResult.CORRUPT, info=str(error))
        return ReferenceResolution(reference, ReferenceResolutionResult.SUCCESS, runnables)


def runnable(group: Group) -> Runnable:
    """A group as Avocado carries it to a machine."""
    return Runnable(KIND, group.name, *group.arguments)
