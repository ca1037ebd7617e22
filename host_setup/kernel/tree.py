# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel tree consists of: its sources as they lie there, without what a build has left among them.

Git tells which files are the owner's: those that it tracks, and those that no ``.gitignore`` names. It is asked about
names alone; content is read from the files, so that neither filters, nor a sparse or a partial checkout, change it.
A tree that lies inside another, a clone or a submodule, is part of it. So is what a link leads to outside of the tree:
else the kernel would change without its identity.

The tree, and its repository, are only read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from common.commands import GIT, GIT_ENVIRONMENT, git, output
from common.errors import CommandError, KernelError, UserInputError
from common.names import path_text
from common.store import Store, digest, scratch_folder

STAGE = "kernel source"
_SETTLED = 2.0  # seconds after which a changed file has another time stamp, also on a file system that counts seconds

# Kbuild refuses to build beside what it has left in the sources (Linux 6.12: Makefile, rule "outputmakefile"), and
# would take objects that lie there for its own.
_LEFT_ON_TOP = {
    *(".config", ".config.old", ".version", ".missing-syscalls.d", "System.map", "Module.symvers", "modules.order"),
    *("modules.builtin", "modules.builtin.modinfo", "modules.builtin.ranges", "modules-only.symvers"),
    *("vmlinux", "vmlinux.a", "vmlinux.o", "vmlinux.map", "vmlinux.symvers", "vmlinux-gdb.py"),
}
_LEFT_FOLDERS = (("include", "config"), ("include", "generated"))
_GENERATED = ("include", "generated")  # below arch/*
# What may lie on top of a tree whose .gitignore hides even that, as Debian's does. (It is there for a repository that
# holds no more than the packaging.)
_TOP = ("!/*", "/.*", "!/.gitignore", "/*.o", "/*.a", "/*.orig", "/*.rej", "/*~", "/tags", "/TAGS", "/cscope.*")
# What a vendor's tree may hold without its source. In one that was never built, and whose owner's list of files is not
# there, these are no products, though the kernel's .gitignore names them.
_MADE_ELSEWHERE = tuple(f"!*.{suffix}" for suffix in ("[aos]", "so", "bin", "elf", "dtb", "gz", "xz", "zst"))


class _Kind(StrEnum):
    FILE = "f"
    PROGRAM = "x"
    LINK = "l"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree.

    :ivar name: relative to the tree. :ivar path: where its content is; outside of the tree if a link leads there.
    :ivar content: its kind and the hash of its content, or of where it links to.
    """

    name: str
    path: str
    content: str


def identity(files: Sequence[File]) -> str:
    """Hash of names, content and the executable bit."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(os.fsencode(file.name) + b"\0" + file.content.encode() + b"\0")
    return whole.hexdigest()


def read(tree: Path, store: Store) -> tuple[File, ...]:
    """The files of a tree, sorted.

    :param store: remembers the hash of each file that has not changed since.
    :raises UserInputError: a file cannot be read. :raises KernelError: it is being changed meanwhile.
    """
    key = digest("files", str(tree))
    last_facts = _load_known(store, key)
    facts: dict[str, tuple[str, str]] = {}
    files = []
    now = time.time()
    for name, entry in sorted(_listing(tree).items()):
        facts_now = f"{entry.path} {entry.link} {_facts(entry.status)}"
        last, content = last_facts.get(name, ("", ""))
        if last != facts_now:
            with _reading(entry.path):
                content = _content(entry)
        settled = max(entry.status.st_mtime, entry.status.st_ctime) < now - _SETTLED
        facts[name] = (facts_now if settled else "", content)
        files.append(File(name, entry.path, content))
    if facts != last_facts:
        store.discard("identity", key)
        store.get_or_make("identity", key, lambda folder: _write(folder / "files.json", facts))
    return tuple(files)


def copy(files: Sequence[File], folder: Path, earlier: Path | None) -> None:
    """Put files into an empty folder, and a list of them beside it.

    :param earlier: a folder that an earlier state of the tree was copied to; what is as it was there is linked to it.
    :raises KernelError: a file was changed since it was looked at.
    """
    had = {} if earlier is None else _had(earlier)
    for file in files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if earlier is not None and had.get(file.name) == file.content:
            try:
                target.hardlink_to(earlier / file.name)
                continue
            except OSError:  # somebody cleans the cache
                had = {}
        with _reading(file.path):
            _copy(file, target)
    _write(_list_of(folder), {file.name: file.content for file in files})


def is_untidy(tree: Path) -> bool:
    """Whether an unpacked tarball holds more than sources: what a build has left, or a repository."""
    return (tree / ".git").exists() or _is_built(tree)


def _is_built(tree: Path) -> bool:
    signs = (".config", *("/".join(folder) for folder in _LEFT_FOLDERS))
    return any((tree / sign).exists() for sign in signs) or any(tree.glob("arch/*/include/generated"))


def tidy(tree: Path) -> None:
    """Remove what is no source from a tree of ours."""
    listing = {os.fsencode(name) for name in _listing(tree, follow=False)}
    root = os.fsencode(tree)
    for folder, folders, names in os.walk(root, topdown=False):
        inside = os.path.relpath(folder, root)
        for name in (*names, *folders):
            path = os.path.join(folder, name)  # noqa: PTH118  bytes, for any name
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                if not os.listdir(path):  # noqa: PTH208
                    os.rmdir(path)  # noqa: PTH106
            elif os.path.normpath(os.path.join(inside, name)) not in listing:  # noqa: PTH118
                os.unlink(path)  # noqa: PTH108


# --- which files ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file that was found: where it is, and what it says if it is a link and stays one.

    :ivar path: a text, as there are 86,000 of them, and of each ``Path`` only the text is ever used.
    """

    path: str
    status: os.stat_result
    link: str | None = None


@dataclass(frozen=True, slots=True)
class _Root:
    """A folder on the disk, and its name in the tree: the tree itself, or what a link in it leads to."""

    folder: Path
    name: str


def _listing(tree: Path, *, follow: bool = True) -> dict[str, _Entry]:
    """The files of a tree, by name.

    :param follow: what a link leads to outside of the tree is part of it.
    """
    entries: dict[str, _Entry] = {}
    _collect(tree, "", (_Root(tree, ""),), entries, follow=follow)
    built = _build_folders(entries)
    return {name: entry for name, entry in entries.items() if not _is_left(name, entry.path, built)}


def _collect(folder: Path, prefix: str, roots: tuple[_Root, ...], entries: dict[str, _Entry], *, follow: bool) -> None:
    """Add the files of a folder, which lies in the last of the roots."""
    for entry in _names(folder, on_top=not prefix):
        path, name = f"{folder}/{entry.rstrip('/')}", f"{prefix}{entry.rstrip('/')}"
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # deleted, or not part of a sparse checkout
        if stat.S_ISDIR(status.st_mode):
            _collect(Path(path), f"{name}/", roots, entries, follow=follow)
        elif stat.S_ISREG(status.st_mode):
            entries[name] = _Entry(path, status)
        elif stat.S_ISLNK(status.st_mode):
            target = _outside(Path(path), name, roots) if follow else str(Path(path).readlink())
            if isinstance(target, str):
                entries[name] = _Entry(path, status, target)
            elif target.is_dir():
                _collect(target, f"{name}/", (*roots, _Root(target, name)), entries, follow=follow)
            else:
                entries[name] = _Entry(str(target), target.stat())


def _outside(link: Path, name: str, roots: Sequence[_Root]) -> Path | str:
    """The file or folder outside of the tree that a link leads to; else the words of the link in a copy of the tree."""
    words = str(link.readlink())
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # it leads nowhere, or in a circle
        return words
    for root in reversed(roots):
        if target.is_relative_to(root.folder):
            if root is roots[-1] and not Path(words).is_absolute():
                return words
            place = Path(root.name, target.relative_to(root.folder))
            return os.path.relpath(place, Path(name).parent)
        if root.folder.is_relative_to(target):
            return words  # it would bring the whole tree once more
    return target if target.is_dir() or target.is_file() else words


def _names(folder: Path, *, on_top: bool) -> set[str]:
    """The names that git has or would have, relative to a folder; a folder that git does not look into is one name."""
    tracked = _git_files(folder)
    rules = [*_MADE_ELSEWHERE] if on_top and not tracked and not _is_built(folder) else []
    names = {*tracked, *_files_outside_git(folder, rules)}
    if on_top and "Makefile" not in names:
        names = {*tracked, *_files_outside_git(folder, [*_TOP, *rules])}
    return names


def _git_files(folder: Path) -> list[str]:
    try:
        # --sparse: what a sparse checkout leaves out may not be there to be listed.
        names = _split(git(folder, "ls-files", "-z", "--cached", "--sparse", stage=STAGE))
    except CommandError as error:
        if "not a git repository" in error.tail:
            return []  # or one whose other half is elsewhere
        # What git tracks though a .gitignore names it would be left out.
        complaints = " ".join(
            error.tail[max(0, error.tail.rfind("fatal: ")) :].split()
        )  # it may go on on the next line
        raise UserInputError(
            f"git cannot read the repository of {path_text(folder)}: {complaints or error.message}",
            stage=STAGE,
            hint="'git status' there says more; a copy of the tree without .git is read by its .gitignore alone",
        ) from error
    return [name for name in names if name.strip("./") and not name.startswith("../")]  # a submodule names itself


def _files_outside_git(folder: Path, rules: Sequence[str]) -> list[str]:
    """What an empty repository would take from a folder.

    :param rules: stronger than any ``.gitignore``.
    """
    stronger = [f"--exclude={rule}" for rule in rules]
    excluded = [f"--exclude-from={file}" for file in _lists_of_ignored(folder)]
    argv = ("ls-files", "-z", "--others", "--exclude-per-directory=.gitignore", *excluded, *stronger)
    complaints: list[str] = []
    with scratch_folder() as scratch:
        output([*GIT, "init", "--quiet", "--bare", "--template=", str(scratch)], stage=STAGE, env=GIT_ENVIRONMENT)
        listed = git(folder, f"--git-dir={scratch}", "--work-tree=.", *argv, stage=STAGE, complaints=complaints)
    hidden = [words for words in complaints if "could not open directory" in words]  # git goes on all the same
    if hidden:
        raise _unreadable(hidden[0])
    return _split(listed)


def _lists_of_ignored(folder: Path) -> Iterator[Path]:
    """Lists of ignored files that git does not read by itself here: a link's, and the repository's own."""
    linked = folder / ".gitignore"
    if linked.is_symlink() and linked.is_file():
        yield linked
    try:
        answer = git(folder, "rev-parse", "--show-prefix", "--git-path", "info/exclude", stage=STAGE)
    except CommandError:
        return
    prefix, _, named = os.fsdecode(answer).partition("\n")
    own = folder / named.removesuffix("\n")
    if not prefix and own.is_file():
        yield own


def _split(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _build_folders(entries: Mapping[str, _Entry]) -> tuple[str, ...]:
    """Folders in the tree that a kernel was built into; older kernels do not tell git to leave them alone."""
    places: dict[str, str] = {}
    for name, entry in entries.items():
        inside, place = name.rpartition("/")[0], entry.path.rpartition("/")[0]
        while inside and inside not in places:
            places[inside] = place
            inside, place = inside.rpartition("/")[0], place.rpartition("/")[0]
    mark = "include/config/auto.conf"
    return tuple(f"{inside}/" for inside, place in places.items() if os.path.lexists(f"{place}/{mark}"))


def _is_left(name: str, path: str, built: tuple[str, ...]) -> bool:
    """Whether a build has left a file: by where it lies, or by the command that kbuild keeps beside what it makes."""
    parts = tuple(name.split("/"))
    last = parts[-1]
    folder = path[: -len(last)]
    return (
        name in _LEFT_ON_TOP
        or parts[:2] in _LEFT_FOLDERS
        or (parts[0] == "arch" and parts[2:4] == _GENERATED)
        or (last.startswith(".") and last.endswith(".cmd"))
        or os.path.lexists(f"{folder}.{last}.cmd")
        or name.startswith(built)
    )


# --- what is in them --------------------------------------------------------------------------------------------------


def _facts(status: os.stat_result) -> str:
    """What can be told about a file without reading it; it changes whenever the file does."""
    return f"{status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _content(entry: _Entry) -> str:
    if entry.link is not None:
        return f"{_Kind.LINK} {os.fsencode(entry.link).hex()}"
    kind = _Kind.PROGRAM if entry.status.st_mode & 0o100 else _Kind.FILE
    with Path(entry.path).open("rb") as file:
        return f"{kind} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _copy(file: File, target: Path) -> None:
    kind, _, data = file.content.partition(" ")
    if kind == _Kind.LINK:
        target.symlink_to(os.fsdecode(bytes.fromhex(data)))
        return
    shutil.copyfile(file.path, target)
    status = Path(file.path).stat()
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    target.chmod(0o755 if kind == _Kind.PROGRAM else 0o644)
    with target.open("rb") as copied:
        if hashlib.file_digest(copied, "sha256").hexdigest() != data:
            raise _change_error(file.path)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn an error about a file of the user's into one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise _change_error(path) from error
    except PermissionError as error:
        raise _unreadable(f"{path_text(path)}: {error.strerror}") from error


def _unreadable(words: str) -> UserInputError:
    return UserInputError(
        f"the tree cannot be read: {words}", stage=STAGE, hint="make all of it readable: chmod -R u+rX TREE"
    )


def _change_error(path: str) -> KernelError:
    return KernelError(f"{path_text(path)} changed while it was being read", stage=STAGE, hint="run it again")


def _list_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _had(folder: Path) -> dict[str, str]:
    try:
        had: dict[str, str] = json.loads(_list_of(folder).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    return had


def _load_known(store: Store, key: str) -> dict[str, tuple[str, str]]:
    entry = store.get("identity", key)
    if entry is None:
        return {}
    try:
        raw = json.loads((entry / "files.json").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    return {name: (entry_facts, content) for name, (entry_facts, content) in raw.items()}


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value), encoding="ascii")
