# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a real machine: SSH, made again when it broke, as each reboot breaks it. It changes nothing by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import paramiko

from common.errors import AccessError, ChannelError, DeadlineError, MachineError, SealproofError, UserInputError
from common.waiting import Deadline, poll_until
from host_setup.channels import route
from host_setup.channels.credentials import Login
from host_setup.channels.route import Route, Stream
from host_setup.channels.ssh import Completed, RefusedError, Ssh, StrangerError
from host_setup.channels.vitals import Vitals
from host_setup.inventory import Remote
from host_setup.remote import shell

KEEPER = Path(__file__).with_name("keeper.sh")
KEEPER_DIR = "/var/lib/sealproof"  # of the keeper's, on the machine
ONE_TRY = 15.0  # seconds for one connection
BETWEEN = 0.5  # seconds between two
NOBODY = 1  # a port on which nobody listens
REFUSED = 1  # "administratively prohibited": RFC 4254, 5.1
RUN_STDIN = 'SEALPROOF_TEXT=$(cat) && eval "$SEALPROOF_TEXT"'
# What came before a connection broke is not the file.
PUT_SCRIPT = """
umask 077
cat > "$1.new" && [ "$(stat -c %s "$1.new")" = "$3" ] && chmod "$2" "$1.new" && mv "$1.new" "$1" || {
    rm -f "$1.new"
    exit 1
}
"""


class Control:
    """Sessions with one machine, one at a time.

    :param name: in the inventory.
    """

    def __init__(self, name: str, machine: Remote) -> None:
        if not machine.key_file.is_file():
            raise UserInputError(
                f"{name}: there is no key {machine.key_file}", stage="inventory", hint=f"see key in [machine.{name}]"
            )
        self.name = name
        self.machine = machine
        self._mutex = threading.Lock()
        self._ssh: Ssh | None = None
        self._stream: Stream | None = None
        self._route: Route | None = None

    def connect(self, deadline: Deadline, *, refusals_pass: bool = False) -> None:
        """Return a session that answers, a new one if need be. A session that does not answer is tried again.

        :param refusals_pass: what refuses us is tried again, too: a machine that boots or goes down lets only root in.
        :raises DeadlineError: the machine does not answer in time. :raises AccessError: it refuses us.
        :raises UserInputError: what the inventory says of our key, or of its own, is of no use.
        """
        try:
            poll_until(
                lambda: self.run(["true"], seconds=min(ONE_TRY, deadline.seconds_left() or 1)),
                deadline,
                f"SSH of {self.name}",
                not_yet=(ChannelError, DeadlineError, *([AccessError] if refusals_pass else [])),
                interval=BETWEEN,
            )
        except DeadlineError as error:
            reason = error.__cause__
            raise DeadlineError(
                f"{self.name} did not answer for {deadline.seconds:g} s: "
                f"{reason.message if isinstance(reason, SealproofError) else ''}",
                hint=f"does it run? see address in [machine.{self.name}] of the inventory, and its console",
            ) from error

    def run(self, argv: Sequence[str], *, seconds: float, stdin: bytes = b"") -> Completed:
        """Run a command as root, in a new session if the last one broke.

        :raises ChannelError: the machine does not answer. :raises DeadlineError: the command did not end in time.
        :raises AccessError: it does not let us in, or not become root.
        """
        ssh = self._session()
        user = self.machine.user
        try:
            done = ssh.run(argv, seconds=seconds, stdin=stdin, line=shell.line(argv, sudo=user != "root"))
            return shell.result(argv, done, self.name, user)
        except (MachineError, DeadlineError):
            self._drop(ssh)
            raise

    def keeper(self, verb: str, *words: str, seconds: float = 30) -> Completed:
        """Run our keeper on the machine, from its own text: it may not be there yet, or no longer."""
        return self.run(["sh", "-c", RUN_STDIN, "keeper", verb, *words], seconds=seconds, stdin=KEEPER.read_bytes())

    def facts(self) -> dict[str, str]:
        """What the machine is, as the keeper tells; and whether its SSH server forwards connections."""
        lines = self.keeper("facts").require().text.splitlines()
        values = {name: value for name, _, value in (line.partition("=") for line in lines)}
        return {**values, "forwarding": "no" if self._forwards_nothing() else "yes"}

    def _forwards_nothing(self) -> bool:
        """Whether its SSH server refuses any connection through it, as the way to a host's guests is one."""
        try:
            self.way(NOBODY)(ONE_TRY).close()
        except ChannelError as error:
            why = error.__cause__
            return isinstance(why, paramiko.ChannelException) and why.code == REFUSED
        return False

    def write_file(self, path: str, content: bytes, *, seconds: float, mode: int = 0o600) -> None:
        """Write a file of the machine, whole or not at all.

        :raises ChannelError: it cannot be written.
        """
        self.run(
            ["sh", "-c", PUT_SCRIPT, "sh", path, f"{mode:o}", str(len(content))], seconds=seconds, stdin=content
        ).require()

    def boot_id(self) -> str:
        """Changes with each boot (Documentation/admin-guide/sysctl/kernel.rst, random)."""
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"], seconds=ONE_TRY).require().text

    def way(self, port: int) -> Callable[[float], paramiko.Channel]:
        """Makes streams to a port of the machine's loopback."""
        return lambda seconds: self._session().jump("127.0.0.1", port, seconds=seconds)

    def close(self) -> None:
        """End the session."""
        with self._mutex:
            self._end()

    def _session(self) -> Ssh:
        with self._mutex:
            if self._ssh is None:
                self._ssh = self._log_in(Deadline(ONE_TRY))
            return self._ssh

    def _log_in(self, deadline: Deadline) -> Ssh:
        machine, entry = self.machine, f"[machine.{self.name}] of the inventory"
        try:
            if self._route is None:
                self._route = route.find(machine.ssh_options, machine.user, machine.endpoint[0], machine.port)
            way = self._route
            login = Login(machine.user, machine.key_file, machine.host_key, way.agent, way.certificates)
            self._stream = stream = Stream(self.name, way, ONE_TRY)
            return Ssh(stream.sock, login, Vitals(self.name), deadline)
        except ChannelError as error:
            why = self._stream.explain() if self._stream is not None else ""
            self._end()
            if not why:
                raise
            raise ChannelError(f"{self.name} does not answer: {why}") from error
        except StrangerError as error:
            self._end()
            command = f"ssh-keyscan -p {self._route.port} {self._route.host}" if self._route else "ssh-keyscan"
            raise StrangerError(
                error.message, hint=f"if it is the right machine, correct host_key in {entry}; it has: {command}"
            ) from error
        except RefusedError as error:
            self._end()
            own = f"see key and address in {entry}, and authorized_keys of {machine.user} there"
            raise RefusedError(error.message, hint=own) from error
        except AccessError:
            self._end()
            raise
        except UserInputError as error:
            self._end()
            raise UserInputError(f"{self.name}: {error.message}", stage=error.stage, hint=error.hint) from error

    def _drop(self, ssh: Ssh) -> None:
        """A session that failed is not used again: it may be the end of a connection whose machine has rebooted."""
        with self._mutex:
            if self._ssh is ssh:
                self._end()
        ssh.close()

    def _end(self) -> None:
        """End what there is of a session."""
        ssh, self._ssh = self._ssh, None
        stream, self._stream = self._stream, None
        if ssh is not None:
            ssh.close()
        if stream is not None:
            stream.close()
