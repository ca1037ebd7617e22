# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts of QEMU's on demand: their memory is in a file, all else in a stream of QEMU's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common.errors import DeadlineError, MachineError
from common.progress import Terminal
from common.store import Store
from host_setup.emulated.host import EmulatedHost, EmulatedSpec
from host_setup.emulated.saved import Saved, SavedHosts

EXPECTED_COLD = 15.0  # seconds
MEMORY, STATE = "memory", "state"  # files
SAVES = 10  # moments tried
REST_OF_STATE = 64  # MiB, with room to spare
MIB = 1 << 20


class EmulatedHosts(SavedHosts[EmulatedHost]):
    """Hands out running hosts of one shape, emulated or nested; parameters as of ``SavedHosts``."""

    _seconds_to_boot = EXPECTED_COLD

    def __init__(
        self, spec: EmulatedSpec, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
    ) -> None:
        super().__init__(spec.guests, store, terminal, folder, note=note)
        self.spec = spec

    def cold(self, cmdline: str = "", *, alone: bool = False) -> EmulatedHost:
        """A host booted from nothing, its guests too.

        :param cmdline: added to its kernel's command line. :param alone: without guests.
        """
        spec = replace(self.spec, command_line=f"{self.spec.command_line} {cmdline}".rstrip())
        host = EmulatedHost(replace(spec, guests=()) if alone else spec, self._next_folder())
        return self._boot_cold(host, alone=alone)

    def _entry(self, make: Callable[[Path], None]) -> Path:
        need = (self.spec.memory + REST_OF_STATE) * MIB  # a host that had used all its memory
        return self._store.get_or_make("snapshot", self.spec.key, make, need=need)

    def _to_be_saved(self, folder: Path) -> EmulatedHost:
        memory = folder / MEMORY
        memory.unlink(missing_ok=True)
        return EmulatedHost(self.spec, self._next_folder(), memory=memory)

    def _restored(self, saved: Saved) -> EmulatedHost:
        return self._load(saved.folder)

    def _load(self, folder: Path) -> EmulatedHost:
        return EmulatedHost(self.spec, self._next_folder(), memory=folder / MEMORY, state=folder / STATE)

    def _save_loadable(self, host: EmulatedHost, folder: Path) -> None:
        """As ``SavedHosts``.

        QEMU refuses a state in which an emulated CPU runs a nested guest (target/i386/machine.c, cpu_post_load():
        "vCPU set in guest-mode"), and tells so only when it loads it. The guests idle most of the time: another
        moment will do.
        """
        trouble: MachineError | DeadlineError | None = None
        for _ in range(SAVES):
            host.save(folder / STATE)
            try:
                self._load(folder).close()
            except (MachineError, DeadlineError) as error:
                trouble = error
                host.resume()
            else:
                return
        raise MachineError(f"of {SAVES} saved states none could be loaded; the last error: {trouble}")
