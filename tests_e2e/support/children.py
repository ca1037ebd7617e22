# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that QEMU makes, by fork or sharing its memory."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from host_setup.channels.puppets import WAIT_ALL, Puppet, Puppeteer

CLONE_VM = 0x100  # linux/sched.h


@contextmanager
def child_of(parent: Puppet, children: Puppeteer, flags: int = 0) -> Iterator[Puppet]:
    """Have a process make another one, which does as it is told, and ends with the context.

    :param children: moves it; not the puppeteer of the parent, which waits. :param flags: of clone(2), without a
        signal for the parent when it ends.
    """
    child = parent.syscall("clone", flags, 0, 0, 0, 0).require("clone")
    try:
        with children.inside(child) as puppet:
            yield puppet
    finally:
        parent.syscall("kill", child, signal.SIGKILL).require("kill the child")
        parent.syscall("wait4", child, 0, WAIT_ALL, 0).require("wait for the child")
