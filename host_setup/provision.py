# SPDX-License-Identifier: GPL-2.0-or-later
"""From options to hosts that can be started: kernel, images, payload, each from the cache or made now."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import UserInputError
from common.paths import cache_root
from common.progress import Terminal
from common.store import Store, file_sha256
from common.waiting import Deadline
from guest_images.keys import Keys, keys
from guest_images.payload import Payload, payload
from guest_images.programs import MODULES, Programs, programs
from guest_images.rootfs import RootFs, rootfs
from host_setup import inventory
from host_setup.emulated import bochs_packages
from host_setup.emulated.bochs import PRELOAD, compile_here, installed_files
from host_setup.emulated.bochs_host import BOCHS, E1000, INIT, OLDEST, BochsHosts, BochsSpec
from host_setup.emulated.direct_boot import SECTOR_FLAGS, SECTOR_SOURCE
from host_setup.emulated.host import EMULATION, Accelerator, EmulatedSpec, nesting
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts.base import Hosts
from host_setup.hosts.guest_spec import GuestSpec, guests_for
from host_setup.identity import MadeOf, parts_of, qemu_of
from host_setup.kernel import series, source
from host_setup.kernel.build import BuiltKernel, Request, build, module
from host_setup.kernel.driver import driver
from host_setup.kernel.layers import Layer, Own
from host_setup.kernel.series import Protection
from host_setup.kernel.toolchain import GCC, Toolchain
from host_setup.remote.control import Control
from host_setup.remote.host import RemoteHosts, RemoteSpec
from host_setup.remote.leased import REACH, Leased, LeaseState, bring_back_on_error
from host_setup.this_machine import DRIVEN, HostKind, Survey, choose_host_kind, survey, why_not_nested

KINDS = ("auto", *DRIVEN)
EMULATORS = {"qemu": EMULATION, "bochs": BOCHS}
"""What runs an emulated host, by the name that the user chooses it by."""
HOST_MEMORY = 832  # MiB, beside the guests' own
IMAGES = 192  # MiB, likewise, of a host that has its images in its memory
NODES = 256  # MiB, of which the host's memory is a multiple, or its kernel does not make the two memory nodes of it


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose.

    :param host: ``auto``, a kind of host, or a machine of the inventory. :param series: a name or a folder.
    :param kernel_source: a tree or tarball, or the release of a package of Debian's.
    :param layers: of the kernel's configuration, beyond the base.
    :param mode: how the guest under test is protected, as far as the series can.
    :param inventory: a file; None: the user's own. :param toolchain: compiles the kernel.
    :param cache: its folder; None: the user's own.
    :param emulator: of ``EMULATORS``; one beside QEMU makes ``auto`` an emulated host.
    """

    host: str = "auto"
    series: str = series.DEFAULT
    kernel_source: Path | str | None = None
    layers: tuple[Layer, ...] = ()
    mode: Protection = Protection.PROTECTED
    inventory: Path | None = None
    toolchain: Toolchain = GCC
    cache: Path | None = None
    emulator: str = "qemu"

    def store(self) -> Store:
        """The cache."""
        return Store(self.cache or cache_root())


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A kernel, and hosts that boot it."""

    kernel: BuiltKernel
    hosts: Hosts
    made_of: MadeOf


def accelerator(host_kind: str, path: Path | None, machine: Survey, emulator: str = "qemu") -> Accelerator:
    """What runs a host that is made here.

    :param host_kind: ``auto`` is what ``make doctor`` says. :param path: of the inventory.
    :param emulator: as in ``Settings``.
    :raises UserInputError: a kind that is not there, or that does not work here.
    """
    if host_kind not in KINDS:
        host_kind = _kind_named(host_kind, path)
    emulation = EMULATORS[emulator]
    if emulation is not EMULATION and host_kind in ("auto", HostKind.EMULATED):
        return emulation
    kind = choose_host_kind(machine).kind if host_kind == "auto" else HostKind(host_kind)
    if kind is HostKind.EMULATED:
        return emulation
    require_qemu(emulator, host_kind)
    against = why_not_nested(machine)
    if against:
        raise UserInputError(
            f"a nested host is not possible here: {against}",
            stage="--host",
            hint="'make doctor' says what to do about it; --host emulated works everywhere",
        )
    return nesting(machine.processor.model, machine.processor.extension)


def require_qemu(emulator: str, host: str) -> None:
    """Check that no other emulator is asked for, where the host is no emulated one.

    :raises UserInputError: one is.
    """
    if EMULATORS[emulator] is not EMULATION:
        raise UserInputError(
            f"{emulator} emulates a host, and {host} is no emulated one",
            stage="--emulator",
            hint="leave out --host, or --emulator",
        )


def _kind_named(name: str, path: Path | None) -> str:
    """The kind of the host that an inventory has under a name."""
    file = path or inventory.default_path()
    machine = inventory.load(file).find(name) if path is not None or file.exists() else None
    if machine is None:
        where = f", and no such machine in the inventory {file}" if file.exists() else ""
        raise UserInputError(f"no host kind {name}{where}", stage="--host", hint=f"one of: {', '.join(KINDS)}")
    return machine[1].kind


def provision(
    settings: Settings, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
) -> Provisioned:
    """Make or find all that a host needs; what is leased for it is given back by the hosts' ``close``.

    :param folder: where the hosts' logs go. :param note: told about each restore that failed.
    """
    machine = real_machine(settings)
    if machine is not None:
        require_qemu(settings.emulator, settings.host)
        kernel, leased = lease_hosts(settings, *machine, store, terminal, folder, note=note)
        return Provisioned(kernel, leased, parts_of(leased.spec.rootfs, leased.spec.payload, {}))
    if accelerator(settings.host, settings.inventory, survey(), settings.emulator) is BOCHS:
        kernel, by_bochs = provide_by_bochs(settings, store, terminal, folder, note=note)
        spec = by_bochs.spec
        own = {file.name: file_sha256(file) for file in (spec.init, spec.network)}
        return Provisioned(kernel, by_bochs, parts_of(spec.rootfs, spec.payload, installed_files() | own))
    kernel, hosts = provide_locally(settings, store, terminal, folder, note=note)
    return Provisioned(kernel, hosts, parts_of(hosts.spec.rootfs, hosts.spec.payload, qemu_of(hosts.spec.rootfs)))


def provide_locally(
    settings: Settings, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
) -> tuple[BuiltKernel, EmulatedHosts]:
    """A kernel, and hosts of QEMU's that boot it; as ``provision``."""
    kernel, spec = prepare(settings, store, terminal)
    hosts = EmulatedHosts(spec, store, terminal, folder, note=note)
    hosts.saved_state()  # the first boot belongs to the set-up: it is shown, and not counted as a test's time
    return kernel, hosts


def provide_by_bochs(
    settings: Settings, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
) -> tuple[BuiltKernel, BochsHosts]:
    """A kernel, and hosts of Bochs's that boot it; as ``provision``."""
    kernel, hosts = hosts_of_bochs(settings, store, terminal, folder, note=note)
    hosts.saved_state()  # as in provide_locally()
    return kernel, hosts


def hosts_of_bochs(
    settings: Settings, store: Store, terminal: Terminal, folder: Path, *, note: Callable[[str], None]
) -> tuple[BuiltKernel, BochsHosts]:
    """The same, none of which is booted yet. What Bochs needs is installed first."""
    bochs_packages.install(survey().missing_for_bochs or (), terminal)
    request = kernel_request(settings, store)
    require_recent(request)
    kernel, root, disk, own_keys = _make_parts(settings, store, terminal)
    guests = guests_for(series=kernel.mode, mode=settings.mode)
    spec = spec_of_bochs(kernel, request, root, disk, own_keys, guests, store, terminal)
    return kernel, BochsHosts(spec, store, terminal, folder, note=note)


def real_machine(settings: Settings) -> tuple[str, inventory.Remote] | None:
    """The real machine that is meant, with its name; None if the host is made here.

    :raises UserInputError: it is not in the inventory, or not expendable; or the inventory that is named is none.
    """
    if settings.host in KINDS:
        if settings.inventory is not None:
            inventory.load(settings.inventory)
        return None
    file = settings.inventory or inventory.default_path()
    if settings.host.startswith("ssh://"):
        return inventory.real_machine(file, settings.host)
    machine = inventory.load(file).find(settings.host) if settings.inventory or file.exists() else None
    if machine is None or not isinstance(machine[1], inventory.Remote):
        return None
    return inventory.real_machine(file, settings.host)


def lease_hosts(
    settings: Settings,
    name: str,
    machine: inventory.Remote,
    store: Store,
    terminal: Terminal,
    folder: Path,
    *,
    note: Callable[[str], None],
    on_state: Callable[[LeaseState], None] = lambda _: None,
) -> tuple[BuiltKernel, RemoteHosts]:
    """A kernel, and a real machine that runs it; as ``provision``.

    :param on_state: told each state that the machine reaches.
    """
    guests = guests_for(series=series.load(settings.series).mode, mode=settings.mode)
    if sum(guest.memory for guest in guests) > machine.limits.memory:
        raise UserInputError(
            f"the guests take {sum(guest.memory for guest in guests)} MiB, {name} gives {machine.limits.memory} MiB",
            stage="inventory",
            hint=f"raise memory in [machine.{name}.limits]",
        )
    # All that can be made without the machine is made before anybody has to wait for it.
    facts, own = _own(name, machine)
    settings = _for_machines(settings)
    if facts["extension"] == "vmx":
        settings = replace(settings, layers=_with(settings.layers, Layer.INTEL))
    kernel, root, disk, own_keys = _make_parts(settings, store, terminal, own)
    compiled = programs(store, terminal)
    leased = Leased(name, machine, folder, terminal, note=note, on_state=on_state)
    with bring_back_on_error(leased):
        leased.provision(kernel, compiled)
        leased.boot()
        hosts = RemoteHosts(leased, RemoteSpec(root, disk, own_keys, guests), terminal, note=note)
        hosts.furnish()
    return kernel, hosts


def _own(name: str, machine: inventory.Remote) -> tuple[dict[str, str], Own | None]:
    """The facts of a machine, and its own kernel if the kernel under test is made from that. Changes nothing.

    :raises UserInputError: its kernel's configuration is not there.
    """
    control = Control(name, machine)
    try:
        control.connect(Deadline(REACH))
        facts = control.facts()
        if machine.config is inventory.Config.LEAN:
            return facts, None
        if not facts["config"]:
            raise UserInputError(
                f"{name} has no kernel configuration in /boot",
                stage="inventory",
                hint=f'if its devices are emulated by QEMU: config = "lean" in [machine.{name}]',
            )
        config = control.run(["cat", facts["config"]], seconds=REACH).require().text + "\n"
        modules = control.run(["cat", "/proc/modules"], seconds=REACH).require().text
    finally:
        control.close()
    # As lsmod prints them, whose first word a line is all that is read; sorted: the order in which they came is chance.
    names = sorted(line.split()[0] for line in modules.splitlines())
    return facts, Own(config, "\n".join(["Module Size Used by", *(f"{name} 0 0" for name in names)]) + "\n")


def kernel_for_machines(settings: Settings, store: Store, terminal: Terminal) -> tuple[BuiltKernel, Programs]:
    """The kernel that real machines boot, and what loads it there; as ``lease_hosts`` takes them."""
    return build(kernel_request(_for_machines(settings), store), store, terminal), programs(store, terminal)


def _for_machines(settings: Settings) -> Settings:
    return replace(settings, layers=_with(settings.layers, Layer.REMOTE))


def prepare(settings: Settings, store: Store, terminal: Terminal) -> tuple[BuiltKernel, EmulatedSpec]:
    """Make or find a kernel, and all that a host of QEMU's needs to boot it."""
    runner = accelerator(settings.host, settings.inventory, survey(), settings.emulator)
    if runner is BOCHS:
        raise UserInputError(
            "only a sign-off can have its hosts emulated by Bochs", stage="--emulator", hint="leave out --emulator"
        )
    settings = with_accelerator(settings, runner)
    kernel, root, disk, own_keys = _make_parts(settings, store, terminal)
    spec = spec_of_emulated(kernel, root, disk, own_keys, guests_for(series=kernel.mode, mode=settings.mode), runner)
    return kernel, replace(spec, tsc_khz=programs(store, terminal).tsc_khz()) if runner is EMULATION else spec


def with_accelerator(settings: Settings, runner: Accelerator) -> Settings:
    """The settings with the layer that a host of this kind needs."""
    intel = runner.kind is HostKind.NESTED and runner.extension == "vmx"
    return replace(settings, layers=_with(settings.layers, Layer.INTEL)) if intel else settings


def spec_of_emulated(
    kernel: BuiltKernel, root: RootFs, disk: Payload, own_keys: Keys, guests: tuple[GuestSpec, ...], runner: Accelerator
) -> EmulatedSpec:
    """A host of QEMU's with room for its guests."""
    memory = host_memory(guests)
    return EmulatedSpec(kernel.image, kernel.key, root, disk, own_keys, guests, memory, accelerator=runner)


def spec_of_bochs(
    kernel: BuiltKernel,
    request: Request,
    root: RootFs,
    disk: Payload,
    own_keys: Keys,
    guests: tuple[GuestSpec, ...],
    store: Store,
    terminal: Terminal,
) -> BochsSpec:
    """A host of Bochs's with room for its guests, and for its images, which are in its memory."""
    own = (
        compile_here(INIT, store, "-static"),
        driver(kernel, request, E1000, store, terminal),
        compile_here(PRELOAD, store, "-shared", "-fPIC"),
        compile_here(SECTOR_SOURCE, store, *SECTOR_FLAGS),
    )
    memory = host_memory(guests, IMAGES)
    return BochsSpec(kernel.image, kernel.key, root, disk, own_keys, *own, guests, memory)


def require_recent(request: Request) -> None:
    """Check that a host of Bochs's can boot a kernel.

    :raises UserInputError: it is too old.
    """
    release = request.source.release
    if tuple(int(part) for part in re.findall(r"\d+", release)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UserInputError(
            f"Linux {release} mounts no file with EROFS, as a host of Bochs's does",
            stage="--emulator",
            hint=f"--kernel {oldest} or later",
        )


def host_memory(guests: tuple[GuestSpec, ...], more: int = 0) -> int:
    """MiB of a host with these guests.

    :param more: MiB that it needs beside them.
    """
    memory = HOST_MEMORY + more + sum(guest.memory for guest in guests)
    return memory + -memory % NODES


def _with(layers: tuple[Layer, ...], *more: Layer) -> tuple[Layer, ...]:
    return tuple(layer for layer in Layer if layer in (*layers, *more))


def kernel_request(settings: Settings, store: Store, own: Own | None = None) -> Request:
    """Which kernel the settings mean.

    :param own: the real machine that it is for. :raises SealproofError: there is no such source or series.
    """
    series.load(settings.series)  # what is wrong with it is told before anything is fetched
    kernel_source = source.resolve(settings.kernel_source, store)
    chosen = series.load_for(settings.series, kernel_source.release)
    return Request(kernel_source, chosen, settings.layers, own, settings.toolchain)


def _make_parts(
    settings: Settings, store: Store, terminal: Terminal, own: Own | None = None
) -> tuple[BuiltKernel, RootFs, Payload, Keys]:
    """Make or find a kernel, and what every host that boots it has."""
    request = kernel_request(settings, store, own)
    compiled = programs(store, terminal)  # a failure within seconds comes before the long build
    kernel = build(request, store, terminal)
    root = rootfs(store, terminal)
    modules = module(kernel, MODULES, store, terminal)
    own_keys = keys(store)
    return kernel, root, payload(store, root, compiled, modules, kernel.image, own_keys), own_keys
