# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts on demand: restored from a saved state that is made once, proved to be it, or else booted cold."""

from __future__ import annotations

import json
import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import DeadlineError, HarmError, MachineError
from common.progress import Terminal
from common.store import Store
from host_setup.emulated.local_hosts import HostT, LocalHosts
from host_setup.hosts import kernel_log
from host_setup.hosts.guest_spec import GuestSpec

NONCE_BYTES = 16
NONCES, BOOT_LOG = "nonces.json", "console.log"  # files
FIRST_BOOTS = 3  # tried
WRONG_CLOCK = "user requested TSC rate below hardware speed"  # Linux 6.12: arch/x86/kvm/x86.c set_tsc_khz()


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved state.

    :ivar folder: what the emulator needs to go on from there.
    :ivar nonces: what the memory of ``host``, and of each guest by its name, must hold.
    :ivar boot_log: the console until then.
    """

    folder: Path
    nonces: Mapping[str, str]
    boot_log: str


class NotPristineError(MachineError):
    """The restored machine does not have the saved state, or was already used."""

    stage = "restore"


class SavedHosts(LocalHosts[HostT]):
    """Hands out running hosts of one shape.

    :param guests: of each. :param folder: as of ``LocalHosts``. :param note: told, in words, about each fallback.
    """

    def __init__(
        self,
        guests: tuple[GuestSpec, ...],
        store: Store,
        terminal: Terminal,
        folder: Path,
        *,
        note: Callable[[str], None],
    ) -> None:
        super().__init__(folder)
        self._guests = guests
        self._store = store
        self._terminal = terminal
        self._note = note
        self.fallbacks = 0

    @abstractmethod
    def cold(self, cmdline: str = "", *, alone: bool = False) -> HostT:
        """A host booted from nothing, its guests too.

        :param cmdline: added to its kernel's command line. :param alone: without guests.
        """

    @abstractmethod
    def _to_be_saved(self, folder: Path) -> HostT:
        """A host that starts now, to be saved to a folder, in which an earlier one may have left something."""

    @abstractmethod
    def _restored(self, saved: Saved) -> HostT:
        """A host that goes on from a saved state."""

    @abstractmethod
    def _save_loadable(self, host: HostT, folder: Path) -> None:
        """Save a host that nobody uses, in a moment from which it can go on.

        :raises MachineError: no moment was good.
        """

    @abstractmethod
    def _entry(self, make: Callable[[Path], None]) -> Path:
        """The saved state's folder in the cache, made if it is not there."""

    @property
    @abstractmethod
    def _seconds_to_boot(self) -> float:
        """How long the first boot takes, as a guess for who waits."""

    def start(self) -> HostT:
        """A pristine running host with its guests: restored, or booted cold if the restore fails its check.

        :raises MachineError: it does not even boot cold.
        """
        saved = self.saved_state()
        try:
            host = self.restore(saved)
        except (MachineError, DeadlineError) as error:
            self.fallbacks += 1
            self._note(f"restore failed, booting cold instead: {error}")
            return self.cold()
        self.on_start(host)
        return host

    def _first_boot(self, folder: Path) -> HostT:
        """Boot for the state to be saved, on which the whole run rests; again, with a note, if the machine is lost.

        A host whose kernel said that something is wrong is not tried again: that is a finding.

        :raises MachineError: no boot went well, or a kernel was not well. :raises HarmError: the host's kernel died.
        """
        for retries in reversed(range(FIRST_BOOTS)):
            host = self._to_be_saved(folder)
            try:
                host.boot()
                self._unhurt(host)
            except (MachineError, DeadlineError) as error:
                died = host.vitals.harm
                host.close()
                if not retries or kernel_log.splats(host.kernel_log()):
                    if died:
                        raise HarmError(f"the host does not come up: {error.message}") from error
                    raise
                self._note(f"the first boot failed and is tried again: {error}")
            except BaseException:
                host.close()
                raise
            else:
                return host
        raise MachineError("no boot was tried")

    @staticmethod
    def _unhurt(host: HostT) -> None:
        """Check that no process of the host has died: the cause may also have damaged the state that is saved next.

        Also check that KVM knows the speed of its clock (see ``EmulatedSpec.cmdline``).

        :raises MachineError: one has, or it does not.
        """
        faults = kernel_log.user_faults(host.kernel_log())
        if faults:
            raise MachineError("a process of the host died while it booted:\n" + "\n".join(faults))
        if WRONG_CLOCK in host.kernel_log():
            raise MachineError(
                f"the clocks of its guests are wrong: the host's kernel says '{WRONG_CLOCK}'",
                hint="the host measured its clock on a busy machine: run again when the machine is less busy",
            )

    def restore(self, saved: Saved) -> HostT:
        """A host in the saved state, proved by its nonces.

        :raises NotPristineError: the nonces are not the saved ones, or were asked for before.
        """
        host = self._restored(saved)
        try:
            self.prove(host, saved)
        except BaseException:
            host.close()
            raise
        return host

    @staticmethod
    def prove(host: HostT, saved: Saved) -> None:
        """Check that host and guests are in the saved state and untouched since.

        :raises NotPristineError: they are not.
        """
        expected = {who: {"nonce": nonce, "asked": 0} for who, nonce in saved.nonces.items()}
        texts = host.nonces()
        try:
            memories: dict[str, object] = {who: json.loads(text) for who, text in texts.items()}
        except ValueError:  # a broken restore may say anything
            memories = dict(texts)
        if memories != expected:
            raise NotPristineError(f"memory of host and guests holds {memories}, but {expected} was saved")

    def saved_state(self) -> Saved:
        """The saved state, made by a cold boot if the cache lacks it."""
        folder = self._entry(self._save)
        nonces = json.loads((folder / NONCES).read_text(encoding="ascii"))
        return Saved(folder, nonces, (folder / BOOT_LOG).read_text(encoding="utf-8", errors="replace"))

    def first_log(self) -> str:
        """What the kernel said before the first host was handed out: the boot of the saved state."""
        return self.saved_state().boot_log

    def close(self) -> None:
        """Do nothing: each host ends with its emulator."""

    def _save(self, folder: Path) -> None:
        guests = "guest" if len(self._guests) == 1 else "guests"
        with self._terminal.step(f"first boot of host and {guests}", expected=self._seconds_to_boot):
            host = self._first_boot(folder)
            try:
                machines = ("host", *(guest.name for guest in self._guests))
                nonces = {who: secrets.token_hex(NONCE_BYTES) for who in machines}
                host.set_nonces(nonces)
                (folder / NONCES).write_text(json.dumps(nonces), encoding="ascii")
                host.detach()
                host.rest()
                self._save_loadable(host, folder)
            finally:
                host.close()
            (folder / BOOT_LOG).write_text(host.kernel_log(), encoding="utf-8")
