# SPDX-License-Identifier: GPL-2.0-or-later
"""What this project and its Python are, by content: lists of files that readers can compare with their own."""

from __future__ import annotations

import ast
import base64
import hashlib
import marshal
import os
import platform
import re
import site
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import all_suffixes
from importlib.metadata import Distribution, distributions
from importlib.util import source_hash
from pathlib import Path
from types import CodeType, ModuleType

from _pytest.assertion import rewrite

from common.commands import git
from common.errors import CommandError, SetupError
from common.names import path_text
from common.store import file_sha256
from signoff.surroundings import canonical

_STAGE = "identity"
_OURS = "sealproof"
_LINK = b"120000"
"""A link, in git's trees."""
_GENERATED = {"__pycache__", ".git", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
"""Folders that no source is in."""


def files_of(project: Path) -> str:
    """The files that decide what a run does, as ``sha256sum`` lists them, from the project's folder.

    Git's word on what has changed does not count, nor does what it is told to ignore: these are all files that it
    tracks, all files beside them in their folders, and all that Python would import from the project's folder. Without
    git they are all files that nothing made.
    """
    try:
        names = git(project, "ls-files", "-z", "--", ".", stage=_STAGE).decode(errors="surrogateescape").split("\0")
        tracked = {project / name for name in names if name}
    except (CommandError, SetupError):
        tracked = set()
    folders = {path.relative_to(project).parts[0] for path in tracked if path.parent != project}
    paths = {path for path in tracked if path.is_file() or path.is_symlink()}
    for path in _all(project, project):
        place = path.relative_to(project).parts
        if not tracked or place[0] in folders or _can_be_imported(place):
            paths.add(path)
    return "".join(
        f"{file_sha256(path)}  {path_text(path.relative_to(project).as_posix())}\n" for path in sorted(paths)
    )


def _can_be_imported(place: Sequence[str]) -> bool:
    """Whether Python takes a file below the project's folder for a module, or for one of a package."""
    return place[-1].endswith(tuple(all_suffixes())) and place[0].partition(".")[0].isidentifier()


def are_committed(project: Path, listed: str) -> bool:
    """Whether files are those of the commit that is checked out, by what they hold: git may be told to look away.

    :param listed: the files, as :func:`files_of` has them.
    """
    try:
        commit = git(project, "rev-parse", "HEAD", stage=_STAGE).decode().strip()
        content = git(project, "cat-file", "commit", commit, stage=_STAGE)
        lines = git(project, "ls-tree", "-r", "-z", commit, stage=_STAGE).split(b"\0")[:-1]
        entries = {name: (mode, id_) for mode, _, id_, name in (_entry(line) for line in lines)}
        files = {
            name: _object_id(commit, b"blob", _content(project, name, mode)) for name, (mode, _) in entries.items()
        }
    except (CommandError, SetupError, OSError):
        return False
    # The commit names a tree, and the tree the files, by hashes that are made here: git may hold other objects by them.
    names_tree = content.partition(b"\n")[0] == b"tree " + _tree_id(commit, entries).encode()
    names = {path_text(os.fsdecode(name)) for name in entries}
    ids = {name: id_ for name, (_, id_) in entries.items()}
    listed_names = {line.partition("  ")[2] for line in listed.splitlines()}
    return names_tree and _object_id(commit, b"commit", content) == commit and files == ids and listed_names == names


def _entry(line: bytes) -> tuple[bytes, bytes, str, bytes]:
    """Mode, kind, id and name of a file, as ``git ls-tree`` tells it."""
    facts, _, name = line.partition(b"\t")
    mode, kind, id_ = facts.split()
    return mode, kind, id_.decode(), name


def _content(project: Path, name: bytes, mode: bytes) -> bytes:
    """What git would keep of a file; of a link, where it leads to.

    :raises OSError: it is not what the mode says, or not there.
    """
    path = project / os.fsdecode(name)
    if mode == _LINK:
        return os.fsencode(path.readlink())
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    return path.read_bytes()


def _object_id(like: str, kind: bytes, content: bytes) -> str:
    """The id of one of git's objects, by the hash that another id is of (git: hash-object)."""
    return hashlib.new(
        "sha1" if len(like) == 40 else "sha256", b"%b %d\0%b" % (kind, len(content), content)
    ).hexdigest()


def _tree_id(like: str, entries: Mapping[bytes, tuple[bytes, str]]) -> str:
    """The id of the tree that holds these files, by their names."""
    here: dict[bytes, tuple[bytes, str]] = {}
    below: dict[bytes, dict[bytes, tuple[bytes, str]]] = {}
    for name, entry in entries.items():
        top, inside, rest = name.partition(b"/")
        if inside:
            below.setdefault(top, {})[rest] = entry
        else:
            here[top] = entry
    here |= {name: (b"40000", _tree_id(like, files)) for name, files in below.items()}
    # As git sorts them, a folder's name ends in a slash.
    order = sorted(here, key=lambda name: name + b"/" if name in below else name)
    lines = (b"%b %b\0%b" % (here[name][0], name, bytes.fromhex(here[name][1])) for name in order)
    return _object_id(like, b"tree", b"".join(lines))


def _all(folder: Path, top: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_symlink() or path.is_file():
            yield path
        elif (
            path.name not in _GENERATED
            and path != top / "reports"
            and not path.name.startswith(".venv")
            and not (folder == top and path.suffix == ".egg-info")
        ):
            yield from _all(path, top)


def packages(installed: Iterable[Distribution] | None = None) -> str:
    """Python, and each distribution that it can import: name, version, and the SHA-256 of the list of its files."""
    lines = set()
    for distribution in distributions() if installed is None else installed:
        name = canonical(distribution.name)
        if name != _OURS:  # its files are of the project
            lines.add(f"{_record_sha256(distribution)}  {name}=={distribution.version}\n")
    python = f"{file_sha256(Path(sys.executable).resolve())}  python=={platform.python_version()}\n"
    return "".join([python, *sorted(lines, key=lambda line: line.split()[1])])


def _record_sha256(distribution: Distribution) -> str:
    """Of the list of its files (PyPA: recording installed projects), or of its description where it has none."""
    text = (
        distribution.read_text("RECORD")
        or distribution.read_text("METADATA")
        or distribution.read_text("PKG-INFO")
        or ""
    )
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def find_changed_files(
    installed: Iterable[Distribution] | None = None, loaded: Iterable[str] | None = None
) -> list[str]:
    """Code of distributions that is not as it was installed, by the hashes that the installer wrote down.

    :param loaded: the files to look at; None: those of all modules that this process has loaded by now.
    """
    files = set(files_loaded() if loaded is None else loaded)
    changed = []
    for distribution in distributions() if installed is None else installed:
        base = str(distribution.locate_file(""))
        # A RECORD has thousands of lines, and code's names have no comma in them.
        for line in (distribution.read_text("RECORD") or "").splitlines():
            name, _, rest = line.partition(",")
            kind, _, digest = rest.partition(",")[0].partition("=")
            path = f"{base}/{name}".replace("//", "/")
            if path in files and kind == "sha256" and _digest(Path(path)) != digest:
                changed.append(f"{canonical(distribution.name)}: {name}")
    return changed


def strangers(listed: str, project: Path, installed: Iterable[Distribution] | None = None) -> list[str]:
    """Code that this process has loaded, or loads at its start, and that no list of a report names.

    :param listed: the files of sealproof. :param project: where they are.
    """
    paths = {str(project / line.partition("  ")[2]) for line in listed.splitlines()}
    for distribution in distributions() if installed is None else installed:
        base = str(distribution.locate_file(""))
        for line in (distribution.read_text("RECORD") or "").splitlines():
            paths.add(os.path.normpath(f"{base}/{line.partition(',')[0]}"))
    library = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    started = [str(path) for folder in map(Path, folders) for path in folder.glob("*.pth")]
    return sorted({path for path in (*files_loaded(), *started) if path not in paths and not _of_python(path, library)})


def _of_python(path: str, library: set[str]) -> bool:
    """Whether a file is of Python itself: it lies in its library, and not among the packages."""
    return any(path.startswith(f"{folder}/") for folder in library) and not re.search("/(site|dist)-packages/", path)


_BY_HASH = 1  # PEP 552; with bit 1 as well, as pytest writes it, the hash is looked at, and without it never


def other_byte_code(modules: Iterable[ModuleType] | None = None) -> list[str]:
    """Sources whose byte code Python keeps and has loaded, and that say something else: a list names sources alone.

    :param modules: to look at; None: all that this process has loaded.
    """
    stale = []
    for module in list(sys.modules.values()) if modules is None else modules:
        source, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
        if source and cached and source.endswith(".py"):
            stale += [source] if not _of_its_source(Path(source), Path(cached)) else []
    return sorted(stale)


def _of_its_source(source: Path, cached: Path) -> bool:
    """Whether byte code that Python or pytest takes for a source's is its (PEP 552: mark, flags, time, size, code)."""
    rewritten = rewrite.get_cache_dir(source) / f"{source.stem}{rewrite.PYC_TAIL}"
    for path in (cached, rewritten):
        try:
            content, stat = path.read_bytes(), source.stat()
            flags = int.from_bytes(content[4:8], "little")
            if flags != _BY_HASH:
                used = (
                    source_hash(source.read_bytes())
                    if flags & _BY_HASH
                    else struct.pack("<LL", int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
                )
                if content[8:16] != used:
                    continue  # it is of an older source, and nobody takes it
            code = compile(source.read_bytes(), source, "exec", dont_inherit=True)
            cached_code = marshal.loads(content[16:])  # noqa: S302  what Python has loaded already
            if cached_code != (_rewritten(source) if path == rewritten else code):
                return False
        except FileNotFoundError:
            continue
        except (OSError, ValueError, EOFError, TypeError, SyntaxError):
            return False
    return True


def _rewritten(source: Path) -> CodeType:
    """A source's code with its assertions as pytest has them."""
    tree = ast.parse(source.read_bytes(), filename=str(source))
    rewrite.rewrite_asserts(tree, source.read_bytes(), str(source), None)
    return compile(tree, str(source), "exec", dont_inherit=True)


def files_loaded() -> Iterator[str]:
    """The files of all modules that this process has loaded."""
    for module in list(sys.modules.values()):
        if file := getattr(module, "__file__", None):
            yield str(file)


def _digest(path: Path) -> str:
    """The SHA-256 of a file as RECORD has it; empty if it is not there."""
    try:
        with path.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").digest()
    except OSError:
        return ""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
