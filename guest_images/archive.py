# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives and images made of files in memory, the same bytes from the same content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_DIRECTORY = 0o040755
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class File:
    """A file to be: its content and its permission bits."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to be."""

    target: str


def newc(files: Mapping[str, File | Link]) -> bytes:
    """A cpio archive in the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).

    :param files: by path without a leading slash; parent folders are added.
    """
    folders = sorted({"/".join(path.split("/")[:n]) for path in files for n in range(1, path.count("/") + 1)})
    out = bytearray()
    entries = [(folder, _DIRECTORY, b"") for folder in folders]
    entries += [(path, *_entry(file)) for path, file in sorted(files.items(), key=lambda item: item[0])]
    for inode, (name, mode, content) in enumerate([*entries, (_TRAILER, 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        out += b"070701" + "".join(f"{field:08X}" for field in fields).encode() + encoded
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def _entry(file: File | Link) -> tuple[int, bytes]:
    if isinstance(file, Link):
        return 0o120777, file.target.encode()
    return 0o100000 | file.mode, file.content
