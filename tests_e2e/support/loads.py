# SPDX-License-Identifier: GPL-2.0-or-later
"""The plainest look at a page: a process copies it, by a load of its own, to memory of its own."""

from __future__ import annotations

from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Got

REP_MOVSB = bytes.fromhex("f3a4")  # copies rcx bytes from [rsi] to [rdi]


def load(who: Puppet, address: int) -> Got:
    """Copy the page at an address of ``who``; a load returns nothing, its data speaks."""
    buffer = who.memory(PAGE_SIZE)
    done = who.run(REP_MOVSB, rsi=address, rdi=buffer, rcx=PAGE_SIZE)
    return Got(done.as_a_load(), who.read(buffer, PAGE_SIZE))
