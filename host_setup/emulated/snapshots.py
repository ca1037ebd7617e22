# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts of QEMU's on demand: restored from a saved state that is made once, proved to be it, or else booted cold."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import DeadlineError, HarmError, MachineError
from common.progress import Terminal
from common.store import Store
from host_setup.emulated.host import EmulatedHost, EmulatedSpec
from host_setup.emulated.local_hosts import LocalHosts
from host_setup.hosts import kernel_log

EXPECTED_COLD = 15.0  # seconds
NONCE_BYTES = 16
BOOT_LOG = "console.log"
MEMORY, STATE = "memory", "state"  # files
FIRST_BOOTS = 3  # tried
SAVES = 10  # moments tried
REST_OF_STATE = 64  # MiB, with room to spare
MIB = 1 << 20
WRONG_CLOCK = "user requested TSC rate below hardware speed"  # Linux 6.12: arch/x86/kvm/x86.c set_tsc_khz()


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved state: the host's memory and QEMU's stream, what that memory must hold, and the console until then.

    :ivar nonces: of ``host``, and of each guest by its name.
    """

    memory: Path
    stream: Path
    nonces: Mapping[str, str]
    boot_log: str


class NotPristineError(MachineError):
    """The restored machine does not have the saved state, or was already used."""

    stage = "restore"


class EmulatedHosts(LocalHosts[EmulatedHost]):
    """Hands out running hosts of one shape, emulated or nested.

    :param folder: as of ``LocalHosts``. :param note: told, in words, about each fallback.
    """

    def __init__(
        self, spec: EmulatedSpec, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
    ) -> None:
        super().__init__(folder)
        self.spec = spec
        self._store = store
        self._terminal = terminal
        self._note = note
        self.fallbacks = 0

    def start(self) -> EmulatedHost:
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

    def cold(self, cmdline: str = "", *, alone: bool = False) -> EmulatedHost:
        """A host booted from nothing, its guests too.

        :param cmdline: added to its kernel's command line. :param alone: without guests.
        """
        spec = replace(self.spec, command_line=f"{self.spec.command_line} {cmdline}".rstrip())
        host = EmulatedHost(replace(spec, guests=()) if alone else spec, self._next_folder())
        return self._boot_cold(host, alone=alone)

    def _first_boot(self, memory: Path) -> EmulatedHost:
        """Boot for the state to be saved, on which the whole run rests; again, with a note, if the machine is lost.

        A host whose kernel said that something is wrong is not tried again: that is a finding.

        :raises MachineError: no boot went well, or a kernel was not well. :raises HarmError: the host's kernel died.
        """
        for tries_left in reversed(range(FIRST_BOOTS)):
            memory.unlink(missing_ok=True)  # what an earlier boot left in it
            host = EmulatedHost(self.spec, self._next_folder(), memory=memory)
            try:
                host.boot()
                self._unhurt(host)
            except (MachineError, DeadlineError) as error:
                died = host.vitals.harm
                host.close()
                if not tries_left or kernel_log.splats(host.kernel_log()):
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
    def _unhurt(host: EmulatedHost) -> None:
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

    def restore(self, saved: Saved) -> EmulatedHost:
        """A host in the saved state, proved by its nonces.

        :raises NotPristineError: the nonces are not the saved ones, or were asked for before.
        """
        host = EmulatedHost(self.spec, self._next_folder(), memory=saved.memory, state=saved.stream)
        try:
            self.prove(host, saved)
        except BaseException:
            host.close()
            raise
        return host

    @staticmethod
    def prove(host: EmulatedHost, saved: Saved) -> None:
        """Check that host and guests are in the saved state and untouched since.

        :raises NotPristineError: they are not.
        """
        expected = {who: {"nonce": nonce, "asked": 0} for who, nonce in saved.nonces.items()}
        texts = host.nonces()
        try:
            memory: dict[str, object] = {who: json.loads(text) for who, text in texts.items()}
        except ValueError:  # a broken restore may say anything
            memory = dict(texts)
        if memory != expected:
            raise NotPristineError(f"memory of host and guests holds {memory}, but {expected} was saved")

    def saved_state(self) -> Saved:
        """The saved state, made by a cold boot if the cache lacks it."""
        need = (self.spec.memory + REST_OF_STATE) * MIB  # a host that had used all its memory
        folder = self._store.get_or_make("snapshot", self.spec.key, self._save, need=need)
        nonces = json.loads((folder / "nonces.json").read_text(encoding="ascii"))
        boot_log = (folder / BOOT_LOG).read_text(encoding="utf-8", errors="replace")
        return Saved(folder / MEMORY, folder / STATE, nonces, boot_log)

    def first_log(self) -> str:
        """What the kernel said before the first host was handed out: the boot of the saved state."""
        return self.saved_state().boot_log

    def close(self) -> None:
        """Do nothing: each host ends with its QEMU."""

    def _save(self, folder: Path) -> None:
        guests = "guest" if len(self.spec.guests) == 1 else "guests"
        with self._terminal.step(f"first boot of host and {guests}", expected=EXPECTED_COLD):
            host = self._first_boot(folder / MEMORY)
            try:
                machines = ("host", *(guest.name for guest in self.spec.guests))
                nonces = {who: secrets.token_hex(NONCE_BYTES) for who in machines}
                host.set_nonces(nonces)
                (folder / "nonces.json").write_text(json.dumps(nonces), encoding="ascii")
                host.detach()
                host.rest()
                self._save_loadable(host, folder)
            finally:
                host.close()
            (folder / BOOT_LOG).write_text(host.kernel_log(), encoding="utf-8")

    def _save_loadable(self, host: EmulatedHost, folder: Path) -> None:
        """Save the host in a moment in which QEMU can load it again.

        QEMU refuses a state in which an emulated CPU runs a nested guest (target/i386/machine.c, cpu_post_load():
        "vCPU set in guest-mode"), and tells so only when it loads it. The guests idle most of the time: another
        moment will do.

        :raises MachineError: no moment was good.
        """
        trouble: MachineError | DeadlineError | None = None
        for _ in range(SAVES):
            host.save(folder / STATE)
            try:
                EmulatedHost(self.spec, self._next_folder(), memory=folder / MEMORY, state=folder / STATE).close()
            except (MachineError, DeadlineError) as error:
                trouble = error
                host.resume()
            else:
                return
        raise MachineError(f"of {SAVES} saved states none could be loaded; the last error: {trouble}")
