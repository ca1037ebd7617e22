# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of results that take long to make, each kept under the hash of all its inputs.

An entry is a folder ``<kind>/<key>``; it is there complete or not at all. Several processes may ask for the same
entry: one makes it, the others wait for its lock. It is made in a scratch folder of the same file system and renamed
into place; a scratch folder whose maker was killed is removed by the next process that makes something. Entries are
never changed: each has the SHA-256 of its files, and one that was changed since is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import CommandError, NoSpaceError, SealproofError, SetupError

REPORTS = "--reports"  # names the folder of reports, as XDG_CACHE_HOME does that of the cache
GIB = 1 << 30
LOGS = "logs"
_FULL = 1 << 20  # bytes free, below which a program that failed on a disk may have found it full
_USED = ".used"  # its modification time is the entry's last use; it holds the entry's size in bytes
_SUMS = ".sums"  # what sha256sum says of the entry's files


def digest(*parts: str | bytes | Path) -> str:
    """Hash of an entry's inputs: 20 hexadecimal digits. A ``Path`` counts by name and content.

    Each part is preceded by its length, so that two lists of parts that merely concatenate alike differ.
    """
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = os.fsencode(part.name) + b"\0" + part.read_bytes()
        else:
            data = os.fsencode(part) if isinstance(part, str) else part  # a path may be any bytes
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:20]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; of a link, that of where it leads to."""
    if path.is_symlink():
        return hashlib.sha256(b"link to " + os.fsencode(path.readlink())).hexdigest()
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def sums(entry: Path) -> dict[str, str]:
    """What the files of an entry that was handed out are: name and SHA-256."""
    lines = (entry / _SUMS).read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def _write_sums(entry: Path) -> None:
    lines = [f"{file_sha256(path)}  {path.relative_to(entry)}\n" for path in _files(entry)]
    fresh = entry / f"{_SUMS}.{os.getpid()}"
    fresh.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    fresh.rename(entry / _SUMS)


def _files(entry: Path) -> list[Path]:
    """The files that were made, in order; a name with a line break in it, which no list can hold, is left out."""
    return [
        path
        for path in sorted(entry.rglob("*"))
        if (path.is_symlink() or path.is_file())
        and path.name != _USED
        and not path.name.startswith(_SUMS)
        and "\n" not in str(path)
    ]


@contextmanager
def disk_errors(where: Path, variable: str = "XDG_CACHE_HOME") -> Iterator[None]:
    """Turn "no space left" from the operating system into the error that tells what to do.

    :param variable: names the folder. :raises NoSpaceError: in place of ``OSError`` ENOSPC and EDQUOT.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(where, variable=variable) from error
        raise


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, which goes afterwards.

    :raises NoSpaceError: its disk is full. :raises SetupError: there is none to make it in.
    """
    try:
        where = tempfile.gettempdir()
    except FileNotFoundError as error:
        hint = "point TMPDIR to a writable folder on a local disk"
        raise SetupError(f"no temporary file can be written: {error.strerror}", stage="disk", hint=hint) from error
    with (
        disk_errors(Path(where), "TMPDIR"),
        tempfile.TemporaryDirectory(prefix="sealproof-", ignore_cleanup_errors=True) as folder,
    ):
        try:
            yield Path(folder)
        except CommandError as error:
            if shutil.disk_usage(where).free >= _FULL:
                raise
            raise no_space(Path(where), variable="TMPDIR") from error  # not every program says why it could not write


def no_space(where: Path, need: int = 0, variable: str = "XDG_CACHE_HOME") -> NoSpaceError:
    """The error for a disk without ``need`` free bytes (0: the disk is full), to which a variable points."""
    there = next(p for p in (where, *where.parents) if p.exists())
    free = shutil.disk_usage(there).free
    need_text = f", {need / GIB:.1f} GiB are needed" if need else ""
    return NoSpaceError(
        f"no space left for {where}: {free / GIB:.1f} GiB free{need_text}",
        hint=f"free some space, 'make clean-cache', or point {variable} to a larger disk",
    )


def _disk_full_error(error: BaseException, root: Path) -> NoSpaceError | None:
    """The error for a full disk, if a program that failed says so: of the cache or of the temporary files."""
    if not isinstance(error, SealproofError) or os.strerror(errno.ENOSPC) not in error.message:
        return None
    places = ((root, "XDG_CACHE_HOME"), (Path(tempfile.gettempdir()), "TMPDIR"))
    where, variable = min(places, key=lambda place: shutil.disk_usage(place[0]).free)
    return no_space(where, variable=variable)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):  # it was there: another user's
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SetupError(
            f"the cache cannot be used: {folder}: {error.strerror}",
            stage="cache",
            hint="'make doctor' says what to do; or name another folder in XDG_CACHE_HOME",
        ) from error


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the cache, or a log in it, as ``clean`` sees it: ``size`` in bytes, ``age`` in seconds."""

    kind: str
    key: str
    path: Path
    size: int
    age: float


def weigh(path: Path) -> int:
    """The disk that a file, or a folder's files, take, in bytes; done once, as a kernel's source has 80,000 of them.

    A file that has a name elsewhere as well takes none: an entry of patched sources is mostly such links.
    """
    return sum(size for size, elsewhere in _inodes(path).values() if not elsewhere)


def _inodes(path: Path) -> dict[tuple[int, int], tuple[int, bool]]:
    """Device and number of the files of a folder, or of one: the bytes of each, and whether it has a name elsewhere."""
    names: Counter[tuple[int, int]] = Counter()
    files: dict[tuple[int, int], tuple[int, bool]] = {}
    for file in [path] if path.is_file() else path.rglob("*"):
        try:
            status = file.lstat()
        except FileNotFoundError:  # ccache is at work
            continue
        if stat.S_ISREG(status.st_mode):
            inode = status.st_dev, status.st_ino
            names[inode] += 1
            files[inode] = status.st_blocks * 512, names[inode] < status.st_nlink
    return files


def _remove_log(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class Store:
    """The cache below one folder.

    :param root: the folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: set[Path] = set()

    def path(self, kind: str, key: str) -> Path:
        """Where an entry is, or would be."""
        return self.root / kind / key

    def get(self, kind: str, key: str) -> Path | None:
        """An entry that is there already, as it was made, or None.

        :raises SetupError: it was changed since it was made.
        """
        path = self.path(kind, key)
        if not path.is_dir():
            return None
        with contextlib.suppress(OSError):  # a cache that is only read has no use for it
            (path / _USED).touch()
        if path not in self._seen:
            self._check(kind, path)
            self._seen.add(path)
        return path

    @staticmethod
    def _check(kind: str, path: Path) -> None:
        """See that an entry's files are what they were when it was made."""
        if not (path / _SUMS).exists():  # an earlier version of sealproof made it
            _write_sums(path)
            return
        listed = sums(path)
        beside = {str(file.relative_to(path)) for file in _files(path)} - listed.keys()
        for name in sorted(beside) + list(listed):
            try:
                same = name not in beside and file_sha256(path / name) == listed[name]
            except FileNotFoundError:
                same = False
            if not same:
                raise SetupError(
                    f"the cache's {kind} {path.name} was changed since it was made: {name}",
                    stage="cache",
                    hint=f"rm -r {path}: the next run makes it again",
                    artefact=path / name,
                )

    def get_or_make(self, kind: str, key: str, make: Callable[[Path], None], *, need: int = 0) -> Path:
        """An entry, made if it is not there.

        :param make: fills the empty folder that it is given; whatever it raises leaves no entry behind.
        :param need: bytes of disk that making it takes; checked before ``make`` is called.
        :raises NoSpaceError: the disk is full, or has less than ``need`` free.
        """
        entry = self.get(kind, key)
        if entry is not None:
            return entry
        with disk_errors(self.root):
            for folder in (self.root / "scratch", self.root / "locks", self.root / kind):
                _make_folder(folder)
            with self._lock(kind, key):
                entry = self.get(kind, key)
                if entry is not None:
                    return entry
                self._sweep_scratch()
                if need and shutil.disk_usage(self.root).free < need:
                    raise no_space(self.root, need)
                scratch = self.root / "scratch" / f"{kind}-{key}"
                if scratch.exists():
                    shutil.rmtree(scratch)
                scratch.mkdir()
                begun = time.monotonic()
                try:
                    make(scratch)
                    _write_sums(scratch)
                    (scratch / _USED).write_text(str(weigh(scratch)), encoding="ascii")
                    scratch.rename(self.path(kind, key))
                    self._seen.add(self.path(kind, key))
                    self._note_seconds(kind, time.monotonic() - begun)
                except BaseException as error:
                    full = _disk_full_error(error, self.root)  # asked before what was made goes, and makes room
                    shutil.rmtree(scratch, ignore_errors=True)
                    if full is not None:
                        raise full from error
                    raise
        return self.path(kind, key)

    def seconds(self, kind: str) -> float | None:
        """Seconds that the last entry of a kind took to make; None if unknown."""
        try:
            return float(self._seconds_file(kind).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _note_seconds(self, kind: str, seconds: float) -> None:
        with contextlib.suppress(OSError):  # a forecast is not worth an error
            self._seconds_file(kind).write_text(f"{seconds:.1f}", encoding="ascii")

    def _seconds_file(self, kind: str) -> Path:
        return self.root / f"{kind}.seconds"

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry that turned out to be damaged."""
        with self._lock(kind, key):
            self._seen.discard(self.path(kind, key))
            shutil.rmtree(self.path(kind, key), ignore_errors=True)

    def entries(self) -> list[Entry]:
        """All entries, and the logs of how they were made, of kind ``logs``; the one used last first."""
        all_entries = []
        now = time.time()
        for used in self.root.glob(f"*/*/{_USED}"):
            path = used.parent
            if path.parent.name in ("scratch", "locks"):
                continue
            size = int(used.read_text(encoding="ascii") or 0)
            all_entries.append(Entry(path.parent.name, path.name, path, size, max(0.0, now - used.stat().st_mtime)))
        for log in (self.root / LOGS).glob("*"):
            with contextlib.suppress(FileNotFoundError):  # a maker that succeeds takes its logs away
                all_entries.append(Entry(LOGS, log.name, log, weigh(log), max(0.0, now - log.stat().st_mtime)))
        return sorted(all_entries, key=lambda entry: entry.age)

    def clean(self, *, max_bytes: int, max_age: float) -> list[Entry]:
        """Remove entries unused for ``max_age`` seconds, then the least recently used until ``max_bytes`` suffice.

        From the first entry that does not fit on, all are removed, even small ones: they were used even less recently.
        A file that an entry shares with one that is removed counts for the first entry from then on.

        :returns: what was removed.
        """
        _make_folder(self.root / "locks")
        self._sweep_scratch()
        removed: list[Entry] = []
        while entries := self._clean_once(max_bytes, max_age):
            removed += entries
        return removed

    def _clean_once(self, max_bytes: int, max_age: float) -> list[Entry]:
        removed, total, shared = [], 0, False
        for entry in self.entries():
            total += entry.size
            if entry.age <= max_age and total <= max_bytes:
                continue
            if entry.kind == LOGS:
                _remove_log(entry.path)
            else:
                shared = shared or any(elsewhere for _, elsewhere in _inodes(entry.path).values())
                self.discard(entry.kind, entry.key)
            removed.append(entry)
        if shared:
            self._weigh_again()
        return removed

    def _weigh_again(self) -> None:
        """Count each file for one entry: of the entries that have it, the one that was used last."""
        counted: set[tuple[int, int]] = set()
        for entry in self.entries():
            used = entry.path / _USED
            if entry.kind == LOGS:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process removes it
                files, then = _inodes(entry.path), used.stat()
                size = sum(size for inode, (size, _) in files.items() if inode not in counted)
                counted |= files.keys()
                used.write_text(str(size), encoding="ascii")
                os.utime(used, ns=(then.st_atime_ns, then.st_mtime_ns))

    def _lock(self, kind: str, key: str, timeout: float = -1) -> FileLock:
        with disk_errors(self.root):
            _make_folder(self.root / "locks")
        return FileLock(self.root / "locks" / f"{kind}-{key}", timeout=timeout)

    def _sweep_scratch(self) -> None:
        """Remove scratch folders that no living process is making."""
        for scratch in (self.root / "scratch").glob("*"):
            kind, _, key = scratch.name.rpartition("-")
            try:
                with self._lock(kind, key, timeout=0):
                    shutil.rmtree(scratch, ignore_errors=True)
            except Timeout:
                continue  # somebody is at work there
