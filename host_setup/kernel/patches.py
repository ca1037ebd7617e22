# SPDX-License-Identifier: GPL-2.0-or-later
"""Source trees in the cache: the one that came, and the ones with patches, which share the files that no patch touches.

A patched tree is made of hard links. GNU patch writes a new file and renames it into place, so that the tree it came
from keeps its own, and so does git; a unit test holds them to that.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from common.commands import GIT, GIT_ENVIRONMENT
from common.environment import shell_line
from common.errors import CommandError, KernelError
from common.names import path_text
from common.processes import run_tree
from common.progress import Terminal
from common.store import GIB, Store, digest
from host_setup.kernel.arrival import Patch
from host_setup.kernel.prefixes import folder_of, missing, strip_of
from host_setup.kernel.source import Source

STAGE = "patch"
# A point release may have changed one line next to a hunk. GNU patch would let two differ, which leaves a hunk with
# little context none at all to tell its place by.
PATCH = ("patch", "-p1", "--force", "--fuzz=1", "--no-backup-if-mismatch")
_BINARY = (*GIT, "apply", "--whitespace=nowarn", "-C2")  # what GNU patch cannot; as strict as it
_NO_FILE = "can't find file to patch"  # GNU patch's words
_TREE = "linux"  # the folder's name in the entry
_ORIGIN = "origin"  # a file beside it: the path that it was taken from
_TREE_NEEDS = 2 * GIB  # an unpacked 6.12 is 1.6 GiB
_UNPACK_SECONDS = 40.0


def source_tree(source: Source, patches: Sequence[Patch], store: Store, terminal: Terminal, logs: Path) -> Path:
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

    content = [part for patch in patches for part in patch.inputs]
    return store.get_or_make("source", digest(*PATCH, source.identity, *content), patch, need=GIB // 4) / _TREE


def _earlier(source: Source, store: Store) -> Path | None:
    """The newest tree in the cache that was taken from the same path."""
    origins = sorted((store.root / "source").glob(f"*/{_ORIGIN}"), key=lambda file: file.stat().st_mtime, reverse=True)
    trees = (file.parent / _TREE for file in origins if file.read_bytes() == os.fsencode(source.path))
    return next(trees, None)


def apply(tree: Path, patches: Sequence[Patch], logs: Path, pristine: Path) -> None:
    """Apply patches one after the other.

    :param pristine: the tree without patches, for the command that repeats a failure.
    :raises KernelError: one does not apply; carries the hunks that were rejected. The tree is spoilt then.
    """
    log = logs / "patch.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    commands: list[list[str]] = []
    for number, patch in enumerate(patches, 1):
        plain = re.sub(r"[^\w.+-]", "_", patch.name)[:100]
        change, rejected = (logs / f"{number:04}-{plain}{suffix}" for suffix in (".diff", ".rej"))
        change.write_bytes(patch.change)
        level = _strip(patch, tree)
        strip = f"-p{level}"
        _require_whole(tree, patch, strip, change, log)
        lost = missing(patch.change, tree, level)
        commands.append(_command(patch, strip, change))
        rejects = [] if patch.is_binary else [f"--reject-file={rejected}"]
        try:
            run_tree([*commands[-1], *rejects], cwd=tree, env=_alone(tree), log=log, stage=STAGE)
        except CommandError as error:
            again = shlex.quote(str(_repeat(commands, pristine, logs)))
            hunks = rejected.read_text(encoding="utf-8", errors="replace") if rejected.exists() else ""
            message = f"{patch.name} does not apply"
            if lost and _NO_FILE in error.tail:
                more = f" and {len(lost) - 1} more of its files" if lost[1:] else ""
                message += f": the source has no {path_text(lost[0])}{more}"
            else:
                message += f"\n{error.tail}{hunks}".rstrip()
            raise KernelError(
                message,
                stage=STAGE,
                artefact=log,
                hint=f"{_next_step(tree, patches, number, lost, logs)}; this repeats the error: sh {again}",
            ) from error


def _next_step(tree: Path, patches: Sequence[Patch], number: int, lost: Sequence[str], logs: Path) -> str:
    """What its user may do about a patch that does not apply, the one of that number."""
    patch = patches[number - 1]
    there = next((candidate for candidate in (patch, patches[-1]) if _is_there(tree, candidate, logs)), None)
    if there is not None:
        return f"name a source without it, or the patch the right way round: {there.name} is in this one"
    folder = folder_of(lost, tree) if lost else None
    if folder is not None:
        return f"its names begin at {folder}/: make it again without --relative"
    numbers = [earlier.number for earlier in patches if earlier.number is not None]
    if patch.number is not None:
        place, total = patch.number
        before = [missing for missing in range(1, place) if (missing, total) not in numbers]
        if before:
            return f"add patch {before[-1]} of {total}, which is not in the series"
        if any(later[1] == total and later[0] < place for later in numbers[number:]):
            return f"name the files in the order in which they apply: this is patch {place} of {total}"
    if re.search(rb"^content-type:[^\n]*(?:\n[ \t][^\n]*)*format=flowed", patch.content, re.IGNORECASE | re.MULTILINE):
        return "fetch it from the list's archive: a mail with format=flowed has other blanks than its patch"
    return "adapt the patch"


def _is_there(tree: Path, patch: Patch, logs: Path) -> bool:
    """Whether a tree has all that a patch would change; of a series that is in it, the last patch tells."""
    change = logs / "there.diff"
    change.write_bytes(patch.change)
    strip = f"-p{_strip(patch, tree)}"
    command = [*GIT, "apply", "--check", "--reverse", strip, str(change)]
    try:
        run_tree(command, cwd=tree, env=_alone(tree), log=logs / "there.log", stage=STAGE)
    except CommandError:
        return False
    return True


def _require_whole(tree: Path, patch: Patch, strip: str, change: Path, log: Path) -> None:
    """See that a patch ends where its last hunk says: GNU patch passes over what it takes for garbage there.

    :raises KernelError: it does not.
    """
    if re.search(rb"^\*\*\* [^\n]+\n--- ", patch.change, re.MULTILINE):
        return  # a context diff, which git does not know
    try:
        run_tree([*GIT, "apply", "--numstat", strip, str(change)], cwd=tree, env=_alone(tree), log=log, stage=STAGE)
    except CommandError as error:
        hint = "save it again; 'git apply --stat' checks it without changes"
        if not patch.change.endswith(b"\n"):
            hint = f"its last line has no end, so part of it may be missing; if none is: echo >> {patch.name}"
        raise KernelError(
            f"{patch.name} is damaged: {error.tail.strip()}", stage=STAGE, artefact=change, hint=hint
        ) from error


def _command(patch: Patch, strip: str, change: Path) -> list[str]:
    """What applies a patch in a tree."""
    if patch.is_binary:
        return [*_BINARY, strip, str(change)]
    return [*(strip if word == "-p1" else word for word in PATCH), f"--input={change}"]


def _strip(patch: Patch, tree: Path) -> int:
    """How many leading folders the names of a patch have too many: as its series says, else as they show."""
    return strip_of(patch.change, tree) if patch.strip is None else patch.strip


def _alone(tree: Path) -> dict[str, str]:
    """Git applies a patch to the folder it is in, not to a repository that this may lie in."""
    return {**GIT_ENVIRONMENT, "GIT_CEILING_DIRECTORIES": str(tree.parent)}


def _repeat(commands: Sequence[Sequence[str]], pristine: Path, logs: Path) -> Path:
    """A script that applies the same patches again."""
    again = Path("/tmp/patched")  # noqa: S108  the user runs it, and may choose another
    script = logs / "repeat.sh"
    steps = [f"cp -al {shlex.quote(str(pristine))} {again}", f"cd {again}"]
    steps += [shell_line(command, _alone(again)) for command in commands]
    text = "\n".join(["# Applies the patches up to the one that fails, in a folder of its own.", "set -e", *steps, ""])
    script.write_text(text, encoding="utf-8", errors="surrogateescape")
    return script
