# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are reached by SSH, as Avocado's remote spawner wants them.

Each has a checkout of sealproof, set up (``make doctor`` there says what is missing), at the same path. The spawner
keeps one shell open on each, in which one group runs at a time. What the runner there has to tell comes back through
that connection (``ssh -R``), so nothing listens on a network. Host keys must be known, as with any SSH.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.environment import environment
from common.errors import UserInputError
from common.names import path_text
from common.paths import PROJECT
from signoff.contract_files import files, sha256
from signoff.record import project_commit

PROMPT = r"[#$%>]\s*$"
TIMEOUT = 10  # for a machine to answer
MOST = 100_000  # machines, or workers: more is a slip
_SAY = shlex.join(
    [
        ".venv/bin/python",
        "-c",
        "from pathlib import Path; from fleet.machines import checkout; print(checkout(Path.cwd()))",
    ]
)
_TARGET = re.compile(
    r"(?:(?P<user>[\w.-]+)@)?(?:(?P<host>[\w.-]+)|\[(?P<six>[0-9A-Fa-f:.]*:[\w:.%-]*)\])(?::(?P<port>\d{1,5}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Access:
    """How machines are entered.

    :ivar checkout: folder of sealproof on each machine. :ivar key: private key; None: what SSH itself finds.
    :ivar known_hosts: their public keys; None: the user's own file.
    """

    checkout: Path
    key: Path | None = None
    known_hosts: Path | None = None

    def options(self) -> list[str]:
        """Of ``ssh``: nobody is asked, and a machine that does not answer is noticed after a minute."""
        hosts_option = [f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts else []
        words = [
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR", f"ConnectTimeout={TIMEOUT}"),
            *("ServerAliveInterval=15", "ServerAliveCountMax=4", *hosts_option),
        ]
        return [part for word in words for part in ("-o", word)] + (["-i", str(self.key)] if self.key else [])


@dataclass(frozen=True, slots=True)
class SshTarget:
    """One machine: whom to be on it, and where it is reached."""

    user: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.user}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse(words: str) -> SshTarget:
    """A machine of ``[user@]host[:port]``; an IPv6 address as host is in brackets.

    :raises UserInputError: the text has another form.
    """
    match = _TARGET.fullmatch(words)
    port = int(match["port"] or 22) if match is not None else 0
    if match is None or not 1 <= port <= 65535:
        raise UserInputError(
            f"{path_text(words)!r} does not name a machine: give [user@]host[:port]",
            stage="--machine",
            hint="an IPv6 address is written in brackets: root@[2001:db8::1]:22" if words.count(":") > 1 else "",
        )
    return SshTarget(match["user"] or "root", match["host"] or match["six"], port)


def parse_all(entries: Sequence[str]) -> tuple[SshTarget, ...]:
    """The machines of several entries.

    :raises UserInputError: an entry names no machine, or the same machine as another entry: both would work in one
        checkout.
    """
    targets = tuple(parse(entry) for entry in entries)
    twice = next((machine for machine in targets if targets.count(machine) > 1), None)
    if twice is not None:
        raise UserInputError(f"{twice} is named twice", stage="--machine", hint="name each machine once")
    return targets


def checkout(folder: Path) -> str:
    """What must be the same on all machines, or their parts cannot be merged: the commit, and the contract."""
    contract = sha256(files(folder / "tests_e2e" / "contract"))
    return f"commit {project_commit(folder)}, contract {contract[:12]}"


def problem(machine: SshTarget, access: Access) -> str:
    """Why no group can run on a machine now, or what it does could not be merged; empty if all is well."""
    say = f"{{ {_SAY} 2> /dev/null || echo an older one; }}"
    ready = f"cd {shlex.quote(str(access.checkout))} && ls .venv/bin/avocado-runner-sealproof && {say}"
    command = ["ssh", *access.options(), "-p", str(machine.port), f"{machine.user}@{machine.host}", ready]
    try:
        done = subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=4 * TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it does not answer within {4 * TIMEOUT} s"
    if done.returncode == 0:
        theirs, ours = (done.stdout.splitlines() or [""])[-1], checkout(PROJECT)
        if theirs == ours:
            return ""
        return f"it has another sealproof in {access.checkout}: {theirs}; here: {ours}; use the same on all machines"
    words = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
    if done.returncode == 255:  # ssh's own
        return words
    return f"sealproof is not set up in {access.checkout} there ({words}); run 'make doctor' there"


@dataclass(frozen=True, slots=True)
class StatusPorts:
    """Ports of loopbacks: where Avocado's status server listens here, and where a machine's way to it begins.

    They differ, as a machine may share this one's loopback: its sshd would take the server's port first.
    """

    server: int
    mouth: int


def slot(machine: SshTarget, access: Access, status: StatusPorts) -> dict[str, object]:
    """A machine in the words of the remote spawner (aexpect's ``remote_login``)."""
    # Two machines that share a loopback share the way, too.
    back = ["-o", "ExitOnForwardFailure=no", "-R", f"127.0.0.1:{status.mouth}:127.0.0.1:{status.server}"]
    return {
        "client": "ssh",
        "host": machine.host,
        "port": machine.port,
        "username": machine.user,
        "password": "",
        "prompt": PROMPT,
        "timeout": 3 * TIMEOUT,
        "preferred_authentication": "publickey",
        "user_known_hosts_file": str(access.known_hosts or Path.home() / ".ssh" / "known_hosts"),
        "extra_cmdline": shlex.join([*access.options(), *back]),
    }


def write_configuration(path: Path, machines: Sequence[SshTarget], access: Access, status: StatusPorts) -> None:
    """Write the slots, and the configuration file of an Avocado job on them.

    The spawner's time limits stay as they are, 4 hours for a group: from a file it takes them as text, and fails.

    :param path: of the file; the slots lie beside it.
    """
    slots = []
    for number, machine in enumerate(machines):
        place = path.with_name(f"slot-{number}.json")
        place.write_text(json.dumps(slot(machine, access, status)), encoding="utf-8")
        slots.append(str(place))
    # The shell stays the same: what is set before one group still holds for the next.
    enter = f"cd {shlex.quote(str(access.checkout))} && export PATH={shlex.quote(f'{access.checkout}/.venv/bin')}:$PATH"
    lines = [
        "[spawner.remote]",
        f"slots = {json.dumps(slots)}",
        f"setup_hook = {enter}",
        "[run]",
        "spawner = remote",
        "status_server_auto = False",
        f"status_server_listen = 127.0.0.1:{status.server}",
        f"status_server_uri = 127.0.0.1:{status.mouth}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
