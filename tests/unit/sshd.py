# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenSSH's own server on this machine's loopback, with keys and settings of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.processes import spawn
from common.waiting import Deadline, poll_until

SSHD = Path("/usr/sbin/sshd")


@dataclass(frozen=True, slots=True)
class Sshd:
    """A server that runs.

    :ivar log: what it says, also of each login.
    """

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def require_sshd() -> None:
    """Skip the test, or all of its module, where there is no OpenSSH."""
    if not SSHD.exists() or shutil.which("ssh-keygen") is None:
        pytest.skip(f"there is no {SSHD} (Debian: openssh-server)", allow_module_level=True)


def new_key(path: Path, *words: str) -> Path:
    """A key as ssh-keygen makes it; Ed25519 without a passphrase unless the words say otherwise."""
    argv = ["ssh-keygen", "-q", "-f", str(path)]
    if "-t" not in words:
        argv += ["-t", "ed25519"]
    if "rsa" in words and "-b" not in words:
        argv += ["-b", "2048"]  # made in a third of the time
    if "-N" not in words:
        argv += ["-N", ""]
    subprocess.run([*argv, *words], check=True, timeout=60, stdin=subprocess.DEVNULL)
    return path


def start(folder: Path, name: str, host_keys: Sequence[Path], settings: Sequence[str]) -> Sshd:
    """Start one that knows nobody but whom the settings let in."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd does not start without it
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [
        *settings,  # the first word on a matter counts
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        *(f"HostKey {key}" for key in host_keys),
        *("PidFile none", "UsePAM no", "StrictModes no"),
        *("PasswordAuthentication no", "KbdInteractiveAuthentication no"),
    ]
    (folder / f"{name}.conf").write_text("\n".join(lines) + "\n")
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = spawn([str(SSHD), "-D", "-e", "-f", str(folder / f"{name}.conf")], stderr=out)

    def lives() -> None:
        if process.poll() is not None:
            pytest.fail(f"sshd ended with status {process.returncode}: {log.read_text()}")

    poll_until(lambda: _listens(port), Deadline(20), f"sshd on port {port}", check=lives)
    return Sshd(port, process, log)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
