# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run says that it is made of: all that must be told is told, and what is told twice is told alike."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verifier.text import UnsoundError, legible
from verifier.tree import Tree

SEALPROOF = "sealproof's files"
CONFIG = "identity/kernel.config"
LISTS = {
    SEALPROOF: "identity/sealproof.sha256",
    "Python and its packages": "identity/python.sha256",
    "emulator": "identity/emulator.sha256",
    "payload's files": "identity/payload.sha256",
    "modules": "identity/modules.sha256",
}
_ALWAYS = (SEALPROOF, "Python and its packages")
_NAMES = {
    SEALPROOF: ("conftest.py", "signoff/"),
    "Python and its packages": ("python==", "pytest=="),
}
"""How names begin that such a list must have."""
_OF_HOST = ("root file system", "payload", "payload's files", "guest image", "programs", "modules")
_OF_KERNEL = {
    "build_id": 40,
    "running_build_id": 40,
    "source_sha256": 64,
    "config_sha256": 64,
    "image_sha256": 64,
    "vmlinux_sha256": 64,
}
_TIERS = ("emulated", "nested", "bare-metal")
_SERIES, _STOCK = "host_setup/kernel/series", "stock"
_VFIO = "vfio/vfio"
_DRIVERS = {
    "kvm": "CONFIG_KVM",
    "vhost-net": "CONFIG_VHOST_NET",
    "vhost-vsock": "CONFIG_VHOST_VSOCK",
    _VFIO: "CONFIG_VFIO",
    "iommu": "CONFIG_IOMMUFD",
    "userfaultfd": "CONFIG_USERFAULTFD",
}
"""What a device below /dev is of (Linux: virt/kvm, drivers/vhost, drivers/vfio, drivers/iommu/iommufd, mm)."""
_LAYERS = {
    "debug": "CONFIG_PROVE_LOCKING",
    "intel": "CONFIG_KVM_INTEL",
    "numa": "CONFIG_NUMA_BALANCING",
    "remote": "CONFIG_NETCONSOLE",
    "selftests": "CONFIG_GUP_TEST",
    "virtme": "CONFIG_NET_9P",
}
"""An option that a kernel of each layer has; that of coverage has none of its own."""
_INSIDE = {"guest/initramfs": "guest image", "programs/sealproof": "programs"}
_HEADING = re.compile(r"^# Linux/\S+ (\S+) Kernel Configuration$", re.MULTILINE)
_OPTION = re.compile(r"^(?:(CONFIG_\w+)=|# (CONFIG_\w+) is not set$)", re.MULTILINE)
_LINE = re.compile(r"([0-9a-f]{64})  (\S(?:.*\S)?)")
_FOLDERS = frozenset(
    ("cli", "common", "fleet", "guest_images", "history", "host_setup", "signoff", "tests", "tests_e2e", "verifier")
)
"""Where sealproof's code lies, also where a list does not say so."""
_ON_TOP = ("Makefile", "pyproject.toml", "requirements.lock", "sealproof")
"""Files beside them that decide what runs."""
_IGNORED = {".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}


def record_faults(record: dict[str, Any]) -> Iterator[str]:
    """What a record leaves out, or tells in two ways."""
    kernel, made_of = record["kernel"], record["made_of"]
    names = [*_ALWAYS, *(_OF_HOST if kernel else ())]
    # A machine of the inventory runs in no QEMU of ours; it may run in another.
    if kernel and record["tier"] in ("emulated", "nested") and "machine" not in record["host"]:
        names.append("emulator")
    for name in names:
        if name not in made_of:
            yield f"record.json does not say what it is made of: {name}"
    for name, value in made_of.items():
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            yield f"record.json: {legible(name, 40)} is made of {legible(value, 70)!r}, which is no SHA-256"
    if kernel is None:
        return
    for name, digits in _OF_KERNEL.items():
        if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", str(kernel[name])):
            yield f"record.json: the kernel's {name} is {legible(kernel[name], 70)!r}: not {digits} hexadecimal digits"
    if kernel["running_build_id"] != kernel["build_id"]:
        yield (
            f"the running kernel said that its build ID is {legible(kernel['running_build_id'], 60)}, "
            f"and {legible(kernel['build_id'], 60)} was built"
        )
    if not str(kernel["compiler"]).strip():
        yield "record.json does not say which compiler made the kernel"
    yield from _patches(kernel["patches"], str(record["series"]))
    host = {name: str(value) for name, value in record["host"].items()}
    yield from _tier(str(record["tier"]), host, emulated="emulator" in made_of)


def _patches(patches: list[dict[str, Any]], series: str) -> Iterator[str]:
    """Where a series is none."""
    names = [str(patch["name"]) for patch in patches]
    if len(set(names)) != len(names) or any(
        not re.fullmatch(r"[0-9a-f]{64}", str(patch["sha256"])) for patch in patches
    ):
        yield "record.json: a patch stands there twice, or without its SHA-256"
    if bool(names) == (series == _STOCK):
        yield f"record.json: the series {legible(series, 40)} has {len(names) or 'no'} patches"


def _tier(tier: str, host: dict[str, str], *, emulated: bool) -> Iterator[str]:
    """Where what a record says of the host is that of another tier.

    :param emulated: whether an emulator of ours made the host.
    """
    kind = host.get("kind", "").partition(" ")[0]
    if kind in _TIERS and kind != tier:
        yield f"record.json: its tier is {legible(tier, 20)}, and its host is {legible(kind, 20)}"
    elif tier == "bare-metal" and "machine" not in host:
        yield "record.json: its tier is bare-metal, and it names no machine of an inventory"
    elif tier != "emulated" and "QEMU" in host.get("processor", "") + host.get("cpu", ""):
        yield f"record.json: its tier is {legible(tier, 20)}, and its processor is of QEMU's making"
    elif tier == "bare-metal" and emulated:
        yield "record.json: its tier is bare-metal, and it is made of an emulator"


def another_series(tree: Tree, record: dict[str, Any]) -> bool:
    """Whether a series has the name of one of sealproof's, by the list of its files, and other patches."""
    if LISTS[SEALPROOF] not in tree or not record["kernel"]:
        return False
    folder = f"{_SERIES}/{record['series']}/"
    files = read_list(tree, LISTS[SEALPROOF])
    own = {name: sha256 for name, sha256 in files.items() if name.startswith(folder) and name.endswith(".patch")}
    return bool(own) and own != {f"{folder}{patch['name']}": patch["sha256"] for patch in record["kernel"]["patches"]}


def list_faults(tree: Tree, record: dict[str, Any]) -> Iterator[str]:
    """Where the lists in a run's folder are not those that its record names."""
    kernel, made_of = record["kernel"], record["made_of"]
    for name, file in LISTS.items():
        if name in made_of and (file not in tree or tree.sha256(file) != made_of[name]):
            yield f"{file} is not the list that the record names"
        elif name in made_of:
            yield from _unlisted(tree, name, file)
    if kernel is None:
        return
    if CONFIG not in tree or tree.sha256(CONFIG) != kernel["config_sha256"]:
        yield f"{CONFIG} is not the configuration that the record names"
    else:
        yield from _release(tree, str(kernel["release"]))
        yield from _devices(tree, record["host"])
    if LISTS["payload's files"] not in tree or LISTS["modules"] not in tree:
        return
    inside, modules = read_list(tree, LISTS["payload's files"]), read_list(tree, LISTS["modules"])
    if inside.get("guest/bzImage") != kernel["image_sha256"]:
        yield "the guest boots another kernel than the host"
    for name, of_record in _INSIDE.items():
        if inside.get(name) != made_of.get(of_record):
            yield f"the payload holds another {name} than the record names ({of_record})"
    for name, sha256 in inside.items():
        if name.startswith("modules/") and modules.get(name.removeprefix("modules/")) != sha256:
            yield f"the payload's {legible(name, 60)} is not one of the modules that were built"


def _unlisted(tree: Tree, name: str, file: str) -> Iterator[str]:
    """Where a list leaves out what a run cannot be without."""
    listed = read_list(tree, file)
    if not listed:
        yield f"{file} lists nothing"
    for begin in _NAMES.get(name, ()):
        if listed and not any(name.startswith(begin) for name in listed):
            yield f"{file} lists no {begin}"


def _release(tree: Tree, release: str) -> Iterator[str]:
    """Where a kernel's configuration says that it is of another release (Linux: scripts/kconfig/confdata.c)."""
    text = tree.read(CONFIG).decode("utf-8", "replace")
    options = [set_ or unset for set_, unset in _OPTION.findall(text)]
    if twice := [option for option, times in Counter(options).items() if times > 1]:
        yield f"{CONFIG} says twice what {legible(twice[0], 60)} is"
    match = _HEADING.search(text)
    of = match[1] if match else "no release"
    # What a configuration adds to the kernel's own release, or a work tree with changes, begins with - or +.
    if not re.match(re.escape(of) + r"(?![\w.])", release):
        yield f"{CONFIG} is of Linux {legible(of, 40)}, and the record's kernel of {legible(release, 40)}"


def _devices(tree: Tree, host: dict[str, Any]) -> Iterator[str]:
    """Where a host has a device that its kernel has no driver for, or lacks one that its kernel itself brings."""
    if "devices" not in host:
        return
    there = str(host["devices"]).split(", ")
    text = tree.read(CONFIG).decode("utf-8", "replace")
    built = {*re.findall(r"^(CONFIG_\w+)=y$", text, re.MULTILINE)}
    drivers = built | {*re.findall(r"^(CONFIG_\w+)=m$", text, re.MULTILINE)}
    for device, option in _DRIVERS.items():
        if device in there and option not in drivers:
            yield f"record.json: its host has /dev/{device}, and its kernel no {option}"
    for layer in str(host.get("kernel's layers", "none")).split(", "):
        if layer in _LAYERS and _LAYERS[layer] not in drivers:
            yield f"record.json: its kernel has the layer {layer}, and no {_LAYERS[layer]}"
    if _VFIO not in there and _DRIVERS[_VFIO] in built and "CONFIG_VFIO_CONTAINER is not set" not in text:
        yield f"record.json: its host has no /dev/{_VFIO}, and its kernel brings it ({_DRIVERS[_VFIO]}=y)"


def read_list(tree: Tree, file: str) -> dict[str, str]:
    """A list of files, as ``sha256sum`` prints one: name and SHA-256.

    :raises UnsoundError: the file is not such a list.
    """
    hashes: dict[str, str] = {}
    for line in tree.read(file).decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] in hashes:
            raise UnsoundError(f"{file} has a malformed line: {legible(line, 80)}")
        hashes[match[2]] = match[1]
    return hashes


def differs(tree: Tree, folder: Path) -> Iterator[str]:
    """Where a folder of sealproof is not the one that a run's list names; files that decide nothing do not count."""
    listed = read_list(tree, LISTS[SEALPROOF])
    tops = _FOLDERS | {name.partition("/")[0] for name in listed if "/" in name}
    for name, sha256 in listed.items():
        try:
            same = _sha256(folder / name) == sha256
        except OSError:
            same = False
        if not same:
            yield name
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if str(place) in listed or path.is_dir() or not _IGNORED.isdisjoint(place.parts) or place.parts[0] == "reports":
            continue
        if place.parts[0] in tops or (len(place.parts) == 1 and (path.suffix == ".py" or path.name in _ON_TOP)):
            yield str(place)


def _sha256(path: Path) -> str:
    if path.is_symlink():
        return hashlib.sha256(b"link to " + str(path.readlink()).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()
