# SPDX-License-Identifier: GPL-2.0-or-later
"""The hosts of one run: one that harmless probes share, replaced when it is lost, and fresh ones for the others.

Beside it there may be hosts with another command line, which are shared likewise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import SealproofError
from host_setup.hosts.base import Host, Hosts
from host_setup.hosts.inquest import harm_to
from host_setup.hosts.last_state import last_state

EXPLAINED = 10  # claims that do not hold


class HostPool:
    """Running hosts, and what each one's kernel said.

    :param hosts: where they come from. :param meet: is shown each host that all share, and the very first host.
    :ivar lost: why hosts or guests were lost unintentionally.
    :ivar harm: of which machines the kernel died or hung, in words; nobody meant that either.
    """

    def __init__(self, hosts: Hosts, meet: Callable[[Host], None] = lambda _: None) -> None:
        self.hosts = hosts
        self._meet = meet
        self._shown: Host | None = None
        self._shared: Host | None = None
        self._others: dict[str, Host] = {}
        self._ended_logs: list[str] = []
        self._in_use: list[Host] = []
        self._untold: list[str] = []
        self._parting: list[tuple[str, str]] = []
        self._parted = 0.0
        self._explained = 0
        self.lost: list[str] = []
        self.harm: list[str] = []

    def shared_host(self) -> Host:
        """The host that harmless probes share. A lost one, or one of whose guests one is lost, is replaced."""
        host = self._shared
        if host is not None and host.lost is not None:
            self.lost.append(host.lost)
            self._end(host)
            self._shared = host = None
        if host is None:
            self._make_room()
            host = self._shared = self.hosts.start()
        if host is not self._shown:
            self._show(host)
        self._let_others_sleep(host)
        return host

    def shared_with_cmdline(self, cmdline: str) -> Host:
        """A host with these words on its kernel's command line, and no guests; one for all who ask for the same.

        It is booted cold when it is first asked for, which takes seconds. A lost one is replaced.
        """
        host = self._others.get(cmdline)
        if host is not None and host.lost is not None:
            self.lost.append(host.lost)
            self._end(self._others.pop(cmdline))
            host = None
        if host is None:
            self._make_room()
            host = self._others[cmdline] = self.hosts.cold(cmdline, alone=True)
            self._show_first(host)
        self._let_others_sleep(host)
        return host

    @contextmanager
    def fresh(self) -> Iterator[Host]:
        """A pristine host for one probe that may harm it. On a single machine the shared host ends first."""
        self._make_room()
        self._let_others_sleep(None)
        with self._lend(self.hosts.start()) as host:
            yield host

    @contextmanager
    def fresh_with_cmdline(self, cmdline: str, *, crashes: bool = False) -> Iterator[Host]:
        """A host that was booted with further words on its kernel's command line, for one probe.

        :param crashes: the probe has its kernel crash: what that says then is no complaint.
        """
        self._make_room()
        self._let_others_sleep(None)
        host = self.hosts.cold(cmdline)
        if not crashes:
            with self._lend(host):
                yield host
            return
        try:
            self._show_first(host)
            yield host
        finally:
            host.close()

    @contextmanager
    def _lend(self, host: Host) -> Iterator[Host]:
        """A host that ends with the context, and is checked for harm before."""
        self._in_use.append(host)
        try:
            self._show_first(host)
            yield host
            self._look(host, thorough=False)
        except SealproofError:
            self._look(host, thorough=True)
            self._parting, self._parted = list(last_state(host, whole=self._whole(host))), time.time()
            raise
        finally:
            self._in_use.remove(host)
            self._end(host)

    def inquest(self, *, thorough: bool) -> list[str]:
        """Which machines came to harm since this was asked last, by a fault of their kernels, and how.

        :param thorough: something went wrong: their guests are asked too, which may take seconds for each.
        """
        shared = [self._shared] if self._shared is not None else []
        for host in (*shared, *self._others.values(), *self._in_use):
            self._look(host, thorough=thorough)
        losses, self._untold = self._untold, []
        return losses

    def _look(self, host: Host, *, thorough: bool) -> None:
        for words in harm_to(host, thorough=thorough):
            if words not in self.harm:
                self.harm.append(words)
                self._untold.append(words)

    def kernel_logs(self) -> str:
        """All that the kernels of all hosts of this run said, from their first boot on."""
        shared = [self._shared] if self._shared is not None else []
        running = [host.kernel_log() for host in (*shared, *self._others.values())]
        return "\n".join([self.hosts.first_log(), *self._ended_logs, *running])

    def last_words(self, since: float = 0.0) -> list[tuple[str, str]]:
        """What the machines of the hosts that all share do now, and what their guests said last.

        Before that the same of a host that one probe had, and that has ended because the probe broke.

        Registers and blocked tasks are asked for ``EXPLAINED`` times: where nothing protects, each attack fails.

        :param since: when the probe began (seconds since 1970): no other one's host is told of.
        """
        parting, self._parting = self._parting if self._parted >= since else [], []
        farewells = [(f"{title}, as the claim's own host ended", words) for title, words in parting]
        self._explained += 1
        for host in self._others.values() if self._shared is None else (self._shared, *self._others.values()):
            farewells += last_state(host, whole=self._whole(host))
        return farewells

    def _whole(self, host: Host) -> bool:
        return self._explained <= EXPLAINED or host.vitals.reason is not None

    def close(self) -> None:
        """End the shared hosts, and leave the machines as they were."""
        try:
            self._end_shared()
        finally:
            self.hosts.close()

    def _let_others_sleep(self, used: Host | None) -> None:
        """A host that nobody uses takes time from the one that is used; its next use wakes it."""
        if used is not None:
            used.vitals.check()
        shared = [self._shared] if self._shared is not None else []
        for host in (*shared, *self._others.values(), *self._in_use):
            if host is not used:
                host.sleep()

    def _show(self, host: Host) -> None:
        self._meet(host)
        self._shown = host

    def _show_first(self, host: Host) -> None:
        if self._shown is None:
            self._show(host)

    def _make_room(self) -> None:
        if self.hosts.one_at_a_time:
            self._end_shared()

    def _end_shared(self) -> None:
        while self._others:
            self._end(self._others.popitem()[1])
        if self._shared is not None:
            self._end(self._shared)
            self._shared = None

    def _end(self, host: Host) -> None:
        host.close()
        self._ended_logs.append(host.kernel_log())
