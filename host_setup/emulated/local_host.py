# SPDX-License-Identifier: GPL-2.0-or-later
"""The common part of the hosts that an emulator makes here: boot, login, and sleep while nobody uses them."""

from __future__ import annotations

import shlex
import socket
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol

from common.threads import workers
from common.waiting import Deadline, poll_until
from host_setup.channels.ssh import Ssh, Stream
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_PROGRAMS, HOST_PROGRAMS, GuestSpec
from host_setup.hosts.running import ANY_HOST_KEY, RunningHost

BOOT = 240.0  # seconds that a cold boot may take on a slow, busy machine, with kernels that check themselves (debug)
RESTORE = 60.0  # seconds that a restore may take on a slow, busy machine; at a load of 14, 20 were too few
REST_BEATS = 3  # heartbeats
ESTABLISHED, CLOSE_WAIT = "01", "08"  # include/net/tcp_states.h
OPENSSH = 22  # port of the host's sshd (guest_images/host/inittab)


def _ports_in_use(ssh: Ssh) -> set[int]:
    """TCP ports (IPv4) of the host on which somebody is connected, or has gone and was not noticed yet."""
    lines = ssh.run(["cat", "/proc/net/tcp"], seconds=10).require().text.splitlines()[1:]
    words = [line.split() for line in lines]  # number, local address:port, remote one, state, .. in hexadecimal
    return {int(local.rpartition(":")[2], 16) for _, local, _, state, *_ in words if state in (ESTABLISHED, CLOSE_WAIT)}


class Machine(Protocol):
    """What an emulator offers."""

    def stop(self) -> None:
        """Stop the machine, its clocks included."""

    def go_on(self) -> None:
        """Let the machine run on."""

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
    def kernel_log(self) -> str:
        """All that its kernel said, from boot or from the restored state on."""

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

    def booted_with(self) -> str:
        """The words on the command line that its kernel was booted with, as the kernel tells them.

        A restored kernel was booted by an earlier run, whose measure of the time-stamp counter was another.
        """
        return self.ssh.run(["cat", "/proc/cmdline"], seconds=RESTORE).require().text

    def _patience(self, seconds: float) -> Deadline:
        """A deadline for this machine: time in which a busy computer does not run it does not count."""
        return Deadline(seconds, uncounted=self._machine.seconds_without_cpu)

    def rest(self) -> None:
        """Wait until host and guests have done what was left to do, for instance for sessions that ended.

        A machine that is saved before starts each of its lives with that.
        """
        machines = ("host", *self.guest_vitals)
        goals = {who: self._beats.count(who) + REST_BEATS for who in machines}
        poll_until(
            lambda: all(self._beats.count(who) >= goals[who] for who in machines),
            self._patience(RESTORE),
            "host and guests to become idle",
            check=self._check_all,
        )

    def nonces(self, *, seconds: float = RESTORE) -> dict[str, str]:
        """What the memory of ``host`` and of each guest, by its name, holds, as ``nonce get`` says; asking counts."""

        def ask(machine: LocalHost | Guest, programs: str) -> str:
            return machine.ssh.run([f"{programs}/nonce", "get"], seconds=seconds).require().text

        # All at once: a login costs an emulated machine most of a restore's time.
        guests = self.guests
        with workers(1 + len(guests)) as all_of_them:
            answers = {guest.spec.name: all_of_them.submit(ask, guest, GUEST_PROGRAMS) for guest in guests}
            answers["host"] = all_of_them.submit(ask, self, HOST_PROGRAMS)
            return {who: answer.result() for who, answer in answers.items()}

    def set_nonces(self, nonces: Mapping[str, str], *, seconds: float = RESTORE) -> None:
        """Put a nonce (hexadecimal) into the memory of ``host`` and of each guest."""
        for guest in self.guests:
            guest.ssh.run([f"{GUEST_PROGRAMS}/nonce", "set", nonces[guest.spec.name]], seconds=seconds).require()
        self.ssh.run([f"{HOST_PROGRAMS}/nonce", "set", nonces["host"]], seconds=seconds).require()

    def detach(self) -> None:
        """End the channels into it; it runs on, with nobody logged in.

        Each guest's QMP takes one client: saved before it knows that its last one went, it would never take another.

        :raises DeadlineError: a guest's QEMU does not let go.
        """
        ssh, ports = self.ssh, {guest.spec.qmp_port for guest in self.guests}
        for guest in self.guests:
            guest.close()
        poll_until(
            lambda: not ports & _ports_in_use(ssh),
            self._patience(RESTORE),
            "the guests' QMP to be free",
            check=self.vitals.check,
        )
        self._disconnect()

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
