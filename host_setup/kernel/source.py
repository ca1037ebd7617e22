# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel source: Debian's package, or the tree or tarball that the user names.

A source is identified by its content alone: the same tree in another folder is the same source, a changed byte makes
another one. What a build leaves in a tree does not count; the tree's own ``.gitignore`` files say what that is. (The
kernel ships them in its releases and Debian in its package.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO, cast

from common.commands import output
from common.errors import CommandError, KernelError, SetupError, UserInputError
from common.processes import run_tree, spawn
from common.store import Store, digest

STAGE = "kernel source"
DEBIAN_PACKAGE = "linux-source-6.12"
DEBIAN_TARBALL = Path("/usr/src/linux-source-6.12.tar.xz")

# First bytes of a file -> the program that decompresses it to its standard output.
_DECOMPRESSORS = {b"\xfd7zXZ\0": "xz", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_LARGEST_MAKEFILE = 1 << 20  # bytes


class Kind(StrEnum):
    """What the source is made of."""

    TARBALL = "tarball"
    GIT = "git tree"
    TREE = "tree"


@dataclass(frozen=True, slots=True)
class Source:
    """One kernel source.

    :ivar path: the tarball or the tree, absolute.
    :ivar release: as its Makefile says, for instance ``6.12.117`` or ``6.13.0-rc1``.
    :ivar identity: hash of its content.
    :ivar depth: leading folders of the names in a tarball, 0 for a tree.
    """

    path: Path
    kind: Kind
    release: str
    identity: str
    depth: int = 0

    @property
    def description(self) -> str:
        """One line for a report."""
        return f"Linux {self.release}, {self.kind} {self.path}"

    def unpack(self, folder: Path, log: Path, earlier: Path | None = None) -> None:
        """Put the source into an empty folder, without what a build may have left in it.

        :param earlier: a folder that an earlier state of the same tree was unpacked into; files that are as they were
            then become hard links to it.
        :raises KernelError: the tarball is damaged, or the tree is being changed meanwhile.
        """
        if self.kind is Kind.TARBALL:
            self._extract(folder, log)
        elif self.kind is Kind.GIT:
            with _git_snapshot(self.path) as snapshot:
                _copy(self.path, snapshot.names(), folder, earlier)
            with _git_snapshot(self.path) as snapshot:
                self._require_unchanged(snapshot.tree)
        else:
            names = _names(self.path)
            _copy(self.path, names, folder, earlier)
            self._require_unchanged(_content(folder, names))

    def _extract(self, folder: Path, log: Path) -> None:
        strip = f"--strip-components={self.depth}"
        try:
            run_tree(["tar", "-xf", str(self.path), "-C", str(folder), strip, "--no-same-owner"], log=log, stage=STAGE)
        except CommandError as error:
            raise _damaged(self.path, error.tail, log) from error

    def _require_unchanged(self, identity: str) -> None:
        if identity != self.identity:
            raise KernelError(f"{self.path} was changed while it was being read", stage=STAGE, hint="run it again")


def resolve(user_path: Path | None, store: Store) -> Source:
    """The source that the user means.

    :param user_path: a tree or a tarball (plain, gzip, xz or zstd); None for Debian's package.
    :param store: remembers the hash of what has not changed since.
    :raises SetupError: Debian's package is not installed.
    :raises UserInputError: there is nothing of the kind, or it is no kernel.
    """
    if user_path is None:
        if not DEBIAN_TARBALL.exists():
            raise SetupError(
                f"no kernel source: {DEBIAN_TARBALL} is missing",
                stage=STAGE,
                hint=f"apt-get install {DEBIAN_PACKAGE}, or name a tree or tarball with --kernel-source",
            )
        return _tarball(DEBIAN_TARBALL, store)
    path = user_path.expanduser().resolve()
    if path.is_dir():
        return _tree(path, store)
    if path.is_file():
        return _tarball(path, store)
    raise UserInputError(f"no such kernel source: {path}", stage=STAGE, hint="name a kernel tree or tarball")


def _parse_release(makefile: str, path: Path) -> str:
    """The release that a kernel's top Makefile states in its first lines.

    :raises UserInputError: it is not a kernel's. (U-Boot's has the same first lines, but no KERNELVERSION.)
    """
    fields: dict[str, str] = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)[ \t]*$", makefile, re.M)
    )
    numbers = [fields.get(name, "") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if not all(number.isdigit() for number in numbers) or not re.search(r"^KERNELVERSION\s*=", makefile, re.M):
        raise UserInputError(
            f"{path} is not a Linux kernel: its top Makefile states no kernel version",
            stage=STAGE,
            hint="name the folder (or the tarball of the folder) that holds the kernel's MAINTAINERS file",
        )
    return ".".join(numbers) + fields.get("EXTRAVERSION", "")


def _damaged(path: Path, detail: str, log: Path | None = None) -> KernelError:
    fetch = f"apt-get install --reinstall {DEBIAN_PACKAGE}" if path == DEBIAN_TARBALL else "fetch it again"
    return KernelError(f"{path} is truncated or damaged\n{detail}".rstrip(), stage=STAGE, hint=fetch, artefact=log)


# --- tarballs ---------------------------------------------------------------------------------------------------------


def _tarball(path: Path, store: Store) -> Source:
    status = path.stat()
    key = digest("tarball", str(path), str(status.st_size), str(status.st_mtime_ns))

    def examine(folder: Path) -> None:
        release, depth = _look_into(path)
        with path.open("rb") as tarball:
            identity = hashlib.file_digest(tarball, "sha256").hexdigest()
        facts = {"release": release, "depth": depth, "identity": identity}
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")

    entry = store.get_or_make("identity", key, examine)
    facts = json.loads((entry / "facts.json").read_text(encoding="utf-8"))
    return Source(path, Kind.TARBALL, facts["release"], facts["identity"], facts["depth"])


def _look_into(path: Path) -> tuple[str, int]:
    """The release, and how many folders deep the tree begins; reads no further than the top Makefile.

    :raises KernelError: the tarball ends or breaks before it. :raises UserInputError: it is no tarball of a kernel.
    """
    with path.open("rb") as file:
        first = file.read(8)
    program = next((program for magic, program in _DECOMPRESSORS.items() if first.startswith(magic)), "cat")
    process = spawn([program, *([] if program == "cat" else ["-dc"]), str(path)], stdout=subprocess.PIPE)
    try:
        stream = cast("IO[bytes]", process.stdout)
        with tarfile.open(fileobj=stream, mode="r|") as tarball:
            for member in tarball:
                parts = PurePosixPath(member.name).parts
                makefile = tarball.extractfile(member) if parts[-1:] == ("Makefile",) and len(parts) <= 2 else None
                if makefile is not None:
                    text = makefile.read(_LARGEST_MAKEFILE).decode(errors="replace")
                    prefix = 1 if member.name.startswith("./") else 0
                    return _parse_release(text, path), len(parts) - 1 + prefix
        complete = process.wait() == 0
    except tarfile.ReadError as error:
        if first.startswith(tuple(_DECOMPRESSORS)) or "unexpected end" in str(error):
            raise _damaged(path, str(error)) from error
        raise UserInputError(f"{path} is not a tarball: {error}", stage=STAGE) from error
    finally:
        process.kill()
        process.wait()
    if not complete:
        raise _damaged(path, f"{program} cannot decompress it to its end")
    raise UserInputError(f"{path} is not a Linux kernel: it has no top Makefile", stage=STAGE)


# --- trees ------------------------------------------------------------------------------------------------------------


def _tree(path: Path, store: Store) -> Source:
    makefile = path / "Makefile"
    if not makefile.is_file():
        raise UserInputError(
            f"{path} is not a Linux kernel: it has no Makefile",
            stage=STAGE,
            hint="name the top folder of a kernel tree",
        )
    release = _parse_release(makefile.read_text(encoding="utf-8", errors="replace"), path)
    if (path / ".git").exists():
        with _git_snapshot(path) as snapshot:
            return Source(path, Kind.GIT, release, snapshot.tree)
    names = _names(path)
    key = digest("tree", str(path), _outside(path, names))

    def examine(folder: Path) -> None:
        (folder / "identity").write_text(_content(path, names), encoding="utf-8")

    entry = store.get_or_make("identity", key, examine)
    return Source(path, Kind.TREE, release, (entry / "identity").read_text(encoding="utf-8"))


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> bytes:
    # The tree may belong to somebody else, and the user's own ignore file must not decide what a kernel consists of.
    options = ("-c", f"safe.directory={folder}", "-c", "core.excludesFile=/dev/null")
    return output(["git", *options, "-C", str(folder), *arguments], stage=STAGE, env=env)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The content of a git tree as it is on disk, with uncommitted changes and new files.

    :ivar tree: its git hash. It is the same before and after the same change is committed.
    """

    path: Path
    tree: str
    env: dict[str, str]

    def names(self) -> list[str]:
        """Its files."""
        listed = _git(self.path, "ls-files", "-z", env=self.env).split(b"\0")
        return [os.fsdecode(name) for name in listed if name]


@contextmanager
def _git_snapshot(path: Path) -> Iterator[_Snapshot]:
    """Take a snapshot with an index and an object folder of our own: the user's repository is only read."""
    with tempfile.TemporaryDirectory(prefix="sealproof-") as scratch:
        index, objects = Path(scratch, "index"), Path(scratch, "objects")
        objects.mkdir()
        theirs, their_objects = (
            (path / os.fsdecode(_git(path, "rev-parse", "--git-path", name)).rstrip("\n")).resolve()
            for name in ("index", "objects")
        )
        if theirs.exists():
            shutil.copy2(theirs, index)  # it knows which files have not been touched: only the others are read
        env = {
            "GIT_INDEX_FILE": str(index),
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(their_objects),
        }
        _git(path, "add", "--all", env=env)
        yield _Snapshot(path, _git(path, "write-tree", env=env).decode().strip(), env)


def _names(path: Path) -> list[str]:
    """The files of a tree that is no git repository, sorted, without what its ``.gitignore`` files name."""
    with tempfile.TemporaryDirectory(prefix="sealproof-") as scratch:
        output(["git", "init", "--quiet", "--bare", scratch], stage=STAGE)
        listed = _git(path, f"--git-dir={scratch}", "--work-tree=.", "ls-files", "-z", "--others", "--exclude-standard")
    return sorted(os.fsdecode(name) for name in listed.split(b"\0") if name)


def _outside(path: Path, names: list[str]) -> bytes:
    """Hash of what can be told about the files without reading them; it changes whenever a file does."""
    whole = hashlib.sha256()
    for name in names:
        status = (path / name).lstat()
        facts = f"{status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        whole.update(os.fsencode(name) + b"\0" + facts.encode() + b"\0")
    return whole.digest()


def _content(path: Path, names: list[str]) -> str:
    """Hash of names, content and the executable bit."""
    whole = hashlib.sha256()
    for name in names:
        file = path / name
        if file.is_symlink():
            kind, data = b"l", os.fsencode(file.readlink())
        else:
            kind = b"x" if file.stat().st_mode & 0o100 else b"f"
            data = file.read_bytes()
        whole.update(os.fsencode(name) + b"\0" + kind + str(len(data)).encode() + b"\0" + data)
    return whole.hexdigest()


def _copy(path: Path, names: list[str], folder: Path, earlier: Path | None) -> None:
    for name in names:
        theirs, ours = path / name, folder / name
        ours.parent.mkdir(parents=True, exist_ok=True)
        if earlier is not None and _alike(theirs, earlier / name):
            ours.hardlink_to(earlier / name)
        else:
            try:
                shutil.copy2(theirs, ours, follow_symlinks=False)
            except FileNotFoundError as error:
                raise KernelError(
                    f"{theirs} went away while it was being read", stage=STAGE, hint="run it again"
                ) from error


def _alike(one: Path, other: Path) -> bool:
    """Whether two files are the same as far as make would say."""
    if not other.is_file() or other.is_symlink() or one.is_symlink():
        return False
    ours, theirs = one.stat(), other.stat()
    return (ours.st_size, ours.st_mtime_ns, ours.st_mode) == (theirs.st_size, theirs.st_mtime_ns, theirs.st_mode)
