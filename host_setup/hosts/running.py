# SPDX-License-Identifier: GPL-2.0-or-later
"""The common part of all kinds of running host: a session, guests that are started over it, heartbeats, losses."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

from common.errors import ChannelError, DeadlineError, HarmError, MachineError, MachineLostError
from common.waiting import Deadline, poll_until
from guest_images.keys import Keys
from host_setup.channels.credentials import Login
from host_setup.channels.ssh import Ssh, Stream
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GuestSpec

STALL = 20.0  # seconds without a heartbeat after which a machine counts as stalled
CONNECT = 20.0  # seconds that a session may take
FAST_SSH = 2022  # port of the host's dropbear (guest_images/host/inittab)
ANY_HOST_KEY = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"  # for a person: the machine is our own


class RunningHost(ABC):
    """A host that runs, with its guests.

    :param guests: the one under test first. :param keys: that open host and guests.
    """

    def __init__(self, guests: tuple[GuestSpec, ...], keys: Keys) -> None:
        self.guest_specs = guests
        self.keys = keys
        self.before_end: Callable[[Guest | None], None] = lambda _: None
        """Called before we end a guest that was started beside the host's own, or, with None, the host."""
        self.vitals = Vitals("the host")
        self.guest_vitals = {guest.name: Vitals(f"guest {guest.name}") for guest in guests}
        self.vitals.on_loss(self._lose_guests)
        self._beats = Beats(self.vitals, self.guest_vitals)
        self._beats.stopped = lambda who: any(guest.spec.name == who and guest.stopped for guest in self._guests or ())
        self._guests: tuple[Guest, ...] | None = None
        self._extra: list[Guest] = []
        self._ssh: Ssh | None = None

    @abstractmethod
    def _way(self, port: int) -> Callable[[float], Stream]:
        """Makes streams to a TCP port of the host, each within so many seconds."""

    @abstractmethod
    def _explain(self) -> str:
        """What the machine is doing, for a wait that ran out."""

    @abstractmethod
    def _patience(self, seconds: float) -> Deadline:
        """A deadline for this machine."""

    @property
    def ssh(self) -> Ssh:
        """The session with the host; made on first use."""
        if self._ssh is None:
            self._ssh = self.log_in(CONNECT)
        return self._ssh

    @property
    def guests(self) -> tuple[Guest, ...]:
        """The guests that run on it, the one under test first."""
        if self._guests is None:
            self._guests = tuple(self._guest(spec) for spec in self.guest_specs)
        return self._guests

    @property
    def guest(self) -> Guest:
        """The guest under test."""
        return self.guests[0]

    @property
    def plain_guest(self) -> Guest | None:
        """The plain guest beside a protected one."""
        return self.guests[1] if len(self.guests) > 1 else None

    def _guest(self, spec: GuestSpec) -> Guest:
        vitals, way = self.guest_vitals[spec.name], self._way(spec.ssh_port)
        return Guest(spec, lambda: self.ssh, self._login("guest"), vitals, way)

    def _login(self, who: str) -> Login:
        return Login("root", self.keys.client, self.keys.public(who))

    @property
    def lost(self) -> str | None:
        """Why the host is lost, or one of its guests; None while all live."""
        if self.vitals.reason is not None:
            return self.vitals.reason
        reasons = (
            f"{vitals.name}: {vitals.reason}" for vitals in self.guest_vitals.values() if vitals.reason is not None
        )
        return next(reasons, None)

    @property
    def all_guests(self) -> tuple[Guest, ...]:
        """Its own guests that were used so far, and those that were started beside them."""
        return (*(self._guests or ()), *self._extra)

    def beats(self, who: str) -> int:
        """How many heartbeats were heard of ``host``, or of a guest of that name."""
        return self._beats.count(who)

    def _lose_guests(self) -> None:
        for vitals in self.guest_vitals.values():
            vitals.note_loss(f"its host is lost: {self.vitals.reason}")

    def log_in(self, seconds: float) -> Ssh:
        """A new session with the host, for the caller to close: one whose call came late is closed by our side.

        :raises DeadlineError: the host does not take it within so many seconds.
        """
        deadline = self.vitals.deadline(seconds)
        way = self._way(FAST_SSH)
        return poll_until(
            lambda: Ssh(way(deadline.seconds_left() or 1), self._login("host"), self.vitals, deadline),
            deadline,
            "SSH of the host",
            check=self.vitals.check,
            explain=self._explain,
            not_yet=(ChannelError, OSError),
        )

    @contextlib.contextmanager
    def extra_guest(self, spec: GuestSpec) -> Iterator[Guest]:
        """Start one more guest, which lives as long as the context; nobody waits for it, nor hears its heartbeat.

        :param spec: of a name and ports that no other guest of this host has.
        """
        vitals = Vitals(f"guest {spec.name}")
        vitals.uncounted = self.vitals.uncounted
        forget = self.vitals.on_loss(lambda: vitals.note_loss(f"its host is lost: {self.vitals.reason}"))

        def stream(seconds: float) -> socket.socket:
            return self.ssh.tunnel("127.0.0.1", spec.ssh_port, seconds=seconds, on_end=lambda: None)

        spec.start(self.ssh)
        guest = Guest(spec, lambda: self.ssh, self._login("guest"), vitals, stream)
        pid = guest.pid  # QEMU takes the file with it when it ends
        self._extra.append(guest)
        try:
            guest.watch()
            yield guest
        finally:
            guest.may_end()
            self.before_end(guest)
            self._extra.remove(guest)
            guest.close()
            forget()
            if self.vitals.reason is None:
                self.ssh.run(["kill", "-KILL", str(pid)], seconds=10)

    def _boot_guests(self, deadline: Deadline) -> None:
        """Start the guests, which boot side by side, and wait for them.

        :raises HarmError: the plain one comes up, and not the one under test. :raises SealproofError: nor does that.
        """
        for guest in self.guests:
            guest.spec.start(self.ssh)
            guest.watch()
        try:
            self._wait_for_guests(deadline)
        except (MachineError, DeadlineError) as error:
            if self._plain_guest_is_up(deadline):
                raise HarmError(f"a plain guest comes up, and not the one under test: {error.message}") from error
            raise

    def _plain_guest_is_up(self, deadline: Deadline) -> bool:
        """Whether the plain guest boots, and answers; not, if there is none."""
        plain = self.plain_guest
        if plain is None:
            return False
        try:
            self._wait_for_beat(plain.spec.name, deadline, explain=plain.console_tail, check=plain.vitals.check)
            plain.connect(seconds=CONNECT).close()
        except (MachineError, DeadlineError):
            return False
        return True

    def _wait_for_guests(self, deadline: Deadline) -> None:
        # Not by trying to log in: a connection made before the guest's network is there is tried again by slirp after
        # seconds only.
        for guest in self.guests:
            self._wait_for_beat(guest.spec.name, deadline, explain=guest.console_tail)
        for guest in self.guests:
            guest.connect(seconds=deadline.seconds_left()).close()

    def _wait_for_beat(
        self, who: str, deadline: Deadline, *, explain: Callable[[], str], check: Callable[[], None] | None = None
    ) -> None:
        """Wait for the first heartbeat, which shows that user space is up.

        :param check: raises if there is none to wait for; else that host and guests live.
        """
        poll_until(
            lambda: self._beats.count(who) > 0,
            deadline,
            f"{'the host' if who == 'host' else f'guest {who}'} to boot",
            check=check or self._check_all,
            explain=explain,
        )

    def _check_all(self) -> None:
        """Raise if the host is lost, or a guest; a lost guest's last words are on the host."""
        self.vitals.check()
        for name, vitals in self.guest_vitals.items():
            if vitals.reason is not None:
                (guest,) = (guest for guest in self.guests if guest.spec.name == name)
                raise MachineLostError(
                    f"{vitals.name} is lost: {vitals.reason}\nits console ends with:\n{guest.console_tail()}"
                )

    def _disconnect(self) -> None:
        for guest in self._guests or ():
            guest.close()
        if self._ssh is not None:
            self._ssh.close()
        self._guests = self._ssh = None


class Beats:
    """The heartbeats of host and guests. A machine that had one and falls silent has stalled.

    :param guests: by name.
    :ivar uncounted: total seconds the host was runnable but not scheduled on this computer.
    :ivar stopped: whether we have stopped a machine, whose silence does not count then.
    """

    def __init__(self, host: Vitals, guests: Mapping[str, Vitals]) -> None:
        self.uncounted: Callable[[], float] = lambda: 0.0
        self.stopped: Callable[[str], bool] = lambda _: False
        # A silent host cannot tell of its guests: the host first.
        self._vitals = {"host": host, **guests}
        self._last: dict[str, tuple[str, float]] = {}
        self._counts = dict.fromkeys(self._vitals, 0)
        self._over = threading.Event()
        host.on_loss(self._over.set)
        threading.Thread(target=self._watch, daemon=True).start()

    def take_line(self, line: str) -> None:
        """Take in a line ``host=N NAME=N ..``; -1 means: not yet. A count that stands still is a machine that does."""
        now = self._now()
        for word in line.split():
            who, _, count = word.partition("=")
            if who in self._vitals and count != "-1" and self._last.get(who, ("", 0.0))[0] != count:
                self._last[who] = (count, now)
                self._counts[who] += 1

    def _now(self) -> float:
        """Seconds on a clock that stands still while a busy computer does not run the host."""
        return time.monotonic() - self.uncounted()

    def count(self, who: str) -> int:
        """How many heartbeats of a machine were heard."""
        return self._counts[who]

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            now = self._now()
            for who, vitals in self._vitals.items():
                if who in self._last and self.stopped(who):
                    self._last[who] = (self._last[who][0], now)
                elif who in self._last and now - self._last[who][1] > STALL:
                    vitals.note_loss(f"stalled: no heartbeat for {STALL:g} s", harm=True)
