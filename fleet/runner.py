# SPDX-License-Identifier: GPL-2.0-or-later
"""Avocado's runner of the kind ``sealproof``: pytest runs one group of claims here, and the run's folder is delivered.

A spawner starts it as ``python3 -m fleet.runner task-run ...`` on whatever machine it chose. The folder travels as
messages over Avocado's own channel, so a machine needs no file system in common with who gave the order.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avocado.core.nrunner.app import BaseRunnerApp
from avocado.core.nrunner.runner import BaseRunner
from avocado.core.utils.messages import FileMessage, FinishedMessage, RunningMessage, StartedMessage, StdoutMessage

from common.environment import environment
from common.paths import PROJECT
from common.program import hear_how_programs_end
from common.waiting import Deadline
from fleet.resolver import KIND
from signoff.verdict import Status

PART = "part.tar.gz"
"""The delivered folder's name among an Avocado test's results."""
CHUNK = 1 << 17  # bytes a message; Avocado's server takes lines of up to 32 MiB
BEAT = 0.5  # seconds between two signs of life
_RESULTS = ((Status.FAIL, "fail"), (Status.ERROR, "error"), (Status.MISS, "error"), (Status.PASS, "pass"))
Message = dict[str, Any]


class SealproofRunner(BaseRunner):  # type: ignore[misc]  # Avocado has no types
    """Runs a group. The runnable's ``args`` are the arguments of pytest."""

    name = KIND
    description = "Runner of groups of claims of a sealproof sign-off"

    def run(self, runnable: Any) -> Iterator[Message]:
        """Avocado's protocol: what to tell about the run, as it goes on."""
        yield StartedMessage.get()
        with tempfile.TemporaryDirectory(prefix="sealproof-part-") as name:
            folder = Path(name)
            command = command_line(runnable.args, folder / "reports")
            yield StdoutMessage.get(f"$ {shlex.join(command)}\n".encode())
            with (folder / "output").open("w+b") as output:
                yield from _run(command, output)
            yield StdoutMessage.get((folder / "output").read_bytes())
            yield from _deliver(folder / "reports")


def command_line(arguments: Sequence[str], reports: Path) -> list[str]:
    """The pytest run; it ends in order when this process dies."""
    python = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "pytest"]
    return [*python, *arguments, "--reports", str(reports), "--machine", machine_name()]


def machine_name() -> str:
    """What the report calls this machine: its host name, and where it was reached if that was by SSH."""
    reached = os.environ.get("SSH_CONNECTION", "").split()  # address and port of the client, of the server: ssh(1)
    return f"{socket.gethostname()} ({reached[2]}:{reached[3]})" if len(reached) == 4 else socket.gethostname()


def _run(command: Sequence[str], output: io.BufferedRandom) -> Iterator[Message]:
    """Run to the end, with signs of life."""
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            yield RunningMessage.get()
            beat = Deadline(BEAT)
            while process.poll() is None and not beat.is_over():
                time.sleep(0.02)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _deliver(reports: Path) -> Iterator[Message]:
    """The run's folder, and how its claims fared."""
    # Beside it is a link to it, "latest".
    folders = [path.parent for path in reports.glob("*/record.json") if not path.parent.is_symlink()]
    if not folders:
        yield FinishedMessage.get("error", "pytest produced no report; see the output")
        return
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folders[0], arcname=folders[0].name)
    content = packed.getvalue()
    for at in range(0, len(content), CHUNK):
        yield FileMessage.get(content[at : at + CHUNK], PART)
    yield FinishedMessage.get(*_result(folders[0]))


def _result(folder: Path) -> tuple[str, str]:
    """Avocado's word for the group, and why: only claims that were tried count, as the others are of other groups."""
    lines = (folder / "claims.jsonl").read_text(encoding="utf-8").splitlines()
    tried = [entry for entry in map(json.loads, lines) if entry["command"]]
    for status, word in _RESULTS:
        claims = [entry for entry in tried if entry["status"] == status]
        if claims:
            return word, "" if status is Status.PASS else f"{status}: {', '.join(claim['id'] for claim in claims)}"
    return ("skip", "SKIP") if tried else ("error", "no claim was tried; see the output")


class RunnerApp(BaseRunnerApp):  # type: ignore[misc]  # Avocado has no types
    """The command line that spawners use."""

    PROG_NAME = "avocado-runner-sealproof"
    PROG_DESCRIPTION = "nrunner application for groups of claims of a sealproof sign-off"
    RUNNABLE_KINDS_CAPABLE = [KIND]  # noqa: RUF012  Avocado's own convention


def main() -> None:
    """Run. When a spawner ends it, its pytest ends in order and nothing is left behind."""
    hear_how_programs_end()
    for request in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(request, lambda number, _: sys.exit(128 + number))
    RunnerApp(print).run()


if __name__ == "__main__":
    main()
