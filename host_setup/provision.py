# SPDX-License-Identifier: GPL-2.0-or-later
"""From options to hosts that can be started: kernel, images, payload, each from the cache or made now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import UserInputError
from common.progress import Terminal
from common.store import Store
from guest_images.keys import keys
from guest_images.payload import payload
from guest_images.programs import MODULES, programs
from guest_images.rootfs import rootfs
from host_setup import inventory
from host_setup.hosts.base import Hosts
from host_setup.hosts.emulated import EMULATION, Accelerator, EmulatedSpec, nesting
from host_setup.hosts.guest import guests_for
from host_setup.hosts.snapshots import EmulatedHosts
from host_setup.kernel import series, source
from host_setup.kernel.build import Kernel, Request, build, module
from host_setup.kernel.layers import Layer
from host_setup.kernel.series import Mode
from host_setup.machine import DRIVEN, HostKind, Machine, choose_host_kind, survey, why_not_nested

KINDS = ("auto", *DRIVEN)
HOST_MEMORY = 832  # MiB, beside the guests' own
NODES = 256  # MiB, of which the host's memory is a multiple, or its kernel does not make the two memory nodes of it


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose.

    :param host: ``auto``, a kind of host, or a machine of the inventory. :param series: a name or a folder.
    :param kernel_source: a tree or tarball. :param layers: of the kernel's configuration, beyond the base.
    :param mode: how the guest under test is protected, as far as the series can.
    :param inventory: a file; None: the user's own.
    """

    host: str = "auto"
    series: str = series.DEFAULT
    kernel_source: Path | None = None
    layers: tuple[Layer, ...] = ()
    mode: Mode = Mode.PROTECTED
    inventory: Path | None = None


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A kernel, and hosts that boot it."""

    kernel: Kernel
    hosts: Hosts

    @property
    def config_sha256(self) -> str:
        """SHA-256 of the kernel's configuration file."""
        return hashlib.sha256(self.kernel.config.read_bytes()).hexdigest()


def accelerator(asked: str, path: Path | None, machine: Machine) -> Accelerator:
    """What runs a host that is made here.

    :param asked: ``auto`` is what ``make doctor`` says. :param path: of the inventory.
    :raises UserInputError: a kind that is not there, or that does not work here.
    """
    if asked not in KINDS:
        asked = _named(asked, path)
    kind = choose_host_kind(machine).kind if asked == "auto" else HostKind(asked)
    if kind is HostKind.EMULATED:
        return EMULATION
    against = why_not_nested(machine)
    if against:
        raise UserInputError(
            f"no nested host here: {against}",
            stage="--host",
            hint="'make doctor' says what to do about it; --host emulated works everywhere",
        )
    return nesting(machine.processor.model, machine.processor.extension)


def _named(asked: str, path: Path | None) -> str:
    """The kind of the host that an inventory has under a name."""
    file = path or inventory.default_path()
    found = inventory.load(file).find(asked) if path is not None or file.exists() else None
    if found is None:
        where = f", nor one of the inventory {file}" if file.exists() else ""
        raise UserInputError(f"no host kind {asked}{where}", stage="--host", hint=f"one of: {', '.join(KINDS)}")
    return found[1].kind


def provision(
    settings: Settings, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
) -> Provisioned:
    """Make or find all that a host needs.

    :param folder: where the hosts' logs go. :param note: told about each restore that failed.
    """
    kernel, hosts = made_here(settings, store, terminal, folder, note=note)
    return Provisioned(kernel, hosts)


def made_here(
    settings: Settings, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
) -> tuple[Kernel, EmulatedHosts]:
    """A kernel, and hosts of QEMU's that boot it; as ``provision``."""
    kernel, spec = prepare(settings, store, terminal)
    hosts = EmulatedHosts(spec, store, terminal, folder, note=note)
    hosts.saved()  # the first boot belongs to the set-up: it is shown, and not counted as a test's time
    return kernel, hosts


def prepare(settings: Settings, store: Store, terminal: Terminal) -> tuple[Kernel, EmulatedSpec]:
    """Make or find a kernel, and all that a host of QEMU's needs to boot it."""
    machine = survey()
    runner = accelerator(settings.host, settings.inventory, machine)
    layers = settings.layers
    if runner.kind is HostKind.NESTED and machine.processor.extension == "vmx" and Layer.INTEL not in layers:
        layers = (Layer.INTEL, *layers)
    wanted = series.load(settings.series)
    request = Request(source.resolve(settings.kernel_source, store), wanted, layers)
    compiled = programs(store, terminal)  # what fails within seconds is not to wait for the kernel
    kernel = build(request, store, terminal)
    root = rootfs(store, terminal)
    modules = module(kernel, MODULES, store, terminal)
    own_keys = keys(store)
    disk = payload(store, root, compiled, modules, kernel.image, own_keys)
    guests = guests_for(series=wanted.mode, mode=settings.mode)
    memory = HOST_MEMORY + sum(guest.memory for guest in guests)
    memory += -memory % NODES
    spec = EmulatedSpec(kernel.image, kernel.key, root, disk, own_keys, guests, memory, accelerator=runner)
    return kernel, replace(spec, tsc_khz=compiled.tsc_khz()) if runner is EMULATION else spec
