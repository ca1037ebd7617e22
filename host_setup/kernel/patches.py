# SPDX-License-Identifier: GPL-2.0-or-later
"""Source trees in the cache: the one that came, and the ones with patches, which share the files that no patch touches.

A patched tree is made of hard links. GNU patch writes a new file and renames it into place, so that the tree it came
from keeps its own; a unit test holds it to that.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from common.errors import CommandError, KernelError
from common.processes import run_tree
from common.progress import Terminal
from common.store import GIB, Store, digest
from host_setup.kernel.source import Source

STAGE = "patch"
# A point release may have changed one line next to a hunk. GNU patch would let two differ, which leaves a hunk with
# little context none at all to tell its place by.
PATCH = ("patch", "-p1", "--force", "--fuzz=1", "--no-backup-if-mismatch")
_TREE = "linux"  # the folder's name in the entry
_ORIGIN = "origin"  # a file beside it: the path that it was taken from
_TREE_NEEDS = 2 * GIB  # an unpacked 6.12 is 1.6 GiB
_UNPACK_SECONDS = 40.0


def source_tree(source: Source, patches: Sequence[Path], store: Store, terminal: Terminal, logs: Path) -> Path:
    """The source with the patches applied, in an entry of the cache.

    :param logs: where logs and rejects go; they outlive a failure.
    :raises KernelError: a patch does not apply, or the source cannot be unpacked.
    """
    pristine_key = digest("pristine", source.identity)

    def unpack(folder: Path) -> None:
        with terminal.step(f"unpack Linux {source.release}", expected=_UNPACK_SECONDS):
            tree = folder / _TREE
            tree.mkdir()
            source.unpack(tree, logs / "unpack.log", _earlier(source, store))
            (folder / _ORIGIN).write_bytes(os.fsencode(source.path))

    pristine = store.get_or_make("source", pristine_key, unpack, need=_TREE_NEEDS) / _TREE
    if not patches:
        return pristine

    def patch(folder: Path) -> None:
        log = logs / "patch.log"
        with terminal.step(f"apply {len(patches)} patches"):
            run_tree(["cp", "--archive", "--link", str(pristine), str(folder)], log=log, stage=STAGE)
            apply(folder / _TREE, patches, logs, pristine)

    content = [part for file in patches for part in (file.name, file.read_bytes())]
    return store.get_or_make("source", digest(*PATCH, source.identity, *content), patch, need=GIB // 4) / _TREE


def _earlier(source: Source, store: Store) -> Path | None:
    """The newest tree in the cache that was taken from the same path."""
    origins = sorted((store.root / "source").glob(f"*/{_ORIGIN}"), key=lambda file: file.stat().st_mtime, reverse=True)
    found = (file.parent / _TREE for file in origins if file.read_bytes() == os.fsencode(source.path))
    return next(found, None)


def apply(tree: Path, patches: Sequence[Path], logs: Path, pristine: Path) -> None:
    """Apply patches one after the other; each is tried before it changes anything.

    :param pristine: the tree without patches, for the command that repeats a failure.
    :raises KernelError: one does not apply; carries the hunks that were rejected.
    """
    log = logs / "patch.log"
    for number, file in enumerate(patches):
        command = [*PATCH, f"--input={file.resolve()}"]
        try:
            run_tree([*command, "--dry-run"], cwd=tree, log=log, stage=STAGE)
            run_tree(command, cwd=tree, log=log, stage=STAGE)
        except CommandError as error:
            rejects = _rejects(tree, command, logs / f"{file.name}.rej", log)
            raise KernelError(
                f"{file.name} does not apply\n{error.tail}{rejects}".rstrip(),
                stage=STAGE,
                artefact=log,
                hint=f"make the patch fit; this repeats it: {_repeat(patches[: number + 1], pristine)}",
            ) from error


def _rejects(tree: Path, command: Sequence[str], file: Path, log: Path) -> str:
    """The hunks that do not fit, in the patch's own words. The tree is spoilt by it; it is being thrown away."""
    try:
        run_tree([*command, f"--reject-file={file}"], cwd=tree, log=log, stage=STAGE)
    except CommandError:
        if file.exists():
            return file.read_text(encoding="utf-8", errors="replace")
    return ""


def _repeat(patches: Sequence[Path], pristine: Path) -> str:
    applied = " && ".join(f"{shlex.join(PATCH)} < {shlex.quote(str(file.resolve()))}" for file in patches)
    return f"cp -al {shlex.quote(str(pristine))} /tmp/patched && cd /tmp/patched && {applied}"
