# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cases work with: a running stand-in for a real machine, a kernel, and a look at it behind a run's back."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DeadlineError, SealproofError
from common.processes import spawn
from common.progress import Terminal
from common.store import Store
from common.waiting import Deadline, poll_until
from guest_images.keys import Keys, keys
from guest_images.programs import Programs
from guest_images.rootfs import RootFs, rootfs
from host_setup.inventory import Remote
from host_setup.kernel.build import BuiltKernel
from host_setup.provision import Settings, kernel_for_machines
from host_setup.remote.control import KEEPER_DIR, Control
from host_setup.remote.leased import Leased, LeaseState
from tests.hosts.standin.image import DISK_BYTES
from tests.hosts.standin.machine import BOOT, Standin, copy_disk

LEASE = 30  # seconds, in the cases in which it runs out
LOOK = 180.0  # seconds for a look at all files
SETTLE = 30.0  # seconds in which the last of the keeper may still be going
# All files of the machine but what every boot writes: logs, leases, seeds, caches. And what systemd knows of us.
_LOOK = r"""
find / -xdev \( -path /var/log -o -path /tmp -o -path /var/tmp -o -path /var/lib/systemd \) -prune \
    -o -type f -printf '%p %s\n' -o -printf '%p %y\n' | sort
systemctl list-units --all --plain --no-legend 'sealproof*'
ls -d /run/sealproof* 2> /dev/null || :
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """All that is made before the machine starts."""

    disk: Path
    root: RootFs
    keys: Keys
    kernel: BuiltKernel
    programs: Programs


def make(settings: Settings, store: Store, terminal: Terminal, disk: Callable[[], Path]) -> Parts:
    """Make or find it, with progress on the terminal.

    :param disk: makes or finds the machine's.
    """
    kernel, programs = kernel_for_machines(settings, store, terminal)
    return Parts(disk(), rootfs(store, terminal), keys(store), kernel, programs)


class Bench:
    """A running stand-in, and what a case does with it.

    :param folder: for consoles and logs. :param attach: further arguments of QEMU's, for a machine with such a folder.
    """

    def __init__(
        self,
        made: Parts,
        terminal: Terminal,
        folder: Path,
        attach: Callable[[Path], Sequence[str]] = lambda _: (),
    ) -> None:
        self.kernel, self.programs, self.keys = made.kernel, made.programs, made.keys
        self.terminal = terminal
        self.folder = folder
        self._made = made
        self._attach = attach
        self._machines = self._runs = 0
        self._start()

    def _start(self) -> None:
        self._machines += 1
        folder = self.folder / f"standin-{self._machines}"
        folder.mkdir(parents=True)
        self._disk = folder / "disk"
        copy_disk(self._made.disk, self._disk)
        self.standin = Standin(self._disk, self._made.root, self.keys, folder, self._attach(folder))
        try:
            with self.terminal.step("boot of the stand-in, by its own boot loader", expected=40):
                self.standin.wait_until_up()
            self._behind = Control("the stand-in", self.standin.entry())
            self.pristine = self.look()
        except BaseException:
            self.standin.close()
            raise

    def renew(self, *, keep_disk: bool = False) -> None:
        """Begin again with a machine that no case has touched.

        :param keep_disk: the old machine's stays, beside its console, for whoever wants to look.
        """
        self.close(keep_disk=keep_disk)
        self._start()

    def close(self, *, keep_disk: bool = False) -> None:
        """Pull the plug."""
        self._behind.close()
        self.standin.close()
        if not keep_disk:
            self._disk.unlink(missing_ok=True)

    def look(self) -> str:
        """What the machine is now: its kernel, and all its files."""
        self.standin.vitals.check()
        self._behind.connect(Deadline(BOOT))
        files = self._behind.run(["sh", "-c", _LOOK], seconds=LOOK).require().text
        return files + "\n" + self._behind.keeper("manifest", seconds=LOOK).require().text

    def changed(self) -> list[str]:
        """What is not as it was before the first case: lines that are gone (-) and new ones (+); empty if all is."""
        changes: list[str] = []

        def same() -> bool:
            before, after = self.pristine.splitlines(), self.look().splitlines()
            lost, new = set(before) - set(after), set(after) - set(before)
            changes[:] = [*(f"- {line}" for line in sorted(lost)), *(f"+ {line}" for line in sorted(new))]
            return not changes

        try:
            poll_until(same, Deadline(SETTLE), "the machine to be as it was", interval=5.0)
        except DeadlineError:
            return changes
        return []

    def run(self, *argv: str, seconds: float = 60) -> str:
        """Run a command on the machine, behind the run's back; it may have booted since the last one."""
        self._behind.connect(Deadline(BOOT))
        return self._behind.run(argv, seconds=seconds).require().text

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file of the machine, behind the run's back."""
        self._behind.connect(Deadline(BOOT))
        self._behind.write_file(path, content, seconds=LOOK)

    def boot_id(self) -> str:
        """Which boot it is."""
        self._behind.connect(Deadline(BOOT))
        return self._behind.boot_id()

    def wait_for_another_boot(self, before: str) -> None:
        """Wait until it has booted again.

        :raises DeadlineError: it does not.
        """

        def another() -> bool:
            try:
                return self._behind.boot_id() != before
            except SealproofError:
                return False

        poll_until(another, Deadline(BOOT), "the stand-in to boot again", interval=1.0)

    def wait_until_gone(self) -> None:
        """Wait until the machine has given itself back.

        :raises DeadlineError: it does not.
        """

        def is_gone() -> bool:
            try:
                return self._behind.run(["test", "-e", KEEPER_DIR], seconds=20).status == 1
            except SealproofError:
                return False

        poll_until(is_gone, Deadline(LEASE + 2 * BOOT), "the stand-in to give itself back", interval=1.0)

    def lease(self, on_state: Callable[[LeaseState], None] = lambda _: None, /, **more: Any) -> Leased:
        """Lease it as a run does; ``more`` as ``Standin.entry`` takes it."""
        self._runs += 1
        folder, entry = self.folder / f"run-{self._runs}", self.standin.entry(**more)
        return Leased("standin", entry, folder, self.terminal, note=warnings.warn, on_state=on_state)

    def switch_off_and_on(self) -> None:
        """What a person does by hand."""
        subprocess.run(self.standin.power_command(), check=True, timeout=60)

    @contextmanager
    def disk_to_fill(self) -> Iterator[Callable[[], None]]:
        """Yields what fills its disk to the last block, root's own share included; in the end it is as before."""
        files = ("/var/tmp/filler", "/var/tmp/filler.2")
        # The first one asks for more than there is, gets what there is, and takes no time.
        script = f"fallocate -l {DISK_BYTES} {files[0]}; cat /dev/zero > {files[1]}"

        def fill() -> None:
            self.run("sh", "-c", f"({script}) 2> /dev/null; sync", seconds=600)

        try:
            yield fill
        finally:
            self.run("rm", "-f", *files, seconds=120)


def impatient(entry: Remote, seconds: int) -> Remote:
    """The same machine, whose boot is waited for so long."""
    return entry.model_copy(update={"limits": entry.limits.model_copy(update={"boot": seconds})})


def run_program(words: Sequence[str], log: Path, seconds: float) -> tuple[int, str]:
    """Run a Python program of ours to its end; its status (negative: a signal) and what it said.

    :raises DeadlineError: it does not end; it is killed then.
    """
    with log.open("w+b") as out:
        process = spawn([sys.executable, *words], stdout=out, stderr=out)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(f"waited {seconds:g} s for {' '.join(words)}", artefact=log) from error
        finally:
            process.kill()
            process.wait()
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")
