# SPDX-License-Identifier: GPL-2.0-or-later
"""A nested guest on a host: the sessions with it and with its QEMU, and its life."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from common.errors import ChannelError, DeadlineError, MachineError, MachineLostError
from common.waiting import Deadline, poll_until
from host_setup.channels.credentials import Login
from host_setup.channels.line_server import LineServer
from host_setup.channels.qmp import Qmp
from host_setup.channels.ssh import Ssh, Stream
from host_setup.channels.vitals import Vitals
from host_setup.hosts.canaries import REQUESTS, Canaries
from host_setup.hosts.guest_memory import GuestMemory
from host_setup.hosts.guest_spec import GUEST_PROGRAMS, HOST_PROGRAMS, GuestSpec

UP = "sealproof: the guest is up"  # guest_images/guest/init
HOST_ID = "/run/sealproof-host-id"


class Guest:
    """A running nested guest.

    :ivar memory: where its memory lies. :ivar canaries: what it has planted.
    :param host: gives the session with its host. :param stream: makes a stream to the guest's SSH server, through the
        host, within so many seconds.
    """

    def __init__(
        self,
        spec: GuestSpec,
        host: Callable[[], Ssh],
        login: Login,
        vitals: Vitals,
        stream: Callable[[float], Stream],
    ) -> None:
        self.spec = spec
        self.vitals = vitals
        self._host_session = host
        self._login = login
        self._stream = stream
        self._ssh: Ssh | None = None
        self._qmp: Qmp | None = None
        self._pid: int | None = None
        self._protected: bool | None = None
        self._host_id = ""
        self._may_end = False
        whose = f"guest {spec.name}"
        self._page_info = LineServer("page_info", whose, host, lambda: [f"{HOST_PROGRAMS}/page_info", str(self.pid)])
        self._canary = LineServer(
            "canary", whose, lambda: self.ssh, lambda: [f"{GUEST_PROGRAMS}/canary"], REQUESTS if spec.opts_in else ()
        )
        self.memory = GuestMemory(whose, self._page_info, lambda: self.qmp, host, lambda: self.pid)
        self.canaries = Canaries(self._canary, self.memory)

    @property
    def host_id(self) -> str:
        """Names one start of its host, the same for all guests there: whoever asks first gives the name.

        No number of the host's own would do: a restored host has those of the saved state again.
        """
        if not self._host_id:
            give = f"(set -C; echo {secrets.token_hex(16)} >{HOST_ID}) 2>/dev/null; cat {HOST_ID}"
            self._host_id = self._host.run(["sh", "-c", give], seconds=10).require().text.strip()
        return self._host_id

    @property
    def _host(self) -> Ssh:
        return self._host_session()

    @property
    def ssh(self) -> Ssh:
        """A session with the guest, through its host; made on first use."""
        if self._ssh is None:
            self._ssh = self.connect(seconds=60)
        return self._ssh

    def connect(self, *, seconds: float) -> Ssh:
        """A new SSH session with the guest, through its host. A server that is not up yet is tried again.

        :raises DeadlineError: it does not answer in time.
        """
        deadline = Deadline(seconds)
        return poll_until(
            lambda: Ssh(self._stream(deadline.seconds_left() or 1), self._login, self.vitals, deadline),
            deadline,
            f"SSH of guest {self.spec.name}",
            check=self.vitals.check,
            explain=self.console_tail,
            not_yet=(ChannelError, OSError),
            interval=0.1,
        )

    @property
    def qmp(self) -> Qmp:
        """QMP of the guest's own QEMU, tunnelled through the host; made on first use."""
        if self._qmp is None:
            sock = self._host.tunnel("127.0.0.1", self.spec.qmp_port, seconds=10, on_end=self._qmp_ended)
            self._qmp = Qmp(sock, self.vitals, seconds=10)
        return self._qmp

    def watch(self) -> None:
        """From now on notice when its QEMU exits (seen as the end of the QMP connection)."""
        self.qmp.execute("query-status")

    @property
    def pid(self) -> int:
        """The process id of its QEMU, on the host."""
        if self._pid is None:
            self._pid = int(self._host.run(["cat", self.spec.pid_file], seconds=10).require().text)
        return self._pid

    def console_tail(self) -> str:
        """The last lines of its console; empty when the host does not answer either."""
        try:
            return self._host.run(["tail", "-n", "40", self.spec.console], seconds=5).text
        except (MachineError, DeadlineError) as error:
            return f"(no console: {error.message})"

    def check(self) -> None:
        """Raise if it is lost, with the last lines of its console.

        :raises MachineLostError: it is.
        """
        if self.vitals.reason is not None:
            raise MachineLostError(
                f"{self.vitals.name} is lost: {self.vitals.reason}\nits console ends with:\n{self.console_tail()}"
            )

    def console(self) -> str:
        """All that it said on its console."""
        return self._host.run(["cat", self.spec.console], seconds=10).require().text

    def boots(self) -> int:
        """How many times it has come up since its QEMU was started, by what it says on its console."""
        return int(self._host.run(["grep", "-c", UP, self.spec.console], seconds=10).text or 0)

    def wait_for_boot(self, number: int, deadline: Deadline) -> None:
        """Wait until it has come up so many times since its QEMU was started, by what it says on its console.

        :raises DeadlineError: it does not come up. :raises MachineLostError: its QEMU ended.
        """
        poll_until(
            lambda: self.boots() >= number,
            deadline,
            f"boot {number} of guest {self.spec.name}",
            check=self.check,
            explain=self.console_tail,
            interval=0.2,
        )

    def console_since(self, offset: int) -> tuple[int, str]:
        """How many bytes its console has, and what it says from there on."""
        return self._tail(self.spec.console, offset)

    def count_beats(self) -> int:
        """How many bytes its heart has written to its host; more with each beat."""
        return self._tail(self.spec.beat, 0)[0]

    def _tail(self, path: str, offset: int) -> tuple[int, str]:
        answer = self._page_info.ask(f"tail {path} {offset}")
        return int(answer["size"]), str(answer["text"])

    @property
    def stopped(self) -> bool:
        """Whether we have stopped it, so that nobody may expect it to move."""
        return self._qmp is not None and self._qmp.stops.runs

    @property
    def protected(self) -> bool:
        """Whether it opted in, as its own kernel says."""
        if self._protected is None:
            self._protected = self.canaries.is_protected()
        return self._protected

    def checks(self, *argv: str, seconds: float = 30, cpu: int | None = None) -> list[dict[str, Any]]:
        """Run one of the guest's check programs; each line that it prints is a check with name, expected and got.

        :param cpu: the guest's processor that it must run on.
        """
        where = [] if cpu is None else ["taskset", f"{1 << cpu:x}"]
        done = self.ssh.run([*where, f"{GUEST_PROGRAMS}/{argv[0]}", *argv[1:]], seconds=seconds).require()
        return [json.loads(line) for line in done.text.splitlines()]

    def close(self) -> None:
        """End the channels; the guest runs on."""
        channels = (self._page_info, self._canary, self._qmp, self._ssh)
        self._qmp, self._ssh = None, None
        self._protected = None  # another kernel may run there by the time that it is asked again
        for channel in channels:
            if channel is not None:
                channel.close()

    def may_end(self) -> None:
        """From now on the end of its QEMU is what a probe wants, or may bring about; before, it is harm."""
        self._may_end = True

    def _qmp_ended(self) -> None:
        if self._qmp is not None:  # else it was we who closed it
            self.vitals.note_loss("its QEMU ended", harm=not self._may_end)
