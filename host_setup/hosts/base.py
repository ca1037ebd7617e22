# SPDX-License-Identifier: GPL-2.0-or-later
"""What every kind of host offers to the probes, and where a run gets its hosts from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from host_setup.channels.qmp import Qmp
from host_setup.channels.ssh import Ssh
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GuestSpec


class Outside(Protocol):
    """The process that a host runs in, looked at from outside."""

    @property
    def qmp(self) -> Qmp:
        """Its QMP."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def explain(self) -> str:
        """The last lines that the host said on its console."""


class Host(Protocol):
    """A machine under test: it runs the kernel, KVM and its guests.

    :ivar tier: ``emulated``, ``nested`` or ``bare-metal``.
    """

    tier: str
    vitals: Vitals
    guest_specs: tuple[GuestSpec, ...]

    @property
    def ssh(self) -> Ssh:
        """The session with it, as root."""

    def log_in(self, seconds: float) -> Ssh:
        """A new session with the host, for the caller to close: one whose call came late is closed by our side.

        :raises DeadlineError: the host does not take it within so many seconds.
        """

    @property
    def qemu(self) -> Outside | None:
        """The QEMU that it runs in; None for a real machine, which nobody can look at from outside."""

    @property
    def guests(self) -> tuple[Guest, ...]:
        """All of them, the one under test first."""

    @property
    def guest(self) -> Guest:
        """The one under test."""

    @property
    def plain_guest(self) -> Guest | None:
        """The plain guest beside the one under test; None if that one is itself plain."""

    @property
    def all_guests(self) -> tuple[Guest, ...]:
        """Its own guests that were used so far, and those that were started beside them."""

    @property
    def lost(self) -> str | None:
        """Why the host is lost, or one of its guests; None while all live."""

    def extra_guest(self, spec: GuestSpec) -> AbstractContextManager[Guest]:
        """Start one more guest, which lives as long as the context; nobody waits for it, nor hears its heartbeat."""

    def beats(self, who: str) -> int:
        """How many heartbeats were heard of ``host``, or of a guest of that name."""

    def identity(self) -> dict[str, str]:
        """What a report says of it: CPU, versions of QEMU, and so on."""

    def kernel_log(self) -> str:
        """All that its kernel said, from boot or from the restored state on."""

    def login_command(self, guest: GuestSpec | None = None) -> str:
        """How a person on this machine logs in to it, or to a guest of it."""

    def sleep(self) -> None:
        """Stop until it is used next, if it is a machine that can and that lives: its clocks stand still meanwhile.

        Whether its guests live does not matter: who has guests of their own on it stops them.
        """

    def close(self) -> None:
        """Leave nothing of the run behind."""


class Hosts(Protocol):
    """Where the hosts of a run come from.

    :ivar one_at_a_time: there is one machine: a host ends before the next one starts.
    """

    one_at_a_time: bool

    def start(self) -> Host:
        """A pristine host with its guests, running.

        :raises MachineError: no host can be had.
        """

    def cold(self, cmdline: str = "", *, alone: bool = False) -> Host:
        """A host booted from nothing, its guests too.

        :param cmdline: added to its kernel's command line. :param alone: without guests.
        :raises MachineError: no host can be had.
        """

    def first_log(self) -> str:
        """What the kernel said before the first host was handed out."""

    def close(self) -> None:
        """Leave nothing behind; no host runs any more."""
