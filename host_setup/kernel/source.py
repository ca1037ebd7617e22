# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel source: a package of Debian's, or the tree or tarball that the user names.

A source is identified by its content alone: the same tree in another folder is the same source, a changed byte makes
another one. What a build leaves in a tree does not count (``tree`` says what that is).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from common.commands import git
from common.errors import CommandError, SetupError, UserInputError
from common.names import path_text
from common.paths import parse_path
from common.progress import Terminal
from common.store import Store, digest
from host_setup.kernel import debian_archive, tarball, tree
from host_setup.kernel.makefile import release

STAGE = "kernel source"
OPTIONS = ("--kernel", "--kernel-source")
HELP = (
    f"kernel source: a tree or a tarball, or Debian's package of it by release ({debian_archive.NAMES}), which is "
    "fetched; default: the installed linux-source-6.12"
)
_ADDRESS = re.compile(r"[a-z+]+:/|[\w.-]+@[\w.-]+:")  # a path has no two slashes any more
DEBIAN_PACKAGE = "linux-source-6.12"
DEBIAN_TARBALL = Path("/usr/src/linux-source-6.12.tar.xz")


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
    :ivar folder: where the tree begins in a tarball. :ivar files: of a tree.
    """

    path: Path
    kind: Kind
    release: str
    identity: str
    folder: str = ""
    files: tuple[tree.File, ...] = field(default=(), compare=False, repr=False)

    @property
    def description(self) -> str:
        """One line for a report."""
        return f"Linux {self.release}, {self.kind} {path_text(self.path)}"

    def unpack(self, folder: Path, log: Path, earlier: Path | None = None) -> None:
        """Put the source into an empty folder, without what a build may have left in it.

        :param earlier: a folder that an earlier state of the same tree was unpacked into; files that are as they were
            then become hard links to it.
        :raises KernelError: the tarball is damaged, or the tree is being changed meanwhile.
        """
        if self.kind is Kind.TARBALL:
            tarball.unpack(self.path, tarball.Content(self.release, self.folder), folder, log, _reinstall(self.path))
            _require_all(folder, self.path)
        else:
            tree.copy(self.files, folder, earlier)


def parse(text: str) -> Path | str:
    """What an option means: the release of a package of Debian's (a ``str``), or a path; ``./7.3`` is always a path."""
    return text if debian_archive.is_name(text) else parse_path(text)


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option that names the source, as ``kernel_source``."""
    parser.add_argument(*OPTIONS, dest="kernel_source", type=parse, metavar="NAME|PATH", help=HELP)


def resolve(origin: Path | str | None, store: Store) -> Source:
    """The source that the user means.

    :param origin: a tree or a tarball; the release of a package of Debian's, which is fetched; None for the one that is
        installed.
    :param store: keeps what was fetched, and remembers the hash of what has not changed since.
    :raises SetupError: Debian's package is not installed or cannot be fetched, or a decompressor is missing.
    :raises UserInputError: there is nothing of the kind, or it is no kernel.
    """
    if isinstance(origin, str):
        return _tarball(debian_archive.tarball(origin, store, Terminal()), store)
    return _source_named(origin, store)


def _source_named(user_path: Path | None, store: Store) -> Source:
    if user_path is None:
        if not DEBIAN_TARBALL.exists():
            raise SetupError(
                f"no kernel source: {DEBIAN_TARBALL} is missing",
                stage=STAGE,
                hint=f"apt-get install {DEBIAN_PACKAGE}, or name a tree or tarball with --kernel",
            )
        return _tarball(DEBIAN_TARBALL, store)
    hint = f"name a kernel tree or tarball, or a release: {debian_archive.NAMES}"
    if _ADDRESS.match(str(user_path)):
        hint = "clone or fetch it, and name the folder or the file"
    try:
        path = user_path.expanduser().resolve(strict=True)
        if path.is_dir():
            return _tree(path, store)
        if path.is_file():
            return _tarball(path, store)
    except FileNotFoundError as error:
        raise UserInputError(f"no such kernel source: {path_text(user_path)}", stage=STAGE, hint=hint) from error
    except (OSError, RuntimeError) as error:  # no right to look there; a link in a circle; no such user behind a ~
        raise UserInputError(
            f"cannot read the kernel source {path_text(user_path)}: {error}", stage=STAGE, hint=hint
        ) from error
    raise UserInputError(f"{path_text(path)} is neither a folder nor a file", stage=STAGE, hint=hint)


def _tarball(path: Path, store: Store) -> Source:
    status = path.stat()
    facts = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    key = digest("tarball", str(path), facts)

    def examine(folder: Path) -> None:
        content = tarball.look_into(path, _reinstall(path))
        with path.open("rb") as packed:
            identity = hashlib.file_digest(packed, "sha256").hexdigest()
        content_facts = {"release": content.release, "folder": content.folder, "identity": identity}
        (folder / "facts.json").write_text(json.dumps(content_facts), encoding="ascii")

    entry = store.get_or_make("identity", key, examine)
    content_facts = json.loads((entry / "facts.json").read_text(encoding="ascii"))
    return Source(path, Kind.TARBALL, content_facts["release"], content_facts["identity"], content_facts["folder"])


def _reinstall(path: Path) -> str:
    return (
        f"apt-get install --reinstall {DEBIAN_PACKAGE}"
        if path == DEBIAN_TARBALL
        else "fetch it again, or unpack it and name the folder"
    )


def _tree(path: Path, store: Store) -> Source:
    makefile = path / "Makefile"
    if not makefile.is_file():
        raise _no_makefile(path)
    version = release(makefile.read_text(encoding="utf-8", errors="replace"))
    if version is None:
        raise UserInputError(
            f"{path_text(path)} is not a Linux kernel: its top Makefile names no kernel version",
            stage=STAGE,
            hint="name the folder (or its tarball) that holds the kernel's MAINTAINERS file",
        )
    _require_all(path, path)
    files = tree.read(path, store)
    return Source(path, Kind.GIT if _is_repository(path) else Kind.TREE, version, tree.identity(files), files=files)


def _no_makefile(path: Path) -> UserInputError:
    fault, hint = "it has no Makefile", "name the top folder of a kernel tree"
    inside = next((below for below in sorted(path.glob("*/MAINTAINERS")) if below.with_name("Kbuild").is_file()), None)
    if (path / "HEAD").is_file() and (path / "objects").is_dir():
        fault, hint = "it is a bare repository", "check out a commit (git worktree add), and name that folder"
    elif inside is not None:
        hint = f"name the kernel's own folder: {path_text(inside.parent)}"
    elif (path / ".git").exists():
        hint = "check out a commit there (git checkout, git submodule update), or name the top folder of a kernel tree"
    return UserInputError(f"{path_text(path)} is not a Linux kernel: {fault}", stage=STAGE, hint=hint)


def _require_all(tree: Path, path: Path) -> None:
    """Refuse a tree that holds the kernel's headers alone.

    :param path: as its user named it.
    """
    if (tree / "Kconfig").is_file() and not (tree / "init/main.c").is_file():
        raise UserInputError(
            f"{path_text(path)} is not all of a Linux kernel: it has no init/main.c",
            stage=STAGE,
            hint="headers alone build no kernel; of a sparse checkout: git sparse-checkout disable",
        )


def _is_repository(path: Path) -> bool:
    """Whether it is one for git; one whose other half is elsewhere, as of a worktree that was moved, is none."""
    try:
        return (path / ".git").exists() and git(path, "rev-parse", "--is-inside-work-tree", stage=STAGE) == b"true\n"
    except CommandError:
        return False
