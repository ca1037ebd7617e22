# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's build folder that is kept, so that a changed file costs its own compilation and a link.

::

    source/           the tree with the series, of hard links; a file that is changed becomes one of its own
    source/build/     all objects
    built.json        the key of the kernel that was built; missing while that is not complete
    changed.json      files that differ from the series, noted before they do
    code.sha256       of the series' own kernel, without its notes

What has been built is put into the cache under the key of what it would be made from there: the tree's series with one
patch more. The kernel is the same, byte for byte, but for what follows from the order of a link.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import CommandError, KernelError
from common.processes import run_tree
from common.progress import Terminal
from common.store import GIB, Store, no_space
from host_setup.kernel.build import (
    BUILD_KEPT,
    SOURCE_KEPT,
    Request,
    Site,
    key,
    lay_out,
    name_the_source_relatively,
    site_in,
    write_facts,
)
from host_setup.kernel.patches import source_tree

STAGE = "kept build"
NEEDS = 3 * GIB  # bytes: all objects, with debug information
_SECONDS = 300.0
# It counts links, and a kernel that says how often it was linked is never twice the same.
_ONE_VERSION = "KBUILD_BUILD_VERSION=1"


@dataclass(frozen=True, slots=True)
class Built:
    """What came of a build.

    :ivar seconds: that it took. :ivar same: whether the code is that of the series, byte for byte.
    """

    seconds: float
    same: bool


class KeptBuild:
    """The build folder of one kernel.

    :param folder: of its own, on the file system of the cache. :param request: the kernel without changes.
    :param store: has the source, and ccache's folder.
    """

    def __init__(self, folder: Path, request: Request, store: Store, terminal: Terminal) -> None:
        self._folder = folder
        self._request = request
        self._store = store
        self._terminal = terminal
        self._compiler = request.toolchain.version()
        self._key = key(request, self._compiler)
        self._site: Site = site_in(folder, request, store)
        self._log = folder / "build.log"

    @property
    def tree(self) -> Path:
        """The source with the series, to be read."""
        return source_tree(
            self._request.source, self._request.series.patches, self._store, self._terminal, self._folder
        )

    def open(self) -> None:
        """Make it what it should be: complete, and without changes that an earlier run has left.

        :raises KernelError: the series does not build. :raises NoSpaceError: the disk is too small.
        """
        if self._note("built.json") == {"key": self._key}:
            self._restore()
            return
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)
        if shutil.disk_usage(self._folder).free < NEEDS:
            raise no_space(self._folder, NEEDS)
        with self._terminal.step("build the kernel in a folder that is kept", expected=_SECONDS):
            lay_out(self.tree, self._folder, self._request, self._store, self._log)
            self._make(self._log)
        (self._folder / "code.sha256").write_text(self._code(), encoding="ascii")
        self._write("built.json", {"key": self._key})

    def build(self, changes: Mapping[str, str], log: Path) -> Built:
        """Build the kernel with some files changed, and no others.

        :param changes: the new text of each file, by its name in the tree.
        :raises KernelError: it does not compile.
        """
        begun = time.monotonic()
        self._restore(besides=changes)
        self._write("changed.json", sorted(changes))
        for name, text in changes.items():
            self._write_text(name, text)
        self._make(log)
        same = self._code() == (self._folder / "code.sha256").read_text(encoding="ascii")
        return Built(time.monotonic() - begun, same)

    def hand_over(self, folder: Path, seconds: float) -> None:
        """Fill an entry of the cache with what was built last.

        :param seconds: that it took.
        """
        fill_entry(folder, self._site, self._compiler, seconds, self._log)

    def _make(self, log: Path) -> None:
        compile_all(self._site, log)

    def _code(self) -> str:
        return code_of(self._site, self._log)

    def _restore(self, besides: Mapping[str, str] | None = None) -> None:
        tree = self.tree
        for name in self._changed_files():
            if name not in (besides or {}):
                original = tree / name
                if original.exists():
                    self._write_text(name, original.read_text(encoding="utf-8"))
                else:
                    (self._site.source / name).unlink(missing_ok=True)
        if not besides:
            self._write("changed.json", [])

    def _changed_files(self) -> list[str]:
        noted = self._note("changed.json")
        return [str(name) for name in noted] if isinstance(noted, list) else []

    def _write_text(self, name: str, text: str) -> None:
        """Give a file a text: a new file, which make finds newer than its objects, and not through a link."""
        path = self._site.source / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _note(self, name: str) -> object:
        try:
            return json.loads((self._folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _write(self, name: str, value: object) -> None:
        scratch = self._folder / f"{name}.new"
        scratch.write_text(json.dumps(value), encoding="utf-8")
        scratch.replace(self._folder / name)


def compile_all(site: Site, log: Path) -> None:
    """Let make compile what its last run did not.

    :raises KernelError: it does not compile. :raises NoSpaceError: the disk is full.
    """
    try:
        run_tree([*site.make, _ONE_VERSION, "all"], env=site.environment, log=log, stage=STAGE)
    except CommandError as error:
        if os.strerror(errno.ENOSPC) in error.tail:
            raise no_space(site.out, NEEDS) from error
        raise KernelError(f"the code does not build\n{error.tail}", stage=STAGE, artefact=log) from error


def code_of(site: Site, log: Path) -> str:
    """Hash of what runs: without debug information, and without the build ID, which depends on that."""
    flat = site.source.parent / "code.bin"
    command = ["objcopy", "-O", "binary", "-R", ".notes", "-R", ".comment", "-S"]
    run_tree([*command, str(site.out / "vmlinux"), str(flat)], log=log, stage=STAGE)
    with flat.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def fill_entry(folder: Path, site: Site, compiler: str, seconds: float, log: Path) -> None:
    """Fill an entry of the cache with what was built last.

    :param folder: the entry's. :param seconds: that the build took.
    """
    source = folder / "source"
    for base, target, patterns in ((site.source, source, SOURCE_KEPT), (site.out, source / "build", BUILD_KEPT)):
        words = [str(path.relative_to(base)) for pattern in patterns for path in base.glob(pattern)]
        target.mkdir(parents=True)
        # Links to sources, which are never written in place; copies of what make writes.
        link = ["--link"] if base == site.source else []
        run_tree(["cp", "--archive", "--parents", *link, *words, str(target)], cwd=base, log=log, stage=STAGE)
    name_the_source_relatively(source / "build", site.source)
    write_facts(folder, site, compiler, 0, seconds)
    (folder / "build.log").write_text("built in a folder that is kept\n", encoding="utf-8")
