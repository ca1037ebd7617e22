# SPDX-License-Identifier: GPL-2.0-or-later
"""What a host under test is made of, by content, and which kernel it really runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import MachineError
from common.store import sums
from guest_images.payload import GUEST_IMAGE, LIST, MODULES_LIST, PROGRAM_FILE, Payload
from guest_images.rootfs import RootFs
from host_setup.channels.ssh import Ssh
from host_setup.hosts.facts import TIMEOUT
from host_setup.kernel.build import BuiltKernel
from host_setup.kernel.notes import build_id


@dataclass(frozen=True, slots=True)
class MadeOf:
    """What a host is made of.

    :ivar sums: name and SHA-256 of what is one file. :ivar lists: name, and its files as ``sha256sum`` lists them.
    """

    sums: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)


def parts_of(root: RootFs, disk: Payload, emulator: Mapping[str, str]) -> MadeOf:
    """What is put into a host beside its kernel; the cache has the hashes, and has just checked them.

    :param emulator: the SHA-256 of each of its files by name; empty: we run none.
    """
    of_root, of_disk = sums(root.folder), sums(disk.image.parent)
    files = (disk.image.parent / LIST).read_text(encoding="utf-8")
    inside = {name: sha256 for sha256, _, name in (line.partition("  ") for line in files.splitlines())}
    lists = {"payload's files": files, "modules": (disk.image.parent / MODULES_LIST).read_text(encoding="utf-8")}
    if emulator:
        lists["emulator"] = "".join(f"{sha256}  {name}\n" for name, sha256 in emulator.items())
    return MadeOf(
        {
            "root file system": of_root[root.host_image.name],
            "payload": of_disk[disk.image.name],
            "guest image": inside[GUEST_IMAGE],
            "programs": inside[PROGRAM_FILE],
        },
        lists,
    )


def qemu_of(root: RootFs) -> dict[str, str]:
    """The SHA-256 of each file of the QEMU that a root file system's entry has, by its name in the entry."""
    below = f"{root.qemu.parent.name}/"
    return {name: sha256 for name, sha256 in sums(root.folder).items() if name.startswith(below)}


@functools.lru_cache(maxsize=8)
def running_build_id(ssh: Ssh) -> str:
    """The build ID that the running kernel of a host says of itself, in hexadecimal; asked once a session.

    :raises ChannelError: the session broke. :raises DeadlineError: it did not answer.
    """
    notes = ssh.run(["od", "-An", "-v", "-tx1", "/sys/kernel/notes"], seconds=TIMEOUT).require().text
    return build_id(bytes.fromhex("".join(notes.split())))


def require_kernel(ssh: Ssh, kernel: BuiltKernel) -> str:
    """See that a host runs the kernel that was built; returns the build ID that it says of itself.

    :raises MachineError: it runs another one.
    """
    running = running_build_id(ssh)
    if running != kernel.build_id:
        raise MachineError(
            f"the host runs a kernel with build ID {running or 'unknown'}, and {kernel.build_id} was built",
            stage="identity",
            hint=f"rm -r {_entry(kernel)}: the next run builds it again",
            artefact=kernel.image,
        )
    return running


def _entry(kernel: BuiltKernel) -> Path:
    """The kernel's entry of the cache."""
    return kernel.build_tree.parent.parent
