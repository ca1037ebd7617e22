# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel trees as their owners have them: each is read, none is written to, and what a build left does not count."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from common.errors import SealproofError, SetupError, UserInputError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import source
from host_setup.kernel.patches import source_tree

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION =\nKERNELVERSION = $(VERSION)\n"
SOURCES = {"Makefile", ".gitignore", "mm/Makefile", "mm/memory.c", "mm/tool.sh", "mm/link.c", "include/linux/mm.h"}
# The kernel's own, shortened; and Debian's addition to it in linux-source-6.12, which hides the whole tree.
IGNORED = ".*\n*.o\n*.ko\n*.a\n/vmlinux\n/Module.symvers\n/include/config/\n/include/generated/\n!.gitignore\n"
DEBIAN = "/*\n!/debian/\n"


def make_tree(folder: Path, ignored: str = IGNORED) -> Path:
    for inside in ("mm", "include/linux", "arch/x86/include"):
        (folder / inside).mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / ".gitignore").write_text(ignored)
    (folder / "mm/Makefile").write_text("obj-y := memory.o\n")
    (folder / "mm/memory.c").write_text("int memory;\n" * 400)
    (folder / "mm/tool.sh").write_text("#!/bin/sh\n")
    (folder / "mm/tool.sh").chmod(0o755)
    (folder / "mm/link.c").symlink_to("memory.c")
    (folder / "include/linux/mm.h").write_text("\n")
    return folder


def build_in_place(tree: Path) -> Path:
    """What ``make`` leaves among the sources, some of it."""
    for inside in ("mm", "include/config", "include/generated", "arch/x86/include/generated/asm"):
        (tree / inside).mkdir(parents=True, exist_ok=True)
    for name in (
        *(".config", ".config.old", "vmlinux", "vmlinux.o", "System.map", "Module.symvers", "modules.order"),
        *("include/config/auto.conf", "include/generated/autoconf.h", "arch/x86/include/generated/asm/x.h"),
        *("mm/memory.o", "mm/.memory.o.cmd", "mm/made.h", "mm/.made.h.cmd", ".vmlinux.cmd", ".tmp_vmlinux1"),
    ):
        (tree / name).write_text(f"left: {name}\n")
    return tree


def git(tree: Path, *words: str) -> str:
    identity = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "protocol.file.allow=always",
    )
    argv = ["git", *identity, "-C", str(tree), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def commit(tree: Path, *forced: str) -> Path:
    git(tree, "init", "-q")
    git(tree, "add", "--all")
    if forced:
        git(tree, "add", "--force", *forced)
    git(tree, "commit", "-qm", "all")
    return tree


def everything(folder: Path) -> dict[str, tuple[object, ...]]:
    """All there is, repository and all; an access is no change."""
    results: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else str(path.readlink()) if path.is_symlink() else ""
        results[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return results


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


class Taken:
    """What comes of a source, in the cache of a run."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "cache")
        self.logs = folder / "logs"

    def __call__(self, path: Path) -> Path:
        self.logs.mkdir(exist_ok=True)
        result = source.resolve(path, self.store)
        self.identity = result.identity
        self.description = result.description
        return source_tree(result, (), self.store, Terminal(), self.logs)


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Taken:
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", 0)
    return Taken(tmp_path)


# --- built in place ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [IGNORED, IGNORED + DEBIAN, "", "*.o\n"])
@pytest.mark.parametrize("make", [lambda tree: tree, lambda tree: commit(tree, ".")])
def test_what_a_build_left_in_a_tree_is_left_out(
    tmp_path: Path, take: Taken, make: Callable[[Path], Path], ignored: str
) -> None:
    tree = make(make_tree(tmp_path / "tree", ignored))
    assert names(take(tree)) == SOURCES
    clean = take.identity
    before = everything(build_in_place(tree))
    # A tree that names nothing to be ignored has one more: nothing tells that from a source.
    assert names(take(tree)) - {".tmp_vmlinux1"} == SOURCES
    assert (take.identity == clean) or ignored in ("", "*.o\n")
    assert everything(tree) == before


@pytest.mark.parametrize(
    "extra", [(".config",), (".config", "include/config/auto.conf", "include/generated/autoconf.h")]
)
def test_a_committed_configuration_or_header_is_left_out(tmp_path: Path, take: Taken, extra: str) -> None:
    tree = commit(build_in_place(make_tree(tmp_path / "tree")), *extra)
    assert names(take(tree)) == SOURCES


def test_a_tree_that_was_committed_as_it_was_built_is_taken_without_what_was_built(tmp_path: Path, take: Taken) -> None:
    tree = commit(build_in_place(make_tree(tmp_path / "tree")), ".")
    assert names(take(tree)) - {".tmp_vmlinux1"} == SOURCES


def test_what_is_ignored_and_committed_is_a_source_all_the_same(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "mm/firmware.o").write_text("no source of it is there")
    commit(tree, "mm/firmware.o")
    assert names(take(tree)) == {*SOURCES, "mm/firmware.o"}


def test_what_a_vendor_has_made_is_a_source_where_nothing_was_built(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree", f"{IGNORED}*.bin\n*~\n")
    (tree / "mm/firmware.o").write_text("no source of it is there")
    (tree / "mm/firmware.bin").write_text("nor of it")
    (tree / "mm/memory.c~").write_text("an editor's")
    assert names(take(tree)) == {*SOURCES, "mm/firmware.o", "mm/firmware.bin"}


@pytest.mark.parametrize("name", ["build", "out", "drivers/out"])
@pytest.mark.parametrize("ignores_itself", [False, True])
def test_a_build_folder_in_the_tree_is_left_out(
    tmp_path: Path, take: Taken, *, name: str, ignores_itself: bool
) -> None:
    tree = make_tree(tmp_path / "tree")
    out = build_in_place(tree / name) if (tree / name).mkdir(parents=True) is None else tree
    (out / "source").symlink_to(tree)
    (out / "Makefile").write_text("include ../Makefile\n")
    if ignores_itself:
        (out / ".gitignore").write_text("*\n")
    assert names(take(tree)) == SOURCES


def test_a_link_to_a_build_folder_elsewhere_brings_nothing(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    out = tmp_path / "out"
    out.mkdir()
    (build_in_place(out) / "source").symlink_to(tree)
    (tree / "build").symlink_to(out)
    assert names(take(tree)) == SOURCES


# --- repositories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda tree: tree, commit])
def test_a_clone_inside_of_a_tree_is_part_of_it(tmp_path: Path, take: Taken, make: Callable[[Path], Path]) -> None:
    tree = make(make_tree(tmp_path / "tree"))
    mine = tree / "drivers/mine"
    mine.mkdir(parents=True)
    (mine / "mine.c").write_text("one")
    (mine / ".gitignore").write_text("*.o\n")
    commit(mine)
    (mine / "mine.o").write_text("object")
    (mine / "new.c").write_text("new")
    before = everything(tree)
    assert names(take(tree)) == {*SOURCES, "drivers/mine/mine.c", "drivers/mine/new.c", "drivers/mine/.gitignore"}
    first = take.identity
    assert everything(tree) == before
    (mine / "mine.c").write_text("two")
    take(tree)
    assert take.identity != first


def test_a_submodule_is_part_of_its_tree_and_one_that_was_not_fetched_is_none(tmp_path: Path, take: Taken) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "part.c").write_text("part")
    commit(part)
    tree = commit(make_tree(tmp_path / "tree"))
    git(tree, "submodule", "--quiet", "add", str(part), "drivers/part")
    git(tree, "commit", "-qm", "part")
    assert names(take(tree)) == {*SOURCES, ".gitmodules", "drivers/part/part.c"}
    git(tree, "submodule", "--quiet", "deinit", "--force", "drivers/part")
    assert names(take(tree)) == {*SOURCES, ".gitmodules"}


def test_a_worktree_is_a_git_tree_and_one_whose_repository_is_gone_is_a_tree(tmp_path: Path, take: Taken) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    git(tree, "worktree", "add", "--quiet", str(tmp_path / "other"))
    assert names(take(tmp_path / "other")) == SOURCES
    assert "git tree" in take.description
    shutil.rmtree(tree)
    assert names(take(tmp_path / "other")) == SOURCES
    assert "git tree" not in take.description


@pytest.mark.parametrize("index", [(), ("--sparse-index",)])
def test_of_a_sparse_checkout_what_is_there_is_taken(tmp_path: Path, take: Taken, index: tuple[str, ...]) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    git(tree, "sparse-checkout", "set", "--cone", *index, "mm", "include")
    git(tree, "sparse-checkout", "set", "--cone", *index, "mm")
    shutil.rmtree(tree / "include", ignore_errors=True)
    assert names(take(tree)) == SOURCES - {"include/linux/mm.h"}


def test_a_partial_clone_is_taken_without_fetching_what_it_lacks(tmp_path: Path, take: Taken) -> None:
    origin = commit(make_tree(tmp_path / "origin"))
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", "--sparse", f"file://{origin}", "tree")
    shutil.move(origin, tmp_path / "away")
    assert names(take(tmp_path / "tree")) == {"Makefile", ".gitignore"}


def test_a_tree_in_the_middle_of_a_merge_is_taken_as_it_lies_there(tmp_path: Path, take: Taken) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    git(tree, "checkout", "-qb", "side")
    (tree / "mm/memory.c").write_text("side\n")
    git(tree, "commit", "-qam", "side")
    git(tree, "checkout", "-q", "-")
    (tree / "mm/memory.c").write_text("main\n")
    git(tree, "commit", "-qam", "main")
    with pytest.raises(subprocess.CalledProcessError):
        git(tree, "merge", "side")
    assert "<<<<<<<" in (take(tree) / "mm/memory.c").read_text()


def test_a_deleted_file_and_one_in_place_of_a_folder(tmp_path: Path, take: Taken) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    (tree / "mm/tool.sh").unlink()
    shutil.rmtree(tree / "include")
    (tree / "include").write_text("a file\n")
    assert names(take(tree)) == SOURCES - {"mm/tool.sh", "include/linux/mm.h"} | {"include"}


@pytest.mark.parametrize("setting", [("core.autocrlf", "true"), ("core.fileMode", "false"), ("core.symlinks", "false")])
def test_settings_of_a_repository_change_no_content(tmp_path: Path, take: Taken, setting: str) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    content = everything(take(tree))
    first = take.identity
    git(tree, "config", *setting)
    assert everything(take(tree)) == content
    assert take.identity == first


@pytest.mark.parametrize(
    "settings", ["[init\n", "[init]\n\tdefaultBranch = ..no..\n", "[init]\n\ttemplateDir = {template}\n"]
)
def test_settings_of_the_user_change_nothing(
    take: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "config").write_text("[core\n")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(settings.format(template=template))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert names(take(make_tree(tmp_path / "linux"))) == SOURCES


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("index", "no index " * 20, "index file"),
        ("config", "[core\n", "bad config line 1"),
        ("config", "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tnewer = yes\n", "newer"),
    ],
)
def test_a_repository_that_git_cannot_read_is_one_line(
    take: Taken, tmp_path: Path, file: str, content: str, words: str
) -> None:
    tree = commit(make_tree(tmp_path / "linux"))
    (tree / ".git" / file).write_text(content)
    with pytest.raises(UserInputError, match=f"git cannot read the repository of .*/linux: .*{words}") as caught:
        take(tree)
    assert "\n" not in caught.value.message


def test_filters_and_monitors_of_a_repository_are_not_started(tmp_path: Path, take: Taken) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    started = tmp_path / "started"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {started}\ncat\n")
    program.chmod(0o755)
    for name in ("core.fsmonitor", "filter.mine.clean", "filter.mine.process"):
        git(tree, "config", name, str(program))
    (tree / ".gitattributes").write_text("*.c filter=mine\n")
    (tree / "mm/memory.c").write_text("changed\n")
    started.unlink(missing_ok=True)
    assert (take(tree) / "mm/memory.c").read_text() == "changed\n"
    assert not started.exists()


def test_the_repositorys_own_list_of_ignored_files_counts(tmp_path: Path, take: Taken) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    (tree / ".git/info/exclude").write_text("/notes\n")
    (tree / "notes").write_text("mine")
    assert names(take(tree)) == SOURCES


def test_a_tree_inside_of_somebodys_repository(tmp_path: Path, take: Taken) -> None:
    around = tmp_path / "around"
    tree = make_tree(around / "linux")
    (tree / "mm/firmware.o").write_text("no source of it is there")
    (around / ".gitignore").write_text("*.c\n")
    commit(around, "linux/mm/firmware.o")
    assert names(take(tree)) == {*SOURCES, "mm/firmware.o"}


@pytest.mark.parametrize("make", [lambda tree: tree, commit])
def test_a_git_hooks_environment_changes_nothing(
    tmp_path: Path, take: Taken, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    tree, other = make(make_tree(tmp_path / "tree")), commit(make_tree(tmp_path / "other"))
    take(tree)
    first = take.identity
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_PREFIX", "mm/")
    before = everything(other)
    assert names(take(tree)) == SOURCES
    assert take.identity == first
    assert everything(other) == before


# --- links and names --------------------------------------------------------------------------------------------------


def test_what_a_link_leads_to_outside_of_the_tree_is_part_of_it(tmp_path: Path, take: Taken) -> None:
    tree, mine = make_tree(tmp_path / "tree"), tmp_path / "mine"
    (mine / "inside").mkdir(parents=True)
    (mine / "mine.c").write_text("one")
    (mine / "again.c").symlink_to("mine.c")
    (mine / "absolute.c").symlink_to(mine / "mine.c")
    (mine / "inside/up").symlink_to("..")
    (mine / "mm.h").symlink_to(tree / "include/linux/mm.h")
    (tree / "drivers").mkdir()
    (tree / "drivers/mine").symlink_to(mine)
    (tree / "mm/mine.c").symlink_to(mine / "mine.c")
    copy = take(tree)
    first = take.identity
    assert (copy / "mm/mine.c").read_text() == (copy / "drivers/mine/mine.c").read_text() == "one"
    assert not (copy / "mm/mine.c").is_symlink()
    assert (copy / "drivers/mine/again.c").readlink() == Path("mine.c")
    for link in ("again.c", "absolute.c", "mm.h"):
        assert (copy / "drivers/mine" / link).resolve().is_relative_to(copy)
    (mine / "mine.c").write_text("two")
    assert (take(tree) / "drivers/mine/mine.c").read_text() == "two"
    assert take.identity != first


def test_a_tree_of_links_is_taken_by_what_they_lead_to(tmp_path: Path, take: Taken) -> None:
    """As ``cp -rs`` and lndir make it."""
    tree = make_tree(tmp_path / "tree")
    subprocess.run(["cp", "-rs", str(tree), str(tmp_path / "links")], check=True)
    copy = take(tmp_path / "links")
    assert names(copy) == SOURCES
    assert not (copy / "Makefile").is_symlink()
    first = take.identity
    (tree / "mm/memory.c").write_text("changed\n")
    assert (take(tmp_path / "links") / "mm/memory.c").read_text() == "changed\n"
    assert take.identity != first


def test_links_that_lead_nowhere_in_a_circle_or_back_stay_links(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    links = {"circle": "circle", "nowhere": "/no/such/file", "back": "..", "self": ".", "whole": str(tree), "root": "/"}
    for name, target in links.items():
        (tree / "mm" / name).symlink_to(target)
    copy = take(tree)
    assert {name: str((copy / "mm" / name).readlink()) for name in links} == {**links, "whole": ".."}


def test_a_link_to_a_tree_is_that_tree(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    (tmp_path / "link").symlink_to(tree)
    assert names(take(tmp_path / "link")) == SOURCES


ODD = [
    b"two words",
    b"-dash",
    b"quo'te\"",
    b"new\nline",
    b"caf\xe9",
    b"$HOME`id`",
    b"a,b:c",
    b"\xff\xfe",
    b"[a]*?",
    b"tab\t",
]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("make", [lambda tree: tree, commit])
def test_a_tree_and_its_files_may_have_any_name(
    tmp_path: Path, take: Taken, name: str, make: Callable[[Path], Path]
) -> None:
    odd = os.fsdecode(name)
    tree = make_tree(tmp_path / odd)
    (tree / "mm" / f"{odd}.c").write_text("odd")
    make(tree)
    copy = take(tree)
    assert names(copy) == {*SOURCES, f"mm/{odd}.c"}
    assert take.description.isprintable()
    assert take.description.encode()
    (tree / "mm/memory.c").write_text("changed\n")
    again = take(tree)
    assert (again / "mm" / f"{odd}.c").samefile(copy / "mm" / f"{odd}.c")
    packed = tmp_path / f"{odd}.tar.gz"
    with tarfile.open(packed, "w:gz") as out:
        out.add(tree, odd)
    assert f"mm/{odd}.c" in names(take(packed))


def test_sockets_and_pipes_are_no_sources(tmp_path: Path, take: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    os.mkfifo(tree / "mm/pipe")
    (tree / "mm/tool.sh").unlink()
    os.mkfifo(tree / "mm/tool.sh")
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("mm/socket")
        assert names(take(tree)) == SOURCES - {"mm/tool.sh"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to(path), "cannot read the kernel source"),
        (os.mkfifo, "neither a folder nor a file"),
        (lambda path: git(path.parent, "init", "-q", "--bare", path.name), "is a bare repository"),
        (lambda path: path.mkdir(), "has no Makefile"),
        (lambda path: (path.mkdir(), (path / "Makefile").mkdir()), "has no Makefile"),
        (lambda path: (make_tree(path) / "Kconfig").write_text("\n"), "is not all of a Linux kernel"),
        (lambda _: None, "no such kernel source"),
    ],
)
def test_what_cannot_be_a_tree_is_one_line(
    tmp_path: Path, take: Taken, make: Callable[[Path], Path], words: str
) -> None:
    make(tmp_path / "tree")
    with pytest.raises(UserInputError, match=words) as caught:
        take(tmp_path / "tree")
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("v6.12.117", "6.12.118, or latest"),
        ("https://example.org/linux-6.12.117.tar.xz", "clone or fetch it"),
        ("git@example.org:linux.git", "clone or fetch it"),
    ],
)
def test_what_is_no_path_gets_its_own_next_step(take: Taken, name: str, step: str) -> None:
    with pytest.raises(UserInputError, match="no such kernel source") as caught:
        take(Path(name))
    assert step in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["~nobody-of-that-name/linux", "x" * 300, "a/../../../../../../proc/self/nothing"])
def test_a_path_that_cannot_be_followed_is_one_line(take: Taken, name: str) -> None:
    with pytest.raises(UserInputError, match="kernel source") as caught:
        take(Path(name))
    assert "\n" not in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may read everything")
def test_what_may_not_be_read_is_one_line_and_nothing_is_left_out(
    tmp_path: Path, take: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "tree")

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", refuse)
        with pytest.raises(UserInputError, match=r"cannot be read: .*Permission denied"):
            take(tree)
    # git goes on, with a warning, when it may not look into a folder.
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "warning: could not open directory \'mm/\'" >&2\nexec {shutil.which("git")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(UserInputError, match="could not open directory"):
        take(tree)


# --- remembered -------------------------------------------------------------------------------------------------------


def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path, take: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(tmp_path / "tree")
    for path in tree.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    monkeypatch.setattr("host_setup.kernel.tree._SETTLED", -1e9)  # ctime is now, and cannot be set
    take(tree)
    first = take.identity
    (tree / "mm/memory.c").write_text("changed\n")
    read: list[str] = []
    real = source.tree._content
    monkeypatch.setattr(
        "host_setup.kernel.tree._content", lambda entry: read.append(Path(entry.path).name) or real(entry)
    )
    take(tree)
    assert read == ["memory.c"]
    assert take.identity != first


def test_a_change_that_leaves_size_and_time_alone_is_noticed(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    take(tree)
    first = take.identity
    status = (tree / "mm/memory.c").stat()
    (tree / "mm/memory.c").write_text("INT memory;\n" * 400)
    os.utime(tree / "mm/memory.c", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert (take(tree) / "mm/memory.c").read_text().startswith("INT")
    assert take.identity != first


# --- tarballs ---------------------------------------------------------------------------------------------------------


def pack(tree: Path, tarball: Path, arcname: str = "linux-6.12.7") -> Path:
    with tarfile.open(tarball, "w") as out:
        out.add(tree, arcname)
    return tarball


@pytest.mark.parametrize("inside", ["git", "nothing"])
def test_a_tarball_of_a_tree_that_was_built_in_place_is_unpacked_without_what_was_built(
    tmp_path: Path, take: Taken, inside: str
) -> None:
    tree = make_tree(tmp_path / "tree")
    if inside == "git":
        commit(tree)
    tarball = pack(build_in_place(tree), tmp_path / "linux.tar")
    before = tarball.read_bytes()
    assert names(take(tarball)) == SOURCES
    assert tarball.read_bytes() == before


def test_of_a_clean_tarball_nothing_is_left_out(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "mm/firmware.o").write_text("ignored, and needed")
    assert names(take(pack(tree, tmp_path / "linux.tar"))) == {*SOURCES, "mm/firmware.o"}


def pack_by(program: str, data: bytes) -> bytes:
    return subprocess.run([program, "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "gz": gzip.compress,
    "bz2": bz2.compress,
    **{program: partial(pack_by, program) for program in ("zstd", "lzip", "lzop", "lz4", "compress")},
}


@pytest.mark.parametrize("name", ["linux.tar.{}", "linux", "linux.tar"])
@pytest.mark.parametrize("kind", sorted(PACKED))
def test_every_tarball_that_tar_reads_is_read_whatever_it_is_called(
    tmp_path: Path, take: Taken, kind: str, name: str
) -> None:
    if kind not in ("xz", "lzma", "gz", "bz2") and shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed")
    tarball = tmp_path / name.format(kind)
    tarball.write_bytes(PACKED[kind](pack(make_tree(tmp_path / "tree"), tmp_path / "plain").read_bytes()))
    assert names(take(tarball)) == SOURCES


def test_a_program_that_is_missing_to_decompress_is_named_with_its_package(tmp_path: Path, take: Taken) -> None:
    tarball = tmp_path / "linux.tar.lz"
    tarball.write_bytes(b"LZIP" + bytes(500))
    if shutil.which("lzip"):
        pytest.skip("lzip is installed")
    with pytest.raises(SetupError, match="lzip, which is not installed") as caught:
        take(tarball)
    assert "apt-get install lzip" in caught.value.hint


@pytest.mark.parametrize(
    "folder", ["linux", ".", "", "./linux", "usr/src/linux-6.12.7", "/usr/src/linux", "-linux", "a'b \\n*", "x:y"]
)
def test_the_tree_may_lie_anywhere_in_a_tarball(tmp_path: Path, take: Taken, folder: str) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "Documentation").mkdir()
    (tree / "Documentation/Makefile").write_text("docs:\n")
    tarball = tmp_path / "linux.tar"
    with tarfile.open(tarball, "w") as out:
        for path in sorted(tree.rglob("*")):  # as git archive sorts them: other Makefiles come first
            info = out.gettarinfo(path)
            info.name = "/".join(part for part in (folder, str(path.relative_to(tree))) if part)
            out.addfile(info, path.open("rb") if path.is_file() and not path.is_symlink() else None)
    assert names(take(tarball)) == {*SOURCES, "Documentation/Makefile"}


def test_what_lies_beside_the_tree_in_a_tarball_is_left_out(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    tarball = tmp_path / "all.tar"
    with tarfile.open(tarball, "w") as out:
        out.add(tree / "mm", "vendor/boot/mm")
        out.add(tree, "vendor/linux")
        out.add(tree / "mm", "vendor/mm2")
    assert names(take(tarball)) == SOURCES


def test_a_tarball_of_folders_that_nobody_may_write_to(tmp_path: Path, take: Taken) -> None:
    def readable_alone(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mode &= 0o555
        return info

    tarball = tmp_path / "linux.tar"
    with tarfile.open(tarball, "w") as out:
        out.add(make_tree(tmp_path / "tree"), "linux", filter=readable_alone)
    copy = take(tarball)
    assert (copy / "mm").stat().st_mode & 0o200
    assert (copy / "mm/memory.c").stat().st_mode & 0o200


def test_an_archive_of_another_kind_is_one_line(tmp_path: Path, take: Taken) -> None:
    shutil.make_archive(str(tmp_path / "linux"), "zip", make_tree(tmp_path / "tree"))
    with pytest.raises(SealproofError, match="not a tarball") as caught:
        take(tmp_path / "linux.zip")
    assert "name the folder" in caught.value.hint


def test_a_tarball_of_the_headers_alone_is_one_line(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "headers")
    (tree / "Kconfig").touch()
    with tarfile.open(tmp_path / "headers.tar", "w") as tarball:
        tarball.add(tree, arcname="linux-headers-6.12")
    with pytest.raises(UserInputError, match=r"headers\.tar is not all of a Linux kernel: it has no init/main\.c"):
        take(tmp_path / "headers.tar")


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (lambda tree: git(tree, "clone", "-q", "--no-checkout", ".", "../named"), "check out a commit there"),
        (
            lambda tree: shutil.copytree(tree, tree.parent / "named/linux"),
            "name the kernel's own folder: .*/named/linux",
        ),
        (lambda tree: (tree.parent / "named").mkdir(), "name the top folder"),
    ],
)
def test_a_folder_without_its_tree_says_where_the_kernel_is(
    tmp_path: Path, take: Taken, make: Callable[[Path], object], step: str
) -> None:
    tree = make_tree(tmp_path / "linux")
    for name in ("MAINTAINERS", "Kbuild"):
        (tree / name).touch()
    make(commit(tree))
    with pytest.raises(UserInputError) as caught:
        take(tmp_path / "named")
    assert re.search(step, caught.value.hint)


def test_what_is_compressed_and_no_tarball_is_not_called_damaged(tmp_path: Path, take: Taken) -> None:
    (tmp_path / "linux.xz").write_bytes(lzma.compress(b"no tarball"))
    with pytest.raises(UserInputError, match="not a tarball"):
        take(tmp_path / "linux.xz")


def test_a_tarball_that_was_cut_off_between_two_files_is_refused(tmp_path: Path, take: Taken) -> None:
    tarball = tmp_path / "linux.tar"
    with tarfile.open(tarball, "w") as out:
        out.add(make_tree(tmp_path / "tree"), "linux")
        end = out.offset
    with tarball.open("r+b") as file:
        file.truncate(end)
    with pytest.raises(SealproofError, match=r"truncated or damaged\s+it does not end as a tarball does") as caught:
        take(tarball)
    assert "unpack it and name the folder" in caught.value.hint


def test_devices_and_pipes_in_a_tarball_are_no_sources(tmp_path: Path, take: Taken) -> None:
    tree = make_tree(tmp_path / "tree")
    os.mkfifo(tree / "mm/pipe")
    tarball = tmp_path / "linux.tar"
    with tarfile.open(tarball, "w") as out:
        out.add(tree, "linux")
    assert names(take(tarball)) == SOURCES


def test_what_git_says_on_two_lines_is_told_in_one(tmp_path: Path, take: Taken) -> None:
    tree = commit(make_tree(tmp_path / "tree"))
    git(tree, "config", "core.repositoryformatversion", "1")
    git(tree, "config", "extensions.newer", "true")
    with pytest.raises(UserInputError, match="unknown repository extension found: newer"):
        take(tree)
