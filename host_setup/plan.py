# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run would make, boot and lease, and how long it may take: the way of ``provision``, and nothing is made.

A stage that is in the cache is read from there. The first stage that is not in the cache is made, and so is each stage
that depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from common.errors import SetupError
from common.progress import Terminal, clock
from common.store import Store, scratch_folder
from guest_images.keys import Keys, keys
from guest_images.payload import Payload, payload
from guest_images.programs import MODULES, programs
from guest_images.rootfs import RootFs, rootfs
from host_setup import inventory
from host_setup.disks import look
from host_setup.emulated.bochs_host import BOCHS
from host_setup.hosts.guest_spec import GuestSpec, guests_for
from host_setup.kernel import debian_archive, series
from host_setup.kernel.build import BuiltKernel, build, module
from host_setup.limits import mounts
from host_setup.provision import (
    Settings,
    accelerator,
    kernel_request,
    real_machine,
    require_qemu,
    spec_of_bochs,
    spec_of_emulated,
    with_accelerator,
)
from host_setup.this_machine import survey

T = TypeVar("T")
EXAMINED = "identity"
"""The kind of entry that says what a source is: found out anew if need be, as it takes no more than reading."""


class NotMadeError(Exception):
    """The cache does not have it."""


class Looking(Store):
    """A cache that is only looked at: nothing is made in it, nor noted as used.

    :param scratch: a folder that goes afterwards, for what has to be found out.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        super().__init__(root)
        self._scratch = Store(scratch)

    def get(self, kind: str, key: str) -> Path | None:
        """An entry that is there; None for one that the caller finds out.

        :raises NotMadeError: it is not there.
        """
        path = self.path(kind, key)
        if path.is_dir():
            return path
        if kind == EXAMINED:
            return None
        raise NotMadeError(kind)

    def get_or_make(self, kind: str, key: str, make: Callable[[Path], None], *, need: int = 0) -> Path:
        """As ``get``; what a source is, is found out."""
        return self.get(kind, key) or self._scratch.get_or_make(kind, key, make, need=need)

    def discard(self, kind: str, key: str) -> None:
        """Nothing: what is found out anew stays in the scratch folder."""


@dataclass(frozen=True, slots=True)
class Line:
    """One stage, and what would be done about it."""

    stage: str
    does: str

    def __str__(self) -> str:
        return f"  {self.stage:<9} {self.does}"


def plan(settings: Settings, store: Store) -> list[Line]:
    """The stages of a run, in their order.

    :raises SealproofError: what would end the run before anything is made.
    """
    machine = real_machine(settings)
    if machine is not None:
        require_qemu(settings.emulator, settings.host)
        return _lines_for_lease(settings, *machine)
    if problem := look(store.root, mounts()).problem:
        raise SetupError(
            f"nothing can be written to {store.root}: {problem}",
            stage="cache",
            hint="name another folder in XDG_CACHE_HOME, or with --cache-folder; 'make doctor' says more",
        )
    with scratch_folder() as scratch:
        return _lines_for_local(settings, Looking(store.root, scratch))


def _lines_for_local(settings: Settings, store: Looking) -> list[Line]:
    runner = accelerator(settings.host, settings.inventory, survey(), settings.emulator)
    settings = with_accelerator(settings, runner)
    if isinstance(settings.kernel_source, str):
        fetched = debian_archive.find_fetched(settings.kernel_source, store)
        if fetched is None:
            return [_line_for_fetch(settings.kernel_source, settings.series)]
        settings = replace(settings, kernel_source=fetched)
    request, terminal = kernel_request(settings, store), Terminal()
    lines: list[Line] = []

    def stage(name: str, title: str, kind: str, find: Callable[[], T] | None) -> T | None:
        entry = _look(find)
        lines.append(Line(name, f"{title}: {_to_make(store, kind) if entry is None else 'in the cache'}"))
        return entry

    patches = f"{len(request.series.patches)} patches" if request.series.patches else "no patch"
    title = f"Linux {request.source.release}, series {request.series.name}, {patches}"
    layers = "".join(f", layer {layer}" for layer in request.layers)
    kernel = stage("kernel", f"{title}{layers}", "kernel", lambda: build(request, store, terminal))
    compiled = stage("programs", "of host and guest", "programs", lambda: programs(store, terminal))
    root = stage("images", "Debian for host and guest", "rootfs", lambda: rootfs(store, terminal))
    built = kernel
    find_modules = (lambda: module(built, MODULES, store, terminal)) if built else None
    modules = stage("modules", "of host and guest", "module", find_modules)
    own = _look(lambda: keys(store))
    guests = guests_for(series=request.series.mode, mode=settings.mode)
    if runner is BOCHS and (missing := survey().missing_for_bochs):
        lines.insert(0, Line("packages", f"of Bochs, to be installed: {' '.join(missing)}"))

    def key_of(kernel_build: BuiltKernel, debian: RootFs, disk: Payload, own_keys: Keys) -> str:
        if runner is not BOCHS:
            return spec_of_emulated(kernel_build, debian, disk, own_keys, guests, runner).key
        return spec_of_bochs(kernel_build, request, debian, disk, own_keys, guests, store, terminal).key

    state = None
    if kernel and compiled and root and modules and own:
        files = (root, compiled, modules, kernel.image, own)
        disk = _look(lambda: payload(store, *files))
        if disk is not None:
            state = _look(lambda: store.get("snapshot", key_of(kernel, root, disk, own)))
    lines.append(Line("host", f"{runner.description}, with the guests {_names(guests)}"))
    lines.append(Line("boot", _boot(store, saved=state is not None)))
    return lines


def _line_for_fetch(kernel: str, chosen: str) -> Line:
    """The stage of a kernel whose source is to be fetched.

    :raises UserInputError: the archives have none. :raises KernelError: the series is not made for it.
    """
    package = debian_archive.offered(kernel)
    if package is None:
        name = f"Debian's source of Linux {kernel}, series {series.load(chosen).name}"
        return Line("kernel", f"{name}: to be fetched, if an archive has it (none answers now), then built")
    patches = series.load_for(chosen, package.release)
    patches.check_base(package.release)
    name = f"{package.name} {package.version}, series {patches.name}"
    return Line("kernel", f"{name}: to be fetched, then built; what follows depends on the source")


def _names(guests: tuple[GuestSpec, ...]) -> str:
    return ", ".join(f"{guest.name} ({guest.memory} MiB)" for guest in guests)


def _lines_for_lease(settings: Settings, name: str, machine: inventory.Remote) -> list[Line]:
    chosen = series.load(settings.series)
    patches = f"{len(chosen.patches)} patches" if chosen.patches else "no patch"
    return [
        Line("kernel", f"series {chosen.name}, {patches}: found or built for what the machine says when it is asked"),
        Line(
            "lease", f"{name} ({machine.address}), given back after {machine.lease.seconds} s of silence at the latest"
        ),
        Line("boot", f"the kernel under test once, by {machine.boot}; then its own again"),
        Line("host", f"{name}, up to {machine.limits.memory} MiB for guests"),
    ]


def _look(find: Callable[[], T] | None) -> T | None:
    """What a stage finds in the cache; None if that has to be made, or something that it is made from."""
    try:
        return find() if find is not None else None
    except NotMadeError:
        return None


def _to_make(store: Store, kind: str) -> str:
    return f"to be made, {_last_duration(store, kind)}"


def _last_duration(store: Store, kind: str) -> str:
    seconds = store.seconds(kind)
    return f"{clock(seconds)} last time" if seconds is not None else "in a time that is not known yet"


def _boot(store: Store, *, saved: bool) -> str:
    if saved:
        return "none: the host goes on from its saved state"
    return f"host and guests, to be saved: {_last_duration(store, 'snapshot')}"
