# SPDX-License-Identifier: GPL-2.0-or-later
"""Emulated hosts on demand: restored from a saved state that is made once, proved to be it, or else booted cold."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import DeadlineError, MachineError
from common.progress import Terminal
from common.store import GIB, Store
from host_setup.hosts.base import HOST_PROGRAMS
from host_setup.hosts.emulated import EmulatedHost, EmulatedSpec
from host_setup.hosts.guest import PROGRAMS

EXPECTED_COLD = 15.0  # seconds
NONCE_BYTES = 16
BOOT_LOG = "console.log"
SAVES = 10  # moments tried


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved state: QEMU's stream, what the memory of host and guest must hold, and the console until then."""

    stream: Path
    host_nonce: str
    guest_nonce: str
    boot_log: str


class NotPristineError(MachineError):
    """What was restored is not the saved state, or somebody used it before."""

    stage = "restore"


class EmulatedHosts:
    """Hands out running emulated hosts of one shape.

    :param folder: where each host gets a folder for its logs. :param note: told, in words, about each fallback.
    """

    def __init__(
        self, spec: EmulatedSpec, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
    ) -> None:
        self.spec = spec
        self._store = store
        self._terminal = terminal
        self._folder = folder
        self._note = note
        self._count = 0
        self.fallbacks = 0

    def start(self) -> EmulatedHost:
        """A pristine host with its guest, running: restored, or booted cold when a restore proves wrong.

        :raises MachineError: it does not even boot cold.
        """
        saved = self.saved()
        try:
            return self.restore(saved)
        except (MachineError, DeadlineError) as error:
            self.fallbacks += 1
            self._note(f"restore failed, booting cold instead: {error}")
            return self.cold()

    def cold(self) -> EmulatedHost:
        """A host booted from nothing, its guest too."""
        host = EmulatedHost(self.spec, self._next_folder())
        try:
            host.boot()
        except BaseException:
            host.close()
            raise
        return host

    def restore(self, saved: Saved) -> EmulatedHost:
        """A host in the saved state, proved by its nonces.

        :raises NotPristineError: the nonces are not the saved ones, or were asked for before.
        """
        host = EmulatedHost(self.spec, self._next_folder(), state=saved.stream)
        try:
            self.prove(host, saved)
        except BaseException:
            host.close()
            raise
        return host

    @staticmethod
    def prove(host: EmulatedHost, saved: Saved) -> None:
        """Check that host and guest are in the saved state and untouched since.

        :raises NotPristineError: they are not.
        """
        wanted = ({"nonce": saved.host_nonce, "asked": 0}, {"nonce": saved.guest_nonce, "asked": 0})
        texts = host.nonces()
        try:
            found: tuple[object, ...] = tuple(json.loads(text) for text in texts)
        except ValueError:  # a broken restore may say anything
            found = texts
        if found != wanted:
            raise NotPristineError(f"memory of host and guest holds {found}, saved was {wanted}")

    def saved(self) -> Saved:
        """The saved state, made by a cold boot if the cache lacks it."""
        folder = self._store.get_or_make("snapshot", self.spec.key, self._save, need=GIB)
        nonces = json.loads((folder / "nonces.json").read_text(encoding="ascii"))
        said = (folder / BOOT_LOG).read_text(encoding="utf-8", errors="replace")
        return Saved(folder / "state", nonces["host"], nonces["guest"], said)

    def _save(self, folder: Path) -> None:
        with self._terminal.step("first boot of host and guest", expected=EXPECTED_COLD):
            host = self.cold()
            try:
                nonces = {who: secrets.token_hex(NONCE_BYTES) for who in ("host", "guest")}
                setters = {"host": (host.ssh, HOST_PROGRAMS), "guest": (host.guest.ssh, PROGRAMS)}
                for who, (ssh, programs) in setters.items():
                    ssh.run([f"{programs}/nonce", "set", nonces[who]], seconds=20).require()
                (folder / "nonces.json").write_text(json.dumps(nonces), encoding="ascii")
                host.detach()
                self._save_loadable(host, folder)
            finally:
                host.close()
            (folder / BOOT_LOG).write_text(host.kernel_log(), encoding="utf-8")

    def _save_loadable(self, host: EmulatedHost, folder: Path) -> None:
        """Save the host in a moment in which QEMU can load it again.

        QEMU refuses a state in which an emulated CPU runs the nested guest (target/i386/machine.c, cpu_post_load():
        "vCPU set in guest-mode"), and tells so only when it loads it. The guest idles most of the time: another
        moment will do.

        :raises MachineError: no moment was good.
        """
        trouble: MachineError | DeadlineError | None = None
        for _ in range(SAVES):
            host.save(folder / "state")
            try:
                EmulatedHost(self.spec, self._next_folder(), state=folder / "state").close()
            except (MachineError, DeadlineError) as error:
                trouble = error
                host.resume()
            else:
                return
        raise MachineError(f"of {SAVES} saved states none could be loaded; the last: {trouble}")

    def _next_folder(self) -> Path:
        self._count += 1
        folder = self._folder / f"host-{self._count}"
        if folder.exists():
            shutil.rmtree(folder)
        return folder
