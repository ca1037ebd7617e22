# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be done to a host from outside, which only a host that runs in a QEMU allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import UserInputError
from host_setup.channels.qmp import Qmp
from host_setup.hosts.base import Host


def outside(host: Host) -> Qmp:
    """QMP of the QEMU that a host runs in.

    :raises UserInputError: a real machine has none, nor has Bochs: such a claim must be SKIP there.
    """
    if host.qemu is None:
        raise UserInputError(
            "nothing outside of a real machine or of Bochs's can read its memory, or plug a device into it, on command",
            stage="claim",
            hint="state in the claim's entry of the contract: skip = { when = ['real-machine', 'by-bochs'] }",
        )
    return host.qemu.qmp


@contextmanager
def standing_still(host: Host) -> Iterator[None]:
    """Have a host stand still: what is seen of it then is of one moment."""
    qmp = outside(host)
    qmp.execute("stop")
    try:
        yield
    finally:
        qmp.execute("cont")
