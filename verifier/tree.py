# SPDX-License-Identifier: GPL-2.0-or-later
"""A report's files, from a folder or an archive. Both come from strangers: no links, no way out, limited sizes."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from verifier.text import UnsoundError, shown

FILES = 100_000
FILE = 256 << 20  # bytes
WHOLE = 2 << 30  # bytes
NAME = 400  # characters
RATIO = 500  # an archive's content to its size


@dataclass(slots=True)
class Tree:
    """Files by name, relative to the report's folder.

    :ivar packed: content of files that were in an archive.
    """

    folder: Path | None = None
    packed: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    _sums: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All files."""
        return sorted(self.sizes)

    def __contains__(self, name: str) -> bool:
        return name in self.sizes

    def read(self, name: str) -> bytes:
        """A file's content.

        :raises UnsoundError: there is no such file.
        """
        if name not in self.sizes:
            raise UnsoundError(f"{name} is missing")
        if self.folder is None:
            return self.packed[name]
        try:
            # What was no link when the folder was looked through must be none now.
            handle = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as data:
                content = data.read(FILE + 1)
        except OSError as error:
            raise UnsoundError(f"{name} cannot be read: {error.strerror}") from error
        if len(content) > FILE:
            raise UnsoundError(f"{name} is larger than {FILE >> 20} MiB")
        return content

    def sha256(self, name: str) -> str:
        """A file's SHA-256."""
        if name not in self._sums:
            self._sums[name] = hashlib.sha256(self.read(name)).hexdigest()
        return self._sums[name]

    def below(self, folder: str) -> Tree:
        """The files below a folder of it, as a tree of their own."""
        prefix = f"{folder}/"
        sizes = {name.removeprefix(prefix): size for name, size in self.sizes.items() if name.startswith(prefix)}
        packed = {name.removeprefix(prefix): data for name, data in self.packed.items() if name.startswith(prefix)}
        return Tree(None if self.folder is None else self.folder / folder, packed, sizes)


def load(path: Path) -> Tree:
    """A report's files.

    :raises UnsoundError: they are not what a report may be. :raises OSError: there is nothing.
    """
    if path.is_dir():
        return _folder(path.resolve())
    if zipfile.is_zipfile(path):
        return _archive(path, _zip(path))
    try:
        return _archive(path, _tar(path))
    except (tarfile.TarError, EOFError) as error:
        raise UnsoundError(f"{path.name} is neither a folder nor a whole tar or zip archive: {error}") from error


def _folder(top: Path) -> Tree:
    tree = Tree(top)
    waiting = [(top, "")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = _checked(f"{prefix}{entry.name}")
                kind = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(kind.st_mode):
                    waiting.append((Path(entry.path), f"{name}/"))
                elif stat.S_ISREG(kind.st_mode):
                    _add(tree, name, kind.st_size)
                else:
                    raise UnsoundError(f"{name} is a link or no plain file: a report has none")
    return tree


def _archive(path: Path, members: Iterator[tuple[str, IO[bytes]]]) -> Tree:
    """Members below one folder, which is the report's, or below none."""
    most = min(WHOLE, max(64 << 20, path.stat().st_size * RATIO))
    found: dict[str, bytes] = {}
    whole = 0
    for given, data in members:
        name = _checked(given)
        if name in found:
            raise UnsoundError(f"{name} is in the archive twice")
        content = data.read(min(FILE, most - whole) + 1)
        whole += len(content)
        if len(content) > FILE or whole > most or len(found) >= FILES:
            raise UnsoundError(f"the archive unpacks to too much: at {name}")
        found[name] = content
    top = "" if "record.json" in found else _top(found)
    tree = Tree(None, {name.removeprefix(top): data for name, data in found.items()})
    for name, content in tree.packed.items():
        _add(tree, name, len(content))
    return tree


def _top(found: dict[str, bytes]) -> str:
    tops = {name.partition("/")[0] for name in found if "/" in name}
    if len(tops) != 1 or not all("/" in name for name in found):
        raise UnsoundError("the archive is not one report's folder: it has no record.json, or several folders")
    return f"{tops.pop()}/"


def _tar(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path) as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isreg() else None
            if data is not None:
                yield member.name, data
            elif not member.isdir():
                raise UnsoundError(f"{member.name} is a link or no plain file: a report has none")
            else:
                _checked(member.name)


def _zip(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IFMT(mode):
                    raise UnsoundError(f"{member.filename} is a link or no plain file: a report has none")
                if member.is_dir():
                    _checked(member.filename.rstrip("/"))
                    continue
                with archive.open(member) as data:
                    yield member.filename, data
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise UnsoundError(f"{path.name} is damaged: {error}") from error


def _checked(name: str) -> str:
    """A name as a report's files have it.

    :raises UnsoundError: it leads elsewhere, or is made to look like another.
    """
    name = name.removeprefix("./") or "."
    parts = PurePosixPath(name).parts
    if name != "." and (name.startswith("/") or "\\" in name or ".." in parts or "/".join(parts) != name.rstrip("/")):
        raise UnsoundError(f"the name {shown(repr(name), 80)} leads out of the report or is no plain one")
    if len(name) > NAME or not name.isascii() or not name.isprintable():
        raise UnsoundError(f"the name {shown(repr(name), 80)} is no plain one")
    return name


def _add(tree: Tree, name: str, size: int) -> None:
    tree.sizes[name] = size
    if len(tree.sizes) > FILES or size > FILE or sum(tree.sizes.values()) > WHOLE:
        raise UnsoundError(f"the report is larger than any: at {name}")
