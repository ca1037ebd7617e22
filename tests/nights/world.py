# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the twenty nights pass: a checkout of its own, two series, a kernel's source, and a disk that gets full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from common.errors import SetupError
from common.paths import PROJECT, cache_root
from common.progress import Terminal
from common.store import Store
from common.waiting import Deadline, poll_until
from host_setup.kernel import debian_archive
from host_setup.kernel.source import DEBIAN_TARBALL
from tests.nights.seeds import (
    BOOTS,
    COMES,
    FAULT,
    FAULTY,
    FIRST_BAD,
    FULL,
    GOES_ON,
    KILLED,
    NAMED,
    NEWER,
    PLAIN,
    READS,
    SHAKES,
    SLEEPS,
    has_come,
    has_fault,
    is_newer,
    panics,
    seeds,
)

ONLY = " or ".join(("as_seeded", "kernel_stays_healthy", "cannot_read_private_page_by_proc_pid_mem", *NAMED))
"""The claims that are tried, for pytest's ``-k``."""
ENTRY = '\n[[claim]]\nid = "{}"\nsource = "a file"\nreason = "The file says it."\n'
DISK = 64  # MiB of a file system for reports that is full
SPACE = 64  # KiB that are left there
PATIENCE = 600.0  # seconds until a night that is to be killed has begun a run
MATRIX = """minutes = 60
exit_on = "regressions"
bisect = 1
[[cells]]
series = "{folder}/faulty"
mode = "protected"
only = "{only}"
[[cells]]
series = "{folder}/plain"
mode = "plain"
kernel = "{folder}/linux"
only = "{only}"
"""
HARMLESS = """Subject: [PATCH] {subject}

{subject}, and nothing else.

Signature-off-by: Somebody <somebody@example.org>
---
diff --git a/{file} b/{file}
new file mode 100644
--- /dev/null
+++ b/{file}
@@ -0,0 +1 @@
+/* {subject} */
"""
_HERE = Path(__file__).parent


class World:
    """Where the nights pass.

    :param folder: on the file system of the cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.history = folder / "history.sqlite"
        self.reports = folder / "reports"
        self._test = self.project / "tests_e2e/legitimate/test_seeded.py"
        self._contract = self.project / "tests_e2e/contract/legitimate-guest-life.toml"

    def make(self) -> None:
        """Make it, unless it is there."""
        if (self.folder / "made").exists():
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise SetupError(f"{self.folder} is not empty", hint="name a folder that is empty, or not there yet")
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(self.project)], check=True)
        shutil.copyfile(_HERE / "seeded.txt", self._test)
        subprocess.run(["sh", "host_setup/bootstrap.sh"], cwd=self.project, check=True)
        with self._contract.open("a", encoding="utf-8") as out:
            out.writelines(ENTRY.format(claim) for claim in (SHAKES, READS, BOOTS, SLEEPS))
        (self.folder / "seeds").mkdir()
        series = self.project / "host_setup/kernel/series"
        shutil.copytree(series / "protected-memory", self.folder / FAULTY)
        shutil.copytree(series / "stock", self.folder / PLAIN)
        (self.folder / "matrix.toml").write_text(MATRIX.format(folder=self.folder, only=ONLY), encoding="utf-8")
        (self.folder / "made").touch()

    def seed(self, night: int) -> None:
        """Make it what it is in a night."""
        for file in (self.folder / "seeds").iterdir():
            file.unlink()
        for cell, words in seeds(night).items():
            (self.folder / f"seeds/{cell}.json").write_text(json.dumps(words), encoding="utf-8")
        self._patch_faulty(present=has_fault(night))
        self._patch_plain(present=panics(night))
        self._link(NEWER if is_newer(night) else "")
        if has_come(night):
            for file in (self._test, self._contract):
                file.write_text(file.read_text(encoding="utf-8").replace(SLEEPS, COMES), encoding="utf-8")

    def _patch_faulty(self, *, present: bool) -> None:
        fault = self.project / f"host_setup/kernel/faults/protected-memory/{FAULT}.patch"
        _write_patches(
            self.folder / FAULTY,
            {
                "0101-a.patch": HARMLESS.format(subject="mm: a remark", file="mm/seeded-a.h"),
                FIRST_BAD: fault.read_text(encoding="utf-8"),
                "0103-c.patch": HARMLESS.format(subject="mm: another remark", file="mm/seeded-c.h"),
            },
            present=present,
        )

    def _patch_plain(self, *, present: bool) -> None:
        _write_patches(
            self.folder / PLAIN, {"0101-a.patch": (_HERE / "panics.patch").read_text("utf-8")}, present=present
        )
        series = (self.project / "host_setup/kernel/series/stock/series.toml").read_text(encoding="utf-8")
        none = series.replace("mode =", 'patches = "none"\nmode =')
        (self.folder / PLAIN / "series.toml").write_text(series if present else none, encoding="utf-8")

    def _link(self, release: str) -> None:
        to = debian_archive.tarball(release, Store(cache_root()), Terminal()) if release else DEBIAN_TARBALL
        fresh = self.folder / "linux.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(to)
        fresh.replace(self.folder / "linux")

    def night(self, night: int) -> int:
        """Run a night; returns its exit status. A night that is killed and goes on is run twice."""
        if night == GOES_ON:
            self._run(night, kill=True)
        return self._run(night, kill=night == KILLED)

    def _run(self, night: int, *, kill: bool) -> int:
        # After the night that is killed for good the next one is a new one.
        argv = [
            *self._command("nightly"),
            str(self.folder / "matrix.toml"),
            *(["--new"] if night == KILLED + 1 else []),
        ]
        argv += ["--reports", str(self.reports)]
        if night == FULL:
            argv = self._on_a_full_disk(argv)
        argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]  # it ends when this program is ended
        begun = time.monotonic()
        earlier = self._runs()
        with (self.folder / f"night-{night:02}.log").open("ab") as out:
            process = subprocess.Popen(argv, cwd=self.project, stdout=out, stderr=subprocess.STDOUT)
            try:
                if kill:
                    self._kill_at_work(process, earlier)
                status = process.wait()
            finally:
                process.terminate()
                process.wait()
        print(f"night {night:2}: {time.monotonic() - begun:5.1f} s, exit status {status}", flush=True)  # noqa: T201
        return status

    def _kill_at_work(self, process: subprocess.Popen[bytes], earlier: set[Path]) -> None:
        """Kill a night as soon as it has begun a run."""
        poll_until(
            lambda: process.poll() is not None or self._runs() > earlier, Deadline(PATIENCE), "a run to be killed"
        )
        os.kill(process.pid, signal.SIGKILL)

    def ask(self, *words: str) -> tuple[int, str]:
        """What ``sealproof history`` says, and its exit status."""
        done = subprocess.run(
            self._command("history", *words), cwd=self.project, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def _command(self, *words: str) -> list[str]:
        python = str(self.project / ".venv/bin/python")
        return [python, "-m", "cli", *words, "--history", str(self.history)]

    def _runs(self) -> set[Path]:
        """The folders of all runs."""
        return set(self.reports.glob("2*/*/2*"))

    def _on_a_full_disk(self, argv: list[str]) -> list[str]:
        """The same in a mount namespace where hardly any space is left for reports; it goes with the command."""
        root = [] if os.geteuid() == 0 else ["--map-root-user"]
        filler = (DISK << 20) - (SPACE << 10)
        script = (
            f'mount -t tmpfs -o size={DISK}m none "$1" && head -c {filler} /dev/zero > "$1/filler"'
            ' && shift && exec "$@"'
        )
        return ["unshare", "--mount", *root, "sh", "-c", script, "sh", str(self.reports), *argv]


def _write_patches(folder: Path, files: dict[str, str], *, present: bool) -> None:
    for name, text in files.items():
        if present:
            (folder / name).write_text(text, encoding="utf-8")
        else:
            (folder / name).unlink(missing_ok=True)
