# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders that a run writes to, and what stands in the way. Standard library alone; only looks, and never raises."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.paths import user_name
from host_setup.limits import Mount


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder that will be written to, which need not be there yet, and the file system that will hold it.

    :ivar free: bytes for ordinary users. :ivar files: how many more files it takes; None: as many as fit.
    :ivar problem: why nothing can be written there; empty if it can. :ivar noexec: no program starts from there.
    :ivar kind: of the file system, as mount(8) calls it.
    """

    path: Path
    free: int
    files: int | None = None
    problem: str = ""
    noexec: bool = False
    kind: str = ""


def free_bytes(folder: Path) -> int:
    """Bytes free for ordinary users on the file system of a folder."""
    return shutil.disk_usage(folder).free


def look(
    path: Path, mounted: Sequence[Mount], free: Callable[[Path], int] = free_bytes, *, inside: bool = False
) -> Disk:
    """What doctor says of a folder, which need not be there yet.

    :param mounted: all that is. :param free: bytes on the file system of a folder that is there.
    :param inside: the folders in it are written to as well; another user may have made them.
    """
    if not path.is_absolute():
        return Disk(
            path, 0, problem=f"{user_name()} has no home folder: HOME is not set, and /etc/passwd does not name one"
        )
    there, problem = _nearest(path)
    try:
        status, room = os.statvfs(there), free(there)
    except OSError as error:
        return Disk(path, 0, problem=problem or f"{there}: {error.strerror}")
    if not problem and status.f_flag & os.ST_RDONLY:
        problem = f"the file system of {there} is read-only"
    if not problem and (closed := _unwritable_folder(there, inside=inside and there == path)):
        problem = f"{user_name()} may not write to {closed}"
    files = status.f_favail if status.f_files else None
    return Disk(path, room, files, problem, bool(status.f_flag & os.ST_NOEXEC), _kind(there, mounted))


def temporary(mounted: Sequence[Mount]) -> Disk:
    """Where programs put temporary files: in TMPDIR, else in the first of /tmp, /var/tmp and others that takes one.

    Some of them end where TMPDIR names no folder (mktemp), others pass over it.
    """
    named = os.environ.get("TMPDIR")
    if named:
        folder = Path(named).absolute()
        return (
            look(folder, mounted)
            if folder.is_dir()
            else Disk(folder, 0, problem="TMPDIR names it, and it is no folder")
        )
    try:
        return look(Path(tempfile.gettempdir()), mounted)
    except FileNotFoundError as error:
        return Disk(Path("/tmp"), 0, problem=error.strerror or str(error))  # noqa: S108  nothing is put there


def latest(reports: Path) -> str:
    """What ``latest`` is where it is no link to the last run's report, in words; or empty."""
    path = reports / "latest"
    try:
        if path.is_symlink() or not path.exists():
            return ""
        return "a folder" if path.is_dir() else "a file"
    except OSError:
        return ""  # what is wrong with the folder is told of that


def _nearest(path: Path) -> tuple[Path, str]:
    """The nearest folder that there is, of a path and those above it; and what stands in the way of making the rest."""
    for ancestor in (path, *path.parents):
        try:
            if ancestor.is_dir():
                return ancestor, ""
            ancestor.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return _nearest(ancestor.parent)[0], f"{ancestor}: {error.strerror}"
        return _nearest(ancestor.parent)[
            0
        ], f"{ancestor} is {'a link to nothing' if ancestor.is_symlink() else 'no folder'}"
    return Path("/"), ""


def _unwritable_folder(folder: Path, *, inside: bool) -> str:
    """Which may not be written to: a folder, or one of those inside it; empty if all may."""
    more = [entry for entry in folder.iterdir() if entry.is_dir()] if inside and _open(folder) else []
    return next((str(path) for path in (folder, *more) if not _open(path)), "")


def _open(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def _kind(folder: Path, mounted: Sequence[Mount]) -> str:
    """The kind of the file system that holds a folder: the last one mounted on the longest way to it."""
    place = Path(os.path.realpath(folder))
    holding = [(len(mount.place), number) for number, mount in enumerate(mounted) if place.is_relative_to(mount.place)]
    return mounted[max(holding)[1]].kind if holding else ""
