# SPDX-License-Identifier: GPL-2.0-or-later
"""The common part of what hands out hosts that an emulator makes here: a folder for each, and a cold boot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from host_setup.emulated.local_host import LocalHost

HostT = TypeVar("HostT", bound=LocalHost)


class LocalHosts(Generic[HostT]):
    """Hosts of one emulator.

    :param folder: where each host gets a folder for its logs.
    :ivar on_start: is shown each host before it is handed out.
    """

    one_at_a_time = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.on_start: Callable[[HostT], None] = lambda _: None

    def _boot_cold(self, host: HostT, *, alone: bool) -> HostT:
        """Boot a host that was just made, and hand it out; it ends if that fails.

        :param alone: without guests. :raises MachineError: it does not boot.
        """
        try:
            host.boot_alone() if alone else host.boot()
        except BaseException:
            host.close()
            raise
        self.on_start(host)
        return host

    def _next_folder(self) -> Path:
        self._count += 1
        folder = self._folder / f"host-{self._count}"
        if folder.exists():
            shutil.rmtree(folder)
        return folder
