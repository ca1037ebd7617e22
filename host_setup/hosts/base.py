# SPDX-License-Identifier: GPL-2.0-or-later
"""What every kind of host offers to the probes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from host_setup.channels.ssh import Ssh
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest import HOST_PROGRAMS, Guest, GuestSpec

__all__ = ["HOST_PROGRAMS", "Host"]


class Host(Protocol):
    """A machine under test: it runs the kernel, KVM and its guests.

    :ivar tier: ``emulated``, ``nested`` or ``bare-metal``.
    """

    tier: str
    vitals: Vitals
    ssh: Ssh

    @property
    def guests(self) -> tuple[Guest, ...]:
        """All of them, the one under test first."""

    @property
    def guest(self) -> Guest:
        """The one under test."""

    @property
    def plain_guest(self) -> Guest | None:
        """The plain one beside it; None if the one under test is to be plain."""

    def extra_guest(self, spec: GuestSpec) -> AbstractContextManager[Guest]:
        """Start one more guest, which lives as long as the context; nobody waits for it, nor hears its heartbeat."""

    def beats(self, who: str) -> int:
        """How many heartbeats were heard of ``host``, or of a guest of that name."""

    def identity(self) -> dict[str, str]:
        """What a report says of it: CPU, versions of QEMU, and so on."""

    def kernel_log(self) -> str:
        """All that its kernel said, from boot or from the restored state on."""

    def close(self) -> None:
        """Leave nothing of the run behind."""
