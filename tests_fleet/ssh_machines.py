# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are reached by SSH: each an sshd of our own on this machine's loopback, with keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.processes import spawn
from common.supervisor import descendants
from common.waiting import Deadline, poll_until

SSHD = Path("/usr/sbin/sshd")


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
        both = [word for one in (self.first, self.second) for word in ("--machine", one.target)]
        return [*both, "--ssh-key", str(self.key), "--known-hosts", str(self.known_hosts)]


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[SshMachines]:
    """Start two machines; they end with the block, and with this process."""
    if not SSHD.exists() or shutil.which("ssh-keygen") is None:
        pytest.skip(f"there is no {SSHD} (Debian: openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd does not start without it
    _new_key(folder / "user")
    started: list[SshMachine] = []
    try:
        started += (_start(folder, name) for name in ("first", "second"))
        hosts = [
            f"[127.0.0.1]:{one.port} {(folder / f'{name}.pub').read_text()}"
            for name, one in zip(("first", "second"), started, strict=True)
        ]
        (folder / "known_hosts").write_text("".join(hosts))
        yield SshMachines(*started, folder / "user", folder / "known_hosts")
    finally:
        for one in started:
            one.vanish()


def _new_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)


def _start(folder: Path, name: str) -> SshMachine:
    _new_key(folder / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / name}",
        f"AuthorizedKeysFile {folder / 'user.pub'}",
        *(
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
        ),
    ]
    (folder / f"{name}.conf").write_text("\n".join(settings) + "\n")
    with (folder / f"{name}.log").open("wb") as log:
        process = spawn([str(SSHD), "-D", "-e", "-f", str(folder / f"{name}.conf")], stderr=log)
    machine = SshMachine(port, process)
    poll_until(lambda: _listens(port), Deadline(20), f"sshd on port {port}", check=lambda: _lives(process))
    return machine


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lives(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        pytest.fail(f"sshd ended with status {process.returncode}")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""  # it ended while we looked
