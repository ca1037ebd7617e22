# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes that make a call write to the start of a page, and know what it writes there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet
from tests_e2e.support.attack import Answer, Target

Call = Callable[[int], Done]
"""Makes the call, with the address to write to."""


def as_into_own_memory(qemu: Puppet, page: Target, size: int, call: Call) -> Answer:
    """A call that always writes the same: what that is, it shows in memory of QEMU's own first."""
    own = qemu.memory(size)
    call(own).require("the same into own memory")
    return Answer(call(page.hva), wrote=qemu.read(own, size))


def as_found(qemu: Puppet, page: Target, size: int, call: Call) -> Answer:
    """A call that never writes the same: what it wrote is what QEMU then has there; the guest must see the same."""
    done = call(page.hva)
    wrote = bytes(size)
    if done.errno is None:
        with suppress(ChannelError):
            wrote = qemu.read(page.hva, size)
    return Answer(done, wrote=wrote)
