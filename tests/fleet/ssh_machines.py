# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are reached by SSH: each an sshd of our own on this machine's loopback, with keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.supervisor import descendants
from tests.unit.sshd import new_key, require_sshd, start


@dataclass(frozen=True, slots=True)
class SshMachine:
    """One machine."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """As a report calls it."""
        return f"{socket.gethostname()} (127.0.0.1:{self.port})"

    @property
    def target(self) -> str:
        """As ``python -m fleet run --machine`` takes it."""
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def runs_a_group(self) -> bool:
        """Whether Avocado's runner is at work there, and has got as far as a pytest."""
        # Not "pytest" alone: that is in the name of the folder with this sshd's settings.
        return any("-m pytest" in _command(pid) for pid in descendants(self.process.pid))

    def vanish(self) -> None:
        """Go away with all that runs there, as a machine does whose power is cut."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True, slots=True)
class SshMachines:
    """Two machines, and what enters them."""

    first: SshMachine
    second: SshMachine
    key: Path
    known_hosts: Path

    @property
    def options(self) -> list[str]:
        """Of ``python -m fleet run``."""
        both = [word for machine in (self.first, self.second) for word in ("--machine", machine.target)]
        return [*both, "--ssh-key", str(self.key), "--known-hosts", str(self.known_hosts)]


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[SshMachines]:
    """Start two machines; they end with the block, and with this process."""
    require_sshd()
    new_key(folder / "user")
    started: list[SshMachine] = []
    try:
        started.extend(_start(folder, name) for name in ("first", "second"))
        hosts = [
            f"[127.0.0.1]:{machine.port} {(folder / f'{name}.pub').read_text()}"
            for name, machine in zip(("first", "second"), started, strict=True)
        ]
        (folder / "known_hosts").write_text("".join(hosts))
        first, second = started
        yield SshMachines(first, second, folder / "user", folder / "known_hosts")
    finally:
        for machine in started:
            machine.vanish()


def _start(folder: Path, name: str) -> SshMachine:
    new_key(folder / name)
    started = start(folder, name, [folder / name], [f"AuthorizedKeysFile {folder / 'user.pub'}"])
    return SshMachine(started.port, started.process)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""  # it ended while we looked
