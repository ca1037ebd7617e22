# SPDX-License-Identifier: GPL-2.0-or-later
"""The common part of the hosts that an emulator makes here: boot, login, and sleep while nobody uses them."""

from __future__ import annotations

import shlex
import socket
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from common.waiting import Deadline
from host_setup.channels.ssh import Stream
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest_spec import GuestSpec
from host_setup.hosts.running import ANY_HOST_KEY, RunningHost

BOOT = 240.0  # seconds that a cold boot may take on a slow, busy machine, with kernels that check themselves (debug)
OPENSSH = 22  # port of the host's sshd (guest_images/host/inittab)


class Machine(Protocol):
    """What an emulator offers."""

    def stop(self) -> None:
        """Have the machine's clocks stand still."""

    def go_on(self) -> None:
        """Have it run on."""

    def seconds_stopped(self) -> float:
        """Seconds, so far, in which it stood still because somebody has stopped it."""

    def seconds_without_cpu(self) -> float:
        """Seconds, so far, in which the machine would have run and this computer had no processor for it."""

    def explain(self) -> str:
        """What the machine is doing, for a wait that ran out."""


class LocalHost(RunningHost):
    """A host in an emulator of ours, with its guests. What makes it says by ``_runs_in`` in which."""

    def _runs_in(self, machine: Machine) -> None:
        self._machine = machine
        self._sleep = threading.RLock()
        self._asleep = False
        self._beats.uncounted = lambda: machine.seconds_without_cpu() + machine.seconds_stopped()

    @abstractmethod
    def close(self) -> None:
        """End the host and all on it."""

    @abstractmethod
    def _forward(self, port: int) -> int:
        """The port of this machine's loopback that leads to a port of the host."""

    def _way(self, port: int) -> Callable[[float], Stream]:
        forwarded = self._forward(port)
        return lambda seconds: socket.create_connection(("127.0.0.1", forwarded), timeout=seconds)

    def _explain(self) -> str:
        return self._machine.explain()

    def login_command(self, guest: GuestSpec | None = None) -> str:
        """How a person on this machine logs in to the host, or to a guest of it."""
        return shlex.join(self.login_argv(guest))

    def login_argv(self, guest: GuestSpec | None = None) -> list[str]:
        """The same, word by word. What the person has set for other machines (``ssh_config``, an agent) is left out."""
        port = self._forward(OPENSSH if guest is None else guest.ssh_port)
        ours = ["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]
        return [
            "ssh",
            "-i",
            str(self.keys.client),
            *ANY_HOST_KEY.split(),
            *ours,
            "-p",
            str(port),
            "root@127.0.0.1",
        ]

    def boot(self) -> None:
        """Wait for a cold boot, then start the guests, which boot side by side, and wait for them."""
        deadline = self._patience(BOOT)
        self.boot_alone(deadline)
        self._boot_guests(deadline)

    def boot_alone(self, deadline: Deadline | None = None) -> None:
        """Wait for a cold boot of the host; no guest is started."""
        deadline = deadline or self._patience(BOOT)
        self._wait_for_beat("host", deadline, explain=self._explain)
        self._ssh = self.log_in(deadline.seconds_left())

    def _patience(self, seconds: float) -> Deadline:
        """A deadline for this machine: time in which a busy computer does not run it does not count."""
        return Deadline(seconds, uncounted=self._machine.seconds_without_cpu)

    def sleep(self) -> None:
        """Stop it until it is used next: host and guests that wait for work take half a processor."""
        with self._sleep:
            if self._asleep or self.vitals.reason is not None:
                return
            self._machine.stop()
            self._asleep = True
            for vitals in self._all_vitals():
                vitals.asleep(self._wake)

    def _wake(self) -> None:
        with self._sleep:
            if not self._asleep:
                return
            for vitals in self._all_vitals():
                vitals.asleep(None)
            try:
                self._machine.go_on()
            except BaseException:
                for vitals in self._all_vitals():
                    vitals.asleep(self._wake)  # the next use tries again
                raise
            self._asleep = False

    def _all_vitals(self) -> list[Vitals]:
        return [self.vitals, *self.guest_vitals.values(), *(guest.vitals for guest in self._extra)]
