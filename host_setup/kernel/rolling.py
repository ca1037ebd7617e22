# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's build folder that goes from one kernel to the next: files that differ are written, make does the rest.

::

    source/           files of the last tree: of hard links, and files of its own where the way there has changed them
    source/build/     all objects
    state.json        what they were made by, and which files make may not have dealt with yet

A file whose make was killed may have left half an object behind, which is newer than the file. So each file that is
about to change is noted before, and written anew by the next build unless make has ended in order.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common.errors import KernelError
from common.processes import run_tree
from common.progress import Terminal
from common.store import Store, digest, no_space
from host_setup.kernel import kept_build, layers
from host_setup.kernel.build import Request, Site, site_in
from host_setup.kernel.kept_build import code_of, compile_all, fill_entry

STAGE = "rolling build"
_SECONDS = 300.0  # of the first build
_BUILD = "build"  # below the source
# Kconfig asks anew when one of these has changed.
_CONFIGURES = re.compile(r"(^|/)Kconfig[^/]*$|^scripts/kconfig/|^kernel/configs/|^arch/x86/configs/")


@dataclass(frozen=True, slots=True)
class _State:
    """What the folder is.

    :ivar by: hash of compiler and make's words. :ivar configured: hash of the options that its ``.config`` was made of.
    :ivar pending: files that were changed since make last ended in order.
    """

    by: str
    configured: str
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rolled:
    """What came of a build.

    :ivar changed: files that were written for it; None: all. :ivar seconds: that it took.
    :ivar code: hash of what runs.
    """

    changed: int | None
    seconds: float
    code: str


class RollingBuild:
    """The folder.

    :param folder: of its own, on the file system of the trees that are built. :param store: has ccache's folder.
    """

    def __init__(self, folder: Path, store: Store, terminal: Terminal) -> None:
        self._folder = folder
        self._store = store
        self._terminal = terminal
        self._log = folder / "build.log"
        self._last: tuple[Site, str] | None = None

    def build(self, tree: Path, request: Request, log: Path) -> Rolled:
        """Build a kernel.

        :param tree: the source with its patches; it is only read. :param request: of which it is. :param log: of make.
        :raises KernelError: it does not build, or an option is lost. :raises NoSpaceError: the disk is too small.
        """
        begun = time.monotonic()
        self._last = None
        compiler = request.toolchain.version()
        site = site_in(self._folder, request, self._store)
        by = digest(compiler, *site.make)
        state = self._state()
        changed: int | None = None
        if state is None or state.by != by:
            self._begin(tree, site)
            with self._terminal.step("build the kernel in a folder that goes on", expected=_SECONDS):
                self._make(site, request, _State(by, "", ()), log, anew=True)
        else:
            differing, extra = differences(tree, site.source)
            pending = tuple(sorted({*state.pending, *differing, *extra}))
            configured = "" if any(map(_CONFIGURES.search, pending)) else state.configured
            state = _State(by, configured, pending)
            self._note(state)
            for name in extra:
                (site.source / name).unlink(missing_ok=True)
            for name in sorted({*differing, *(name for name in state.pending if os.path.lexists(tree / name))}):
                _move_in(tree / name, site.source / name)
            changed = len(differing) + len(extra)
            with self._terminal.step(f"build the kernel: {changed} files differ"):
                self._make(site, request, state, log)
        self._last = site, compiler
        return Rolled(changed, time.monotonic() - begun, code_of(site, self._log))

    def hand_over(self, folder: Path, seconds: float) -> None:
        """Fill an entry of the cache with what was built last.

        :param seconds: that it took. :raises KernelError: nothing was.
        """
        if self._last is None:
            raise KernelError("no kernel has been built yet", stage=STAGE)
        fill_entry(folder, *self._last, seconds, self._log)

    def _begin(self, tree: Path, site: Site) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)
        if shutil.disk_usage(self._folder).free < kept_build.NEEDS:
            raise no_space(self._folder, kept_build.NEEDS)
        run_tree(["cp", "--archive", "--link", str(tree), str(site.source)], log=self._log, stage=STAGE)
        if site.out.is_dir() and not site.out.is_symlink():  # a user's own build folder of that name, or a link to it
            shutil.rmtree(site.out)
        else:
            site.out.unlink(missing_ok=True)
        site.out.mkdir()

    def _make(self, site: Site, request: Request, state: _State, log: Path, *, anew: bool = False) -> None:
        """Configure, if need be, and compile. Once make has ended in order, well or not, nothing is pending.

        :param anew: until then there is no state, so that the folder is made anew if this is killed.
        """
        options = _options(request)
        if state.configured != options:
            if not anew:
                self._note(replace(state, configured=""))
            shutil.rmtree(site.out / "fragments", ignore_errors=True)
            files, release = layers.fragments(request.layers, request.series, request.own), request.source.release
            layers.configure(site.make, site.environment, site.source, site.out, files, release, log, request.own)
        done = _State(state.by, options, ())
        try:
            compile_all(site, log)
        except KernelError:
            self._note(done)
            raise
        self._note(done)

    def _state(self) -> _State | None:
        try:
            state = json.loads((self._folder / "state.json").read_text(encoding="utf-8", errors="surrogateescape"))
            return _State(str(state["by"]), str(state["configured"]), tuple(map(str, state["pending"])))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _note(self, state: _State) -> None:
        scratch = self._folder / "state.json.new"
        scratch.write_text(json.dumps(asdict(state)), encoding="utf-8")
        scratch.replace(self._folder / "state.json")


def differences(tree: Path, source: Path) -> tuple[list[str], list[str]]:
    """The files of a tree that a folder has not, or has otherwise; and those that it has beyond.

    Two links to one file are alike, whatever is in it, so that of 86,000 files only those are read that differ.

    :param source: the folder; ``build`` in it is not of the tree.
    """
    there, here = dict(_files(tree)), dict(_files(source))
    differing = [
        name for name, status in there.items() if name not in here or not _same(tree, source, name, status, here[name])
    ]
    return sorted(differing), sorted(here.keys() - there.keys())


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files and links below a folder, by name."""
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}{entry.name}"
                if name == _BUILD:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                else:
                    yield name, entry.stat(follow_symlinks=False)


def _same(tree: Path, source: Path, name: str, here: os.stat_result, there: os.stat_result) -> bool:
    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
        return True
    if (here.st_mode, here.st_size) != (there.st_mode, there.st_size):
        return False
    first, second = tree / name, source / name
    if first.is_symlink():
        return first.readlink() == second.readlink()
    return first.read_bytes() == second.read_bytes()


def _move_in(file: Path, target: Path) -> None:
    """A copy of a file or a link, which make finds newer than all objects, in place of what is there."""
    for parent in target.parents:
        if parent.is_dir() and not parent.is_symlink():
            break
        parent.unlink(missing_ok=True)  # a file or a link, where there is a folder now
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(file.stat().st_mode & 0o7777)


def _options(request: Request) -> str:
    files = layers.fragments(request.layers, request.series, request.own)
    return digest(*(f"{wish.option}={wish.value}" for wish in layers.wishes(files, request.source.release)))
