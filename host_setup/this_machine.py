# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine offers, and the kind of host that follows from it. Looks only, changes nothing, needs no root.

Standard library alone, so that it also runs before anything is installed. Every fact comes through ``Probes``; a test
puts a folder of made-up files in place of ``/``.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from common.environment import environment
from common.errors import SetupError
from common.paths import PROJECT, cache_root, user_name
from host_setup.disks import Disk, free_bytes, latest, look, temporary
from host_setup.limits import Limits, limits, mounts

PACKAGE_LIST = PROJECT / "host_setup" / "debian-packages.txt"
BOCHS_LIST = PROJECT / "host_setup" / "bochs-packages.txt"
QEMU = "qemu-system-x86"  # Debian's package

# linux/kvm.h
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_GET_SUPPORTED_CPUID = 0xC008AE05
CPUID_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES
CPUID_ENTRY = struct.Struct("<10I")  # function, index, flags, eax, ebx, ecx, edx, padding

Run = Callable[[Sequence[str]], str]


class HostKind(StrEnum):
    """The kinds of host that this machine can make."""

    EMULATED = "emulated"
    NESTED = "nested"


@dataclass(frozen=True, slots=True)
class System:
    """The operating system: ``name`` as it calls itself, ``id`` and ``version`` of os-release, and the architecture."""

    name: str
    id: str
    version: str
    architecture: str

    @property
    def is_supported_debian(self) -> bool:
        """Whether ``make`` can install packages here."""
        return self.id == "debian" and self.version in ("12", "13")


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor: ``cores`` that we may use, ``extension`` is ``svm``, ``vmx`` or empty.

    :ivar quota: how many cores' worth of time a control group leaves us; None: all of it.
    """

    model: str
    cores: int
    extension: str
    quota: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory, the limits of control groups counted in.

    :ivar group: the control group that leaves the least; empty where none leaves less than the machine has.
    """

    total: int
    available: int
    group: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class KvmTrial:
    """What happened when /dev/kvm was used.

    :ivar problem: why no VM could be created; empty when one was.
    :ivar permission: the problem is the permission of the device alone. :ivar group: which may use it; empty: none.
    :ivar offers_nested: its guests see svm or vmx, by KVM_GET_SUPPORTED_CPUID: KVM's own word on nested virtualisation.
    """

    problem: str = ""
    permission: bool = False
    group: str = "kvm"
    api_version: int = 0
    offers_nested: bool = False


@dataclass(frozen=True, slots=True)
class Kvm:
    """KVM on this machine.

    :ivar module: the module that does the work, ``kvm_amd`` or ``kvm_intel`` where the processor does it; or empty.
    :ivar nested: that module's parameter ``nested``; None when it has none.
    :ivar trial: None when there is no /dev/kvm.
    """

    module: str
    nested: bool | None
    trial: KvmTrial | None


@dataclass(frozen=True, slots=True)
class User:
    """Who runs this, and whether ``make`` can become root; for a user other than root, what mmdebstrap needs.

    :ivar subordinate_ids: /etc/subuid and /etc/subgid name the user. :ivar namespaces: the kernel lets users make some.
    :ivar has_name: /etc/passwd has the user id, which newuidmap and ssh insist on.
    """

    name: str
    is_root: bool
    has_sudo: bool
    subordinate_ids: bool
    namespaces: bool
    has_name: bool = True


@dataclass(frozen=True, slots=True)
class CacheKind:
    """How many entries of one kind the cache holds, and their bytes on disk."""

    kind: str
    entries: int
    size: int


@dataclass(frozen=True, slots=True)
class Survey:
    """All that ``survey`` saw.

    :ivar environment: the checkout has its virtual environment. :ivar temporary: where programs put temporary files.
    :ivar reports: where runs are kept.
    :ivar latest: what ``latest`` among the reports is, if it is no link; or empty.
    :ivar loopback: why nothing can connect to 127.0.0.1; empty if it can.
    :ivar ceilings: bounds on each process (getrlimit(2)), by their name there; those that are none are left out.
    :ivar processes: how many more processes may be started; None: no bound.
    :ivar missing_packages: of host_setup/debian-packages.txt; None when this machine has no dpkg to ask.
    :ivar missing_for_bochs: of host_setup/bochs-packages.txt; likewise.
    :ivar qemu: the version of the one that the cache holds, or empty.
    :ivar python: of the interpreter that runs this. :ivar ccache: its version, or empty.
    """

    system: System
    processor: Processor
    memory: Memory
    cache_disk: Disk
    checkout_disk: Disk
    temporary: Disk
    environment: bool
    reports: Disk
    latest: str
    loopback: str
    ceilings: dict[str, int]
    processes: int | None
    kvm: Kvm
    qemu: str
    missing_packages: tuple[str, ...] | None
    missing_for_bochs: tuple[str, ...] | None
    python: tuple[int, int, int]
    ccache: str
    user: User
    cache_path: Path
    cache: tuple[CacheKind, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The kind of host that ``auto`` means here, and why: one sentence."""

    kind: HostKind
    why: str


def _run(argv: Sequence[str]) -> str:
    """Standard output of a command; empty when it is not there or hangs. Its status does not matter here."""
    try:
        done = subprocess.run(
            argv,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def try_kvm(device: Path) -> KvmTrial | None:
    """Open the device, ask for its version and what it offers, and create a VM, which ends at once.

    :returns: None when there is no such device.
    """
    if not device.exists():
        return None
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        denied = isinstance(error, PermissionError)
        return KvmTrial(
            problem=f"it cannot be opened: {error.strerror}", permission=denied, group=_group_that_may(device)
        )
    try:
        version = fcntl.ioctl(kvm, KVM_GET_API_VERSION, 0)
        os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
        table = bytearray(struct.pack("<II", CPUID_ENTRIES, 0) + bytes(CPUID_ENTRIES * CPUID_ENTRY.size))
        fcntl.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, table)
    except OSError as error:
        return KvmTrial(problem=f"no VM can be created: {error.strerror}")
    finally:
        os.close(kvm)
    return KvmTrial(api_version=version, offers_nested=_shows_nested(bytes(table)))


def _group_that_may(device: Path) -> str:
    """The group whose members may use a device; empty: to join a group is no help."""
    try:
        status = device.stat()
        return device.group() if status.st_mode & 0o060 == 0o060 and status.st_gid else ""
    except (OSError, KeyError):
        return ""


def try_loopback() -> str:
    """Why no connection to 127.0.0.1 comes about; empty if one does, which ends at once."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _shows_nested(table: bytes) -> bool:
    """Whether a ``struct kvm_cpuid2`` has VMX (leaf 1, ECX bit 5) or SVM (leaf 0x80000001, ECX bit 2)."""
    (count,) = struct.unpack_from("<I", table)
    for number in range(count):
        function, _, _, _, _, ecx, *_ = CPUID_ENTRY.unpack_from(table, 8 + number * CPUID_ENTRY.size)
        if (function == 1 and ecx & 1 << 5) or (function == 0x80000001 and ecx & 1 << 2):
            return True
    return False


DRIVEN = (HostKind.EMULATED, HostKind.NESTED)
"""The kinds of host that sealproof can make on this machine."""


def _own_cache() -> Path:
    try:
        return cache_root()
    except SetupError:
        return Path("~/.cache/sealproof")  # look() says what is wrong with it


@dataclass(frozen=True, slots=True)
class Probes:
    """Where the facts come from; tests replace them."""

    root: Path = Path("/")
    run: Run = _run
    try_kvm: Callable[[Path], KvmTrial | None] = try_kvm
    free: Callable[[Path], int] = free_bytes
    try_loopback: Callable[[], str] = try_loopback
    cache: Path = field(default_factory=_own_cache)
    checkout: Path = PROJECT

    def read(self, path: str) -> str:
        """The text of a file below the root; empty when it is not there or not ours to read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""


def survey(probes: Probes | None = None) -> Survey:
    """Look at this machine; takes well under a second, never raises for what it finds."""
    probes = probes or Probes()
    leaves, mounted = limits(probes.root), mounts(probes.root)
    processor = _processor(probes, leaves)
    return Survey(
        system=_system(probes),
        processor=processor,
        memory=_memory(probes, leaves),
        cache_disk=look(probes.cache, mounted, probes.free, inside=True),
        checkout_disk=look(probes.checkout, mounted, probes.free),
        temporary=temporary(mounted),
        environment=(probes.checkout / ".venv/stamp").exists(),
        reports=look(probes.checkout / "reports", mounted, probes.free),
        latest=latest(probes.checkout / "reports"),
        loopback=probes.try_loopback(),
        ceilings=_ceilings(),
        processes=leaves.processes,
        kvm=_kvm(probes, processor),
        qemu=_qemu(probes.cache),
        missing_packages=_missing_packages(probes, PACKAGE_LIST),
        missing_for_bochs=_missing_packages(probes, BOCHS_LIST),
        python=sys.version_info[:3],
        ccache=_ccache(probes),
        user=_user(probes),
        cache_path=probes.cache,
        cache=_cache(probes.cache),
    )


def choose_host_kind(machine: Survey) -> Choice:
    """What ``--host auto`` means here: a kind that works on this machine and that sealproof can drive."""
    against = why_not_nested(machine)
    if against:
        return Choice(HostKind.EMULATED, against)
    return Choice(
        HostKind.NESTED, f"{machine.kvm.module} created a VM and offers its guests {machine.processor.extension}"
    )


def why_not_nested(machine: Survey) -> str:
    """The first reason why this machine has no nested virtualisation, as a clause; empty when it has."""
    kvm, processor = machine.kvm, machine.processor
    if kvm.trial is None:
        return "there is no /dev/kvm"
    if kvm.trial.problem:
        return f"there is a /dev/kvm, but {kvm.trial.problem}"
    if not processor.extension:
        behind = f" ({kvm.module} is behind it)" if kvm.module else ""
        return (
            f"/dev/kvm works{behind}, but the processor shows neither svm nor vmx, so its VMs cannot run KVM themselves"
        )
    if kvm.nested is None:
        behind = f"the module behind it, {kvm.module}, has" if kvm.module else "no known module is behind it that has"
        return f"/dev/kvm works, but {behind} no parameter 'nested'"
    if not kvm.nested:
        return f"/dev/kvm works, but {kvm.module}'s parameter 'nested' is off"
    if not kvm.trial.offers_nested:
        extension = processor.extension
        return f"/dev/kvm works and {kvm.module}'s parameter 'nested' is on, but its guests do not get {extension}"
    return ""


def _system(probes: Probes) -> System:
    pairs = re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', probes.read("etc/os-release"), re.MULTILINE)
    release = dict(pairs)
    return System(
        name=release.get("PRETTY_NAME", "unknown"),
        id=release.get("ID", ""),
        version=release.get("VERSION_ID", ""),
        architecture=os.uname().machine,
    )


def _processor(probes: Probes, leaves: Limits) -> Processor:
    text = probes.read("proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    words = set(flags[1].split()) if flags else set()
    return Processor(
        model=model[1] if model else "unknown",
        cores=len(os.sched_getaffinity(0)),
        extension=next((name for name in ("svm", "vmx") if name in words), ""),
        quota=leaves.cpus,
    )


def _memory(probes: Probes, leaves: Limits) -> Memory:
    text = probes.read("proc/meminfo")
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    total, available = kib.get("MemTotal", 0) * 1024, kib.get("MemAvailable", 0) * 1024
    group = ""
    for limit in leaves.memory:
        if limit.limit < total or limit.limit - limit.used < available:
            total, available = min(total, limit.limit), min(available, max(0, limit.limit - limit.used))
            group = str(limit.group)
    return Memory(total, available, group)


CEILINGS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")


def _ceilings() -> dict[str, int]:
    bounds = {name: resource.getrlimit(getattr(resource, name))[0] for name in CEILINGS}
    return {name: value for name, value in bounds.items() if value != resource.RLIM_INFINITY}


def _kvm(probes: Probes, processor: Processor) -> Kvm:
    by_extension = {"svm": "kvm_amd", "vmx": "kvm_intel"}
    modules = sorted(folder.name for folder in (probes.root / "sys/module").glob("kvm_*"))
    usual = by_extension.get(processor.extension, "")
    module = usual if usual in modules else next((name for name in modules if name not in by_extension.values()), "")
    nested = probes.read(f"sys/module/{module}/parameters/nested") if module else ""
    return Kvm(module, nested in ("Y", "1") if nested else None, probes.try_kvm(probes.root / "dev/kvm"))


def _qemu(root: Path) -> str:
    """The version of the QEMU that came with the newest root file system of the cache; empty if there is none."""
    lists = sorted(root.glob("rootfs/*/packages.list"), key=lambda file: file.stat().st_mtime)
    lines = lists[-1].read_text(encoding="ascii").splitlines() if lists else []
    return next((version for name, _, version in (line.partition(" ") for line in lines) if name == QEMU), "")


def _missing_packages(probes: Probes, listed: Path) -> tuple[str, ...] | None:
    lines = listed.read_text(encoding="utf-8").splitlines()
    packages = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not probes.run(["dpkg-query", "--version"]):
        return None
    shown = probes.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *packages])
    installed = {line.partition(" ")[2] for line in shown.splitlines() if line.startswith("installed ")}
    return tuple(name for name in packages if name not in installed)


def _ccache(probes: Probes) -> str:
    version = re.search(r"version (\S+)", probes.run(["ccache", "--version"]))
    return version[1] if version else ""


def _user(probes: Probes) -> User:
    name = user_name()
    names = (name, str(os.getuid()))

    def is_named(path: str) -> bool:
        return any(line.split(":")[0] in names for line in probes.read(path).splitlines())

    forbidden = "0" in (
        probes.read("proc/sys/user/max_user_namespaces"),
        probes.read("proc/sys/kernel/unprivileged_userns_clone"),
    )
    return User(
        name=name,
        is_root=os.geteuid() == 0,
        has_sudo=bool(probes.run(["sudo", "-V"])),
        subordinate_ids=is_named("etc/subuid") and is_named("etc/subgid"),
        namespaces=not forbidden,
        has_name=_has_name(),
    )


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _cache(root: Path) -> tuple[CacheKind, ...]:
    """The cache's content by kind; ``common.store`` knows its layout, but needs a library that may be missing here."""
    sizes: dict[str, list[int]] = {}
    for used in root.glob("*/*/.used"):
        sizes.setdefault(used.parent.parent.name, []).append(int(used.read_text(encoding="ascii") or 0))
    return tuple(CacheKind(kind, len(size), sum(size)) for kind, size in sorted(sizes.items()) if kind != "scratch")
