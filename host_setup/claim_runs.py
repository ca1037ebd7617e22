# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs claims on a kernel of our own making, by the command that users have: ``pytest tests_e2e --series ...``.

The kernel is found in a cache beside the user's. All that it does not change is a link to the user's cache there; the
kernel, its modules, its saved state and what it was given are removed when it is done with.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DeadlineError
from common.paths import PROJECT
from common.processes import spawn
from common.store import Store
from common.waiting import Deadline, poll_until

SET_UP = 300.0  # seconds for boot and saved state, on a busy machine
EACH = 20.0  # seconds for a claim, on average, on a busy machine
_ENDING = 120.0  # seconds for a run that was told to end, to write its report
SHARED_KINDS = ("identity", "rootfs", "programs", "keys", "ccache")
_OWN = ("kernel", "module", "payload", "snapshot", "scratch", "logs")
_TEST = re.compile(r"^def test_(\w+)\([^)]*\b(?:trial|attack)\b", re.MULTILINE)
_FOLDERS = ("attacks", "boundaries", "legitimate", "health")
HARM = "the probe did harm:"  # Trial.result()'s words


def claim_tests(project: Path) -> dict[str, str]:
    """The test of each claim, as pytest names it, in the order of folders and files."""
    tests_of = {}
    for folder in _FOLDERS:
        for file in sorted((project / "tests_e2e" / folder).glob("test_*.py")):
            for name in _TEST.findall(file.read_text(encoding="utf-8")):
                tests_of[name] = f"{file.relative_to(project)}::test_{name}"
    return tests_of


class OwnCache:
    """A cache for one kernel after the other.

    :param user: the user's cache. :param root: of this one, on the file system of the user's.
    :param shared_kinds: kinds of entries that both share.
    """

    def __init__(self, user: Store, root: Path, shared_kinds: Sequence[str] = SHARED_KINDS) -> None:
        self.store = Store(root)
        self._user = user
        self._shared_kinds = shared_kinds

    def lend(self) -> None:
        """Share what is the user's."""
        self.store.root.mkdir(parents=True, exist_ok=True)
        for kind in self._shared_kinds:
            link, target = self.store.root / kind, self._user.root / kind
            target.mkdir(exist_ok=True)
            if not link.exists():
                link.symlink_to(target)

    def take_back(self) -> None:
        """Remove the kernel, and all that was made of it."""
        for kind in _OWN:
            shutil.rmtree(self.store.root / kind, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class ClaimRun:
    """A run of claims that has ended.

    :ivar report: its ``signoff.json``; None if it wrote none. :ivar folder: the run's; None if it opened none.
    :ivar late: why it was ended before it was done; empty if it was not. :ivar output: what it printed.
    """

    report: dict[str, Any] | None
    folder: Path | None
    late: str
    output: str

    @property
    def failed_set_up(self) -> list[str]:
        """What it said of a set-up that failed."""
        return [line for line in self.output.splitlines() if "the set-up failed" in line]

    @property
    def host_was_started(self) -> bool:
        """Whether it came as far as a host."""
        return self.folder is not None and any(self.folder.glob("hosts/host-*"))

    @property
    def tried_claims(self) -> dict[str, dict[str, Any]]:
        """The claims that were tried, by name, as the report has them."""
        return {row["id"]: row for row in (self.report or {"claims": ()})["claims"] if row["command"]}


def run_claims(nodes: Sequence[str], words: Sequence[str], cache: Store, reports: Path, log: Path) -> ClaimRun:
    """Try claims by pytest, and wait for its end; a run that takes too long is ended.

    The user may be anywhere, in a kernel tree for instance, whose folders Python must not take for ours.

    :param nodes: the tests, as ``claim_tests`` names them. :param words: further options.
    :param log: gets what it prints.
    :param reports: an empty folder for its report, or one that is not there.
    """
    late = run_pytest(
        [*(str(PROJECT / node) for node in nodes), *words, "--cache-folder", str(cache.root)],
        reports, log, Deadline(SET_UP + EACH * len(nodes)),
    )  # fmt: skip
    return read_run(reports, log, late)


def run_pytest(words: Sequence[str], reports: Path, log: Path, deadline: Deadline) -> str:
    """Run pytest as users do, and wait for its end; returns why it was ended before it was done, or nothing.

    When this process is interrupted, pytest is told to end, and writes its report first.

    :param words: the tests, by absolute paths, and options. :param reports: the folder for its report.
    :param log: gets what it prints.
    """
    argv = [
        sys.executable, "-E", "-P", "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *words,
        "--reports", str(reports.absolute()),
    ]  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = spawn(argv, stdout=out, stderr=subprocess.STDOUT)
        try:
            poll_until(lambda: process.poll() is not None, deadline, "the claims to be tried", interval=0.5)
        except DeadlineError:
            _end(process)
            return f"the claims were not done within {deadline.seconds:.0f} s"
        except KeyboardInterrupt:
            _end(process)
            raise
        finally:
            process.kill()
            process.wait()
    return ""


def read_run(reports: Path, log: Path, late: str) -> ClaimRun:
    """What a run has left.

    :param reports: the folder that it was given. :param log: what it printed. :param late: why it was ended, if it was.
    """
    folders = sorted(path for path in reports.glob("*") if path.is_dir() and not path.is_symlink())
    file = folders[-1] / "signoff.json" if folders else None
    report = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.exists() else None
    log_text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return ClaimRun(report, folders[-1] if folders else None, late, log_text)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        poll_until(lambda: process.poll() is not None, Deadline(_ENDING), "the run to end", interval=0.5)
    except DeadlineError:
        return  # it is killed
