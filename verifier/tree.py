# SPDX-License-Identifier: GPL-2.0-or-later
"""A report's files, from a folder or an archive. Both come from strangers: no links, no way out, limited sizes."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from verifier.text import UnsoundError, legible

FILES = 100_000
FILE = 256 << 20  # bytes
WHOLE = 2 << 30  # bytes
NAME = 400  # characters
_TAR_BLOCK = 512  # bytes
_PADDING = 1 << 20  # bytes of zeros behind a tar archive's end
_STEP = 2 << 20  # bytes that are read at once
_IN_MEMORY = 64 << 20  # bytes
_HEADERS = 16 << 20  # bytes of a tar archive beside its files' content
_PACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x5d\0\0\x80": lzma.open,
}
"""What unpacks a file, by how it begins."""
_ZIP_END = struct.Struct("<4sHHHHLLH")
_ZIP_MEMBER = struct.Struct("<4s2xHH4xLLLHH")
"""Mark, flags, method, CRC, size packed and unpacked, length of the name, of the further facts."""
_DESCRIBED = 8  # a flag: 12 or 16 bytes behind a member say how long it is
_EXTRA = {0x5455, 0x7875, 0x000A}  # times, and owners
_PAX = {"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment", "LIBARCHIVE.creationtime"}
"""What a pax header may say of a member, or of all: nothing of it is read."""
_NOT_EVERYWHERE = re.compile(r'[<>:"|?*]')
"""What some file systems do not have in names, and read as something else."""
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Names that some systems have for devices, in each folder."""
RATIO = 500  # an archive's content to its size


@dataclass(slots=True)
class Tree:
    """Files by name, relative to the report's folder.

    :ivar packed: content of files that were in an archive. :ivar cases: names by the same in small letters.
    :ivar whole: bytes of all files.
    """

    folder: Path | None = None
    packed: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)
    whole: int = 0
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
            handle = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as data:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise UnsoundError(f"{name} is a link or a special file, which a report must not have")
                content = data.read(FILE + 1)
        except OSError as error:
            raise UnsoundError(f"{name} cannot be read: {error.strerror}") from error
        if len(content) > FILE:
            raise UnsoundError(f"{name} is larger than {FILE >> 20} MiB")
        # What is read again must be what its signature was checked on, whoever else writes there.
        sha256 = hashlib.sha256(content).hexdigest()
        if self._sums.setdefault(name, sha256) != sha256:
            raise UnsoundError(f"{name} changes while it is read")
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
        sums = {name.removeprefix(prefix): digest for name, digest in self._sums.items() if name.startswith(prefix)}
        return Tree(None if self.folder is None else self.folder / folder, packed, sizes, {}, 0, sums)


def load(path: Path) -> Tree:
    """A report's files.

    :raises UnsoundError: they are not what a report may be. :raises OSError: there is nothing.
    """
    if path.is_dir():
        return _folder(path.resolve())
    if not stat.S_ISREG(path.stat().st_mode):
        raise UnsoundError(f"{path.name} is neither a folder nor a plain file")
    try:
        if _begins(path, b"PK\3\4"):
            return _archive(path, _zip(path))
        if _ends_like_zip(path):
            raise UnsoundError(
                f"{path.name} ends like a zip archive but does not begin like one: programs unpack it differently"
            )
        return _archive(path, _tar(path))
    except UnsoundError:
        raise
    except Exception as error:  # a stranger's archive may have any reader of Python's fail in any way
        if isinstance(error, OSError) and error.errno is not None:
            raise
        cause = f"{error}".partition("\n")[0].rstrip(":")  # what each kind of compression says would follow
        why = legible(f"{type(error).__name__}: {cause}", 100)
        raise UnsoundError(f"{path.name} is neither a folder nor a whole tar or zip archive: {why}") from error


def _folder(top: Path) -> Tree:
    tree = Tree(top)
    waiting, folders = [(top, "")], 0
    while waiting:
        folder, prefix = waiting.pop()
        if (folders := folders + 1) > FILES:
            raise UnsoundError("the report has more folders than any")
        with os.scandir(folder) as entries:
            for entry in entries:
                name = _check_name(f"{prefix}{entry.name}")
                kind = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(kind.st_mode):
                    waiting.append((Path(entry.path), f"{name}/"))
                elif stat.S_ISREG(kind.st_mode):
                    _add(tree, name, kind.st_size)
                else:
                    raise UnsoundError(f"{name} is a link or a special file, which a report must not have")
    return tree


def _archive(path: Path, members: Iterator[tuple[str, IO[bytes]]]) -> Tree:
    """Members below one folder, which is the report's, or below none."""
    most = _most(path)
    contents: dict[str, bytes] = {}
    whole = 0
    for full_name, data in members:
        name = _check_name(full_name)
        if name in contents:
            raise UnsoundError(f"{name} is in the archive twice")
        content = _read(data, min(FILE, most - whole) + 1)
        whole += len(content)
        if len(content) > FILE or whole > most or len(contents) >= FILES:
            raise UnsoundError(f"the archive is too large when unpacked: at {name}")
        contents[name] = content
    top = "" if "record.json" in contents else _top(contents)
    tree = Tree(None, {name.removeprefix(top): data for name, data in contents.items()})
    for name, content in tree.packed.items():
        _add(tree, name, len(content))
    for name in tree.sizes:
        for folder in map(str, PurePosixPath(name).parents):
            if folder in tree.sizes:
                raise UnsoundError(f"{folder} is a file, and {name} lies in it")
    return tree


def _top(contents: dict[str, bytes]) -> str:
    tops = {name.partition("/")[0] for name in contents if "/" in name}
    if len(tops) != 1 or not all("/" in name for name in contents):
        raise UnsoundError("the archive is not one report's folder: it has no record.json, or several folders")
    return f"{tops.pop()}/"


def _most(path: Path) -> int:
    """How many bytes an archive may unpack to."""
    return min(WHOLE, max(64 << 20, path.stat().st_size * RATIO))


def _read(data: IO[bytes], most: int) -> bytes:
    """So many bytes, or all that there are."""
    pieces, room = [], most
    while room > 0 and (piece := data.read(min(room, _STEP))):
        pieces.append(piece)
        room -= len(piece)
    return b"".join(pieces)


class _Careful:
    """A tar archive for Python's reader, which would read a header of any size at once."""

    def __init__(self, data: IO[bytes]) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if not 0 <= size <= _STEP:
            raise UnsoundError(f"the archive has a header of {size} bytes")
        return self._data.read(size)

    def seek(self, place: int) -> int:
        """Go to a place, counted from the begin."""
        return self._data.seek(place)

    def tell(self) -> int:
        """The place."""
        return self._data.tell()


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[_Careful]:
    """A tar archive as a plain one, in which a reader may go back.

    :raises UnsoundError: it would be larger than any.
    """
    unpack = next((opener for mark, opener in _PACKED.items() if _begins(path, mark)), None)
    if unpack is None:
        with path.open("rb") as data:
            yield _Careful(data)
        return
    most = _most(path) + _HEADERS
    with unpack(path, "rb") as packed, tempfile.SpooledTemporaryFile(_IN_MEMORY) as data:
        while piece := packed.read(_STEP):
            if data.tell() + len(piece) > most:
                raise UnsoundError(f"{path.name} unpacks to too much")
            data.write(piece)
        data.seek(0)
        yield _Careful(data)


def _tar(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with _unpacked(path) as content, tarfile.open(fileobj=content, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            if set(archive.pax_headers) - _PAX:
                raise UnsoundError(f"{path.name} uses global names, which not every program reads")
            if member.issparse():
                raise UnsoundError(f"{member.name} has holes in it, which not every unpacker reads")
            part = "" if archive.fileobj is None else _read_otherwise(archive.fileobj, member)
            if part:
                raise UnsoundError(f"{path.name} has a {part} that not every program reads: {member.name}")
            data = archive.extractfile(member) if member.isreg() else None
            if data is not None:
                yield member.name, data
            elif not member.isdir():
                raise UnsoundError(f"{member.name} is a link or a special file, which a report must not have")
            else:
                _check_name(member.name)
        if archive.fileobj is not None:
            # Some unpackers go on behind a block of zeros, or at a second archive.
            archive.fileobj.seek(archive.offset)
            rest = archive.fileobj.read(_PADDING + 1)
            if len(rest) > _PADDING or rest.strip(b"\0"):
                raise UnsoundError(f"{path.name} goes on behind the archive's end: programs unpack it differently")


def _read_otherwise(data: Any, member: tarfile.TarInfo) -> str:
    """What of a member not each unpacker reads alike, its name or its size (POSIX: pax, ustar; GNU tar: tar.h); or "".

    A pax header, or GNU's own, may only say the rest of a name that is too long. Only in the form of POSIX a name has
    a first part of its own: GNU's has times in its place.
    """
    data.seek(member.offset_data - _TAR_BLOCK)
    head = data.read(_TAR_BLOCK)
    name, first = (part.partition(b"\0")[0].decode("utf-8", "replace") for part in (head[:100], head[345:500]))
    posix = head[257:265] == b"ustar\00000"
    if not re.fullmatch(rb"[0-7]{11}[ \0]", head[124:136]) or int(head[124:135], 8) != member.size:
        return "size"
    if strange := set(member.pax_headers) - _PAX - {"path"}:
        return min(strange)
    short, read = f"{first}/{name}" if first else name, member.name
    if member.isdir():
        short, read = short.rstrip("/"), read.rstrip("/")
    alike = read == short or (len(short) >= len(head[:100]) and read.startswith(short))
    return "" if alike and (posix or not first) else "name"


def _begins(path: Path, mark: bytes) -> bool:
    with path.open("rb") as data:
        return data.read(len(mark)) == mark


def _ends_like_zip(path: Path) -> bool:
    """Whether a program that looks for a zip archive from a file's end would find one.

    APPNOTE.TXT 4.3.16: an end record tells the size and the place of the directory, whose first entry has a mark. The
    end record's mark alone is in one of 65,000 compressed files by chance.
    """
    with path.open("rb") as data:
        length = data.seek(0, os.SEEK_END)
        begin = data.seek(max(0, length - _ZIP_END.size - 0xFFFF))
        tail = data.read()
        at = -1
        while 0 <= (at := tail.find(b"PK\5\6", at + 1)) <= len(tail) - _ZIP_END.size:
            *_, size, offset, _ = _ZIP_END.unpack_from(tail, at)
            if 0xFFFFFFFF in (size, offset):  # the record of 64 bits has them
                return True
            for place in (offset, begin + at - size):
                if 0 <= place < length and data.seek(place) == place and data.read(4) == b"PK\1\2":
                    return True
    return False


def _zip(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            _nothing_else(path, archive.infolist())
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IFMT(mode):
                    raise UnsoundError(f"{member.filename} is a link or a special file, which a report must not have")
                if member.is_dir():
                    _check_name(member.filename.rstrip("/"))
                    continue
                with archive.open(member) as data:
                    yield member.filename, data
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise UnsoundError(f"{path.name} is damaged: {error}") from error


def _nothing_else(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """A zip archive is its members, one behind the other, and their list (PKWARE: APPNOTE.TXT, 4.3).

    :raises UnsoundError: it holds more, so that an unpacker that reads from its start finds other files.
    """
    with path.open("rb") as data:
        data.seek(-_ZIP_END.size, os.SEEK_END)
        end = data.tell()
        mark, *disks, here, count, size, first, comment = _ZIP_END.unpack(data.read())
        at = before = 0
        for entry in sorted(members, key=lambda member: member.header_offset):
            if entry.header_offset - at not in ((0, 12, 16) if at and before & _DESCRIBED else (0,)):
                break
            data.seek(entry.header_offset)
            head, before, method, *sizes, name, more = _ZIP_MEMBER.unpack(data.read(_ZIP_MEMBER.size))
            header = [entry.CRC, entry.compress_size, entry.file_size]
            if (before, method) != (entry.flag_bits, entry.compress_type) or not (
                sizes == header or (before & _DESCRIBED and not any(sizes))
            ):
                break
            data.seek(name, os.SEEK_CUR)
            if entry.comment or entry.filename != entry.orig_filename:
                break
            if head != b"PK\3\4" or {*_kinds(entry.extra), *_kinds(data.read(more))} - _EXTRA:
                break
            at = data.tell() + entry.compress_size
        else:
            whole = first - at in ((0, 12, 16) if at and before & _DESCRIBED else (0,)) and first + size == end
            counted = [*disks, here, count] == [0, 0, len(members), len(members)]
            if whole and counted and mark == b"PK\5\6" and not comment:
                return
    raise UnsoundError(f"{path.name} holds more than its list names, or names that programs read differently")


def _kinds(extra: bytes) -> Iterator[int]:
    """Which kinds of further facts a member has."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        yield kind
        extra = extra[4 + size :]


def _check_name(name: str) -> str:
    """A name as a report's files have it.

    :raises UnsoundError: it leads elsewhere, or is made to look like another.
    """
    name = name.removeprefix("./") or "."
    parts = PurePosixPath(name).parts
    if name != "." and (name.startswith("/") or "\\" in name or ".." in parts or "/".join(parts) != name.rstrip("/")):
        raise UnsoundError(f"the name {legible(repr(name), 80)} leads out of the report or is not a plain name")
    strange = _NOT_EVERYWHERE.search(name) or any(
        part.endswith((".", " ")) or part.startswith("-") or _DEVICE.fullmatch(part) for part in parts if name != "."
    )
    if len(name) > NAME or not name.isascii() or not name.isprintable() or strange:
        raise UnsoundError(f"the name {legible(repr(name), 80)} is not a plain name")
    return name


def _add(tree: Tree, name: str, size: int) -> None:
    if tree.cases.setdefault(name.lower(), name) != name:
        raise UnsoundError(f"{name} and {tree.cases[name.lower()]} are the same file where case does not count")
    tree.sizes[name] = size
    tree.whole += size
    if len(tree.sizes) > FILES or size > FILE or tree.whole > WHOLE:
        raise UnsoundError(f"the report is too large: at {name}")
