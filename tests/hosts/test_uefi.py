# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with UEFI firmware, whose boot loader is systemd-boot on a vfat partition: both are the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import KernelError
from common.paths import cache_root
from common.progress import Terminal
from common.store import Store
from guest_images.keys import keys
from host_setup.provision import Settings
from host_setup.remote.leased import bring_back_on_error
from tests.hosts.bench import Bench, make, run_program
from tests.hosts.standin.machine import uefi_disks, write_inventory
from tests.hosts.test_kernels_that_fail import PANIC


@pytest.fixture(scope="module")
def uefi(request: pytest.FixtureRequest, settings: Settings, logs: Path) -> Iterator[Bench]:
    """Such a machine."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        terminal, store, folder = Terminal(), Store(cache_root()), logs / "uefi"
        disks = uefi_disks(store, keys(store), terminal, folder / "install")
        bench = Bench(make(settings, store, terminal, lambda: disks.disk), terminal, folder, disks.attach)
    yield bench
    bench.close()


@pytest.fixture
def whole(uefi: Bench) -> Iterator[Bench]:
    """The machine, which must be as it was after the case."""
    yield uefi
    assert uefi.changed() == []


def test_systemd_boot(whole: Bench, say: Callable[[str], None]) -> None:
    """UEFI's firmware starts systemd-boot, which boots the kernel once."""
    leased = whole.lease(boot="systemd-boot")
    with bring_back_on_error(leased):
        leased.provision(whole.kernel, whole.programs)
        leased.boot()
    leased.restore()
    say("it ran the kernel, and came back")


def test_kernel_that_panics_by_systemd_boot(whole: Bench, say: Callable[[str], None]) -> None:
    """The kernel panics while it boots (systemd-boot)."""
    leased = whole.lease(boot="systemd-boot", command_line=PANIC)
    with pytest.raises(KernelError, match="back on its own") as caught, bring_back_on_error(leased):
        leased.provision(whole.kernel, whole.programs)
        leased.boot()
    assert "Kernel panic" in leased.console.text()
    say(caught.value.message.splitlines()[0])


def test_doctor_tells_systemd_boot_from_grub(whole: Bench, say: Callable[[str], None]) -> None:
    """Doctor takes systemd-boot for what booted it, and refuses boot = "grub"."""
    for boot, status, words in (("systemd-boot", 0, "ok"), ("grub", 1, "systemd-boot booted it, not GRUB")):
        inventory = write_inventory(whole.folder / f"{boot}.toml", whole.standin.entry(boot=boot))
        exit_status, output = run_program(
            ["-m", "host_setup.tools.remote_doctor", str(inventory)], whole.folder / "doctor.log", 120
        )
        assert exit_status == status, output
        assert words in output
    say(output.splitlines()[-2].strip())
