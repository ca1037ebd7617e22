# SPDX-License-Identifier: GPL-2.0-or-later
"""virtme-ng, the tool that ``make bench`` compares with: its installation, and one boot of it.

It comes from PyPI as ``virtme-ng.lock`` pins it, into an environment of its own in the cache.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from common.environment import search_path
from common.errors import CommandError, MachineError
from common.processes import run_tree
from common.progress import Terminal
from common.store import Store
from host_setup.tools import pypi

STAGE = "virtme-ng"
LOCK = Path(__file__).with_name("virtme-ng.lock")
PATIENCE = 180  # seconds for one boot and power-off
TIMED_OUT = 124  # status of timeout(1)
_COMMANDS = ("vng", "virtme-run")  # vng starts virtme-run by its name


def version_in_lock(lock: str) -> str:
    """The version that a lock file's text pins.

    :raises ValueError: it pins none.
    """
    return pypi.version_in_lock(lock, STAGE)


@dataclass(frozen=True, slots=True)
class VirtmeNg:
    """virtme-ng in a cache, where ``install`` puts it.

    :ivar key: of its entry in the cache. :ivar programs: the folder of its commands.
    """

    version: str
    key: str
    programs: Path

    @classmethod
    def of(cls, store: Store) -> VirtmeNg:
        """The one that the lock pins, installed or not."""
        key = pypi.key(LOCK, store)
        version = version_in_lock(LOCK.read_text(encoding="utf-8"))
        return cls(version, key, store.path(STAGE, key) / "bin")

    def install(self, store: Store, terminal: Terminal) -> None:
        """Install it if it is not there.

        :raises CommandError: pip could not.
        """
        pypi.install(STAGE, LOCK, _COMMANDS, store, terminal, run=run_tree)

    def argv(self, image: Path, command: str, *, qemu: Path, cpus: int, memory: int) -> list[str]:
        """The command that boots a kernel on this machine's root file system, read-only, to run one command.

        :param image: the bzImage. :param qemu: what runs it: the same that our machines run in. :param memory: MiB.
        """
        return [
            *("timeout", "--kill-after=5", str(PATIENCE), str(self.programs / "vng"), "--run", str(image)),
            # As our machines run: without KVM. And with 9p: virtio-fs, which it tries first, needs a virtiofsd, which
            # nothing of ours installs.
            *("--disable-kvm", "--force-9p", "--skip-modules", "--qemu", str(qemu)),
            # Where this machine has no udev, the output goes to the console, which only --verbose shows; that costs
            # nothing when the kernel is told to be quiet again.
            *("--verbose", "--append", "loglevel=1"),
            *("--cpus", str(cpus), "--memory", f"{memory}M", "--exec", command),
        ]

    def boot(self, image: Path, release: str, *, qemu: Path, cpus: int, memory: int, folder: Path) -> float:
        """Boot a kernel until ``uname -r`` has told its release, then wait, untimed, until all has ended.

        :param release: what it must tell. :param qemu: as of ``argv``. :param memory: MiB.
        :param folder: for its log and temporary files.
        :returns: seconds from the start of virtme-ng to the command's output.
        :raises MachineError: it failed, took too long, or ended without that output.
        """
        home = folder / "home"  # an empty one: a user's own virtme-ng.conf must not count
        home.mkdir(parents=True, exist_ok=True)
        log = folder / "vng.log"
        times: list[float] = []

        def look(line: str) -> None:
            if line.strip() == release:
                times.append(time.monotonic())

        path = f"{self.programs}{os.pathsep}{search_path()}"
        ours = {"PATH": path, "HOME": str(home), "TMPDIR": str(folder)}
        begun = time.monotonic()
        argv = self.argv(image, "uname -r", qemu=qemu, cpus=cpus, memory=memory)
        trouble = f"it ended with status 0, but its output does not name {release}"
        try:
            # In /, as it enters the folder that it is called in, and its guest has another /tmp.
            run_tree(argv, log=log, stage=STAGE, cwd=Path("/"), env=ours, on_line=look)
        except CommandError as error:
            how = f"is not done after {PATIENCE} s" if error.returncode == TIMED_OUT else f"status {error.returncode}"
            trouble = f"vng: {how}\n{error.tail}"
        # The output counts, not the status: that is 255 after a success too where this machine has no udev.
        if not times:
            raise MachineError(trouble, stage=STAGE, artefact=log, hint="repeat it by hand: the log's first line")
        return times[0] - begun
