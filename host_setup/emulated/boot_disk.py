# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk that an emulated PC without QEMU's ``-kernel`` boots from: GRUB, the kernel, and the payload behind it.

::

    0              GRUB's boot sector, with the partition table
    1 ..           GRUB's core, with its one command file inside
    FIRST ..       the kernel: GRUB reads it by the numbers of its sectors, so that no file system is needed
    CYLINDER * n   the payload: the first partition

Nothing but GRUB's own files is needed to make it: no loop device, no root.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.environment import environment
from common.errors import ImageError

SECTOR = 512  # bytes
HEADS, PER_TRACK = 16, 63
CYLINDER = HEADS * PER_TRACK * SECTOR
FIRST = 2048  # sector of the kernel; GRUB's core lies before it
GRUB = Path("/usr/lib/grub/i386-pc")  # Debian: grub-pc-bin
TABLE = 0x1BE  # partition table in the boot sector, four entries of 16 bytes
LINUX, SIGNATURE = 0x83, b"\x55\xaa"
NO_CHS = b"\xfe\xff\xff"  # where a partition begins and ends is told by LBA alone


@dataclass(frozen=True, slots=True)
class BootDisk:
    """A disk image in memory. Its geometry is ``cylinders``, ``HEADS`` and ``PER_TRACK``."""

    content: bytes

    @property
    def cylinders(self) -> int:
        """Its size."""
        return len(self.content) // CYLINDER


def boot_disk(kernel: bytes, payload: bytes, command_line: str) -> BootDisk:
    """The disk for a kernel.

    :param payload: the content of the first partition.
    :raises ImageError: GRUB is not installed, or makes no core that fits.
    """
    sectors = -(-len(kernel) // SECTOR)
    boot, core = _grub(f"linux (hd0){FIRST}+{sectors} {_quoted(command_line)}\nboot\n")
    return assemble(boot, core, kernel, payload)


def assemble(boot: bytes, core: bytes, kernel: bytes, payload: bytes) -> BootDisk:
    """Put the parts where they belong.

    :param boot: GRUB's boot sector. :param core: GRUB's core.
    :raises ImageError: GRUB's files are others than this is made for.
    """
    if len(boot) != SECTOR or boot[-2:] != SIGNATURE:
        raise ImageError("GRUB's boot.img is no boot sector", hint="is grub-pc-bin installed completely?")
    if len(core) > (FIRST - 1) * SECTOR:
        raise ImageError(f"GRUB's core of {len(core)} bytes does not fit before sector {FIRST}")
    before = _filled(boot + core, FIRST * SECTOR) + kernel
    before += bytes(-len(before) % CYLINDER)
    begin, count = len(before) // SECTOR, -(-len(payload) // SECTOR)
    entry = struct.pack("<B3sB3sII", 0, NO_CHS, LINUX, NO_CHS, begin, count)
    table = _filled(entry, SECTOR - len(SIGNATURE) - TABLE)
    content = boot[:TABLE] + table + SIGNATURE + before[SECTOR:] + payload
    return BootDisk(content + bytes(-len(content) % CYLINDER))


def _grub(script: str) -> tuple[bytes, bytes]:
    """GRUB's boot sector, and a core that runs a script; raises as ``boot_disk``.

    :param script: for GRUB's rescue parser: one command a line.
    """
    with tempfile.TemporaryDirectory() as scratch:
        core, commands = Path(scratch, "core.img"), Path(scratch, "grub.cfg")
        commands.write_text(script, encoding="ascii")
        argv = ["grub-mkimage", "--directory", str(GRUB), "--format", "i386-pc", "--prefix", "/"]
        argv += ["--config", str(commands), "--output", str(core), "biosdisk", "linux"]
        try:
            done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ImageError(f"grub-mkimage failed: {done.stderr.strip()}", hint="is grub-pc-bin installed?")
            return (GRUB / "boot.img").read_bytes(), core.read_bytes()
        except FileNotFoundError as error:
            raise ImageError(
                f"GRUB is not installed: {error.filename}", hint="run 'make doctor': it names the Debian packages"
            ) from error


def _filled(content: bytes, size: int) -> bytes:
    return content.ljust(size, b"\0")


def _quoted(words: str) -> str:
    """A kernel's command line as GRUB takes it: it gives each word on, and quotes again what holds a blank.

    :raises ImageError: it cannot be quoted.
    """
    parts = words.split('"')
    if "'" in words or "\n" in words or len(parts) % 2 == 0:
        raise ImageError(f"GRUB cannot be given this command line: {words}")
    return "".join(f"'{part}'" if number % 2 else part for number, part in enumerate(parts))
