# SPDX-License-Identifier: GPL-2.0-or-later
"""The stand-in's disk: Debian with its own kernel, systemd, OpenSSH and GRUB, as a machine boots from it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from common.paths import PROJECT
from common.progress import Terminal
from common.store import GIB, Store, digest
from guest_images.keys import Keys
from guest_images.rootfs import SUITE, bootstrap

RECIPE = PROJECT / "tests" / "hosts" / "standin" / "debian"
DISK_BYTES = 2 * GIB
SECTOR = 512
PARTITION = 2048  # its first sector
_ENTRY = struct.Struct("<B3sB3sII")  # active, first CHS, type, last CHS, first sector, sectors
_NO_CHS, _LINUX, _ACTIVE = b"\xfe\xff\xff", 0x83, 0x80


@dataclass(frozen=True, slots=True)
class Image:
    """A disk without a boot loader, and what boots it the first time."""

    folder: Path
    key: str

    @property
    def disk(self) -> Path:
        """One partition, ext4."""
        return self.folder / "disk"

    @property
    def kernel(self) -> Path:
        """Debian's kernel on it."""
        return self.folder / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        """Its initramfs on it."""
        return self.folder / "initrd"

    @property
    def firmware(self) -> Path:
        """UEFI, as QEMU takes it for a flash chip."""
        return self.folder / "firmware"

    @property
    def variables(self) -> Path:
        """The chip with the firmware's variables, as it leaves the factory."""
        return self.folder / "variables"


def image(store: Store, keys: Keys, terminal: Terminal) -> Image:
    """The disk, made by mmdebstrap if the cache lacks it.

    :raises ImageError: it cannot be made.
    """
    key = digest(SUITE, Path(__file__), *sorted(RECIPE.iterdir()), keys.public("host"), keys.public("client"))

    def make(folder: Path) -> None:
        with (folder / "disk").open("wb") as disk:
            disk.truncate(DISK_BYTES)
        size = DISK_BYTES - PARTITION * SECTOR
        hook = f'"{RECIPE}/assemble.sh" "{folder}" "{keys.folder}" {PARTITION * SECTOR} {size} "$1"'
        bootstrap(
            RECIPE / "packages.txt", hook, store.root / "logs" / f"standin-{key}.log", terminal, "image of the stand-in"
        )
        with (folder / "disk").open("r+b") as disk:
            disk.seek(440)
            disk.write(partition_table(PARTITION, size // SECTOR))

    return Image(store.get_or_make("standin-image", key, make, need=2 * GIB), key)


def partition_table(first: int, sectors: int) -> bytes:
    """Bytes 440 to 511 of a disk with one partition: a signature, the table of a PC's BIOS, its magic number."""
    entry = _ENTRY.pack(_ACTIVE, _NO_CHS, _LINUX, _NO_CHS, first, sectors)
    return b"SEAL\0\0" + entry + bytes(3 * _ENTRY.size) + b"\x55\xaa"
