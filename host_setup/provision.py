# SPDX-License-Identifier: GPL-2.0-or-later
"""From options to hosts that can be started: kernel, images, payload, each from the cache or made now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserInputError
from common.progress import Terminal
from common.store import Store
from guest_images.keys import keys
from guest_images.payload import payload
from guest_images.programs import MODULES, programs
from guest_images.rootfs import rootfs
from host_setup.hosts.emulated import EmulatedSpec
from host_setup.hosts.guest import guests_for
from host_setup.hosts.snapshots import EmulatedHosts
from host_setup.kernel import series, source
from host_setup.kernel.build import Kernel, Request, build, module
from host_setup.kernel.layers import Layer
from host_setup.kernel.series import Mode
from host_setup.machine import DRIVEN, choose_host_kind, survey

KINDS = ("auto", *DRIVEN)
HOST_MEMORY = 832  # MiB, beside the guests' own


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose.

    :param host: ``auto`` or a kind of host. :param series: a name or a folder. :param kernel_source: a tree or tarball.
    :param layers: of the kernel's configuration, beyond the base.
    :param mode: how the guest under test is protected, as far as the series can.
    """

    host: str = "auto"
    series: str = series.DEFAULT
    kernel_source: Path | None = None
    layers: tuple[Layer, ...] = ()
    mode: Mode = Mode.PROTECTED


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A kernel, and hosts that boot it."""

    kernel: Kernel
    hosts: EmulatedHosts

    @property
    def config_sha256(self) -> str:
        """SHA-256 of the kernel's configuration file."""
        return hashlib.sha256(self.kernel.config.read_bytes()).hexdigest()


def host_kind(asked: str) -> str:
    """The kind of host to use; ``auto`` is what ``make doctor`` says.

    :raises UserInputError: a kind that is not there.
    """
    if asked not in KINDS:
        raise UserInputError(f"no host kind {asked}", stage="--host", hint=f"one of: {', '.join(KINDS)}")
    return choose_host_kind(survey()).kind if asked == "auto" else asked


def provision(
    settings: Settings, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
) -> Provisioned:
    """Make or find all that a host needs.

    :param folder: where the hosts' logs go. :param note: told about each restore that failed.
    """
    kernel, spec = prepare(settings, store, terminal)
    hosts = EmulatedHosts(spec, store, terminal, folder, note=note)
    hosts.saved()  # the first boot belongs to the set-up: it is shown, and not counted as a test's time
    return Provisioned(kernel, hosts)


def prepare(settings: Settings, store: Store, terminal: Terminal) -> tuple[Kernel, EmulatedSpec]:
    """Make or find a kernel, and all that a host needs to boot it."""
    host_kind(settings.host)
    wanted = series.load(settings.series)
    compiled = programs(store, terminal)  # first: what fails within seconds is not to wait for the kernel
    kernel = build(Request(source.resolve(settings.kernel_source, store), wanted, settings.layers), store, terminal)
    root = rootfs(store, terminal)
    modules = module(kernel, MODULES, store, terminal)
    own_keys = keys(store)
    disk = payload(store, root, compiled, modules, kernel.image, own_keys)
    guests = guests_for(series=wanted.mode, mode=settings.mode)
    memory = HOST_MEMORY + sum(guest.memory for guest in guests)
    return kernel, EmulatedSpec(kernel.image, kernel.key, root, disk, own_keys, guests, memory)
