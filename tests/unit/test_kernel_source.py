# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel sources: what counts as one, and what its identity depends on."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import KernelError, SetupError, UserInputError
from common.store import Store
from host_setup.kernel import source
from host_setup.kernel.source import Kind

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION = -rc1\nKERNELVERSION = $(VERSION)\n"


def make_tree(folder: Path) -> Path:
    (folder / "mm").mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / ".gitignore").write_text("*.o\n.*\n!.gitignore\n")
    (folder / "mm/memory.c").write_text("int memory;\n" * 400)
    (folder / "mm/tool.sh").write_text("#!/bin/sh\n")
    (folder / "mm/tool.sh").chmod(0o755)
    (folder / "mm/link.c").symlink_to("memory.c")
    return folder


def git(tree: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, "-C", str(tree), *arguments], check=True, capture_output=True)


def make_git(folder: Path) -> Path:
    make_tree(folder)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-qm", "first")
    return folder


def pack(tree: Path, tarball: Path, arcname: str = "linux-6.12.7") -> Path:
    kind: Any = f"w:{tarball.suffix[1:]}" if tarball.suffix != ".tar" else "w"
    with tarfile.open(tarball, kind) as out:
        out.add(tree, arcname)
    return tarball


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("make", [make_tree, make_git])
def test_a_tree_gives_release_and_content_without_build_products(
    tmp_path: Path, store: Store, make: Callable[[Path], Path]
) -> None:
    tree = make(tmp_path / "tree")
    clean = source.resolve(tree, store)
    (tree / "mm/memory.o").write_text("object")
    (tree / ".config").write_text("CONFIG_A=y\n")
    built = source.resolve(tree, store)
    assert (built.release, built.identity) == ("6.12.7-rc1", clean.identity)
    out = tmp_path / "out"
    out.mkdir()
    built.unpack(out, tmp_path / "log")
    assert files(out) == {"Makefile", ".gitignore", "mm/memory.c", "mm/tool.sh", "mm/link.c"}
    assert os.access(out / "mm/tool.sh", os.X_OK)
    assert (out / "mm/link.c").readlink() == Path("memory.c")


@pytest.mark.parametrize("make", [make_tree, make_git])
def test_identity_follows_the_content_alone(tmp_path: Path, store: Store, make: Callable[[Path], Path]) -> None:
    first_tree, second_tree = make(tmp_path / "one"), make(tmp_path / "two")
    first = source.resolve(first_tree, store).identity
    assert source.resolve(second_tree, store).identity == first
    records = {first}
    (first_tree / "mm/memory.c").write_text("int changed;\n")
    records.add(source.resolve(first_tree, store).identity)
    (first_tree / "mm/new.c").write_text("int new;\n")
    records.add(source.resolve(first_tree, store).identity)
    (first_tree / "mm/tool.sh").chmod(0o644)
    records.add(source.resolve(first_tree, store).identity)
    (first_tree / "mm/link.c").unlink()
    records.add(source.resolve(first_tree, store).identity)
    assert len(records) == 5


def test_committing_a_change_of_a_git_tree_does_not_make_it_another_source(tmp_path: Path, store: Store) -> None:
    tree = make_git(tmp_path / "tree")
    (tree / "mm/memory.c").write_text("int changed;\n")
    dirty = source.resolve(tree, store)
    git(tree, "commit", "-qam", "second")
    assert source.resolve(tree, store).identity == dirty.identity
    assert dirty.kind is Kind.GIT


def test_a_git_tree_is_only_read(tmp_path: Path, store: Store) -> None:
    tree = make_git(tmp_path / "tree")
    (tree / "mm/new.c").write_text("int new;\n")
    before = files(tree / ".git")
    source.resolve(tree, store)
    assert files(tree / ".git") == before
    status = subprocess.run(["git", "-C", str(tree), "status", "--short"], capture_output=True, text=True, check=True)
    assert status.stdout == "?? mm/new.c\n"


@pytest.mark.parametrize("make", [make_tree, make_git])
def test_a_tree_edited_between_looking_and_copying_is_refused(
    tmp_path: Path, store: Store, make: Callable[[Path], Path]
) -> None:
    tree = make(tmp_path / "tree")
    result = source.resolve(tree, store)
    (tree / "mm/memory.c").write_text("int changed;\n")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(KernelError, match="changed while"):
        result.unpack(out, tmp_path / "log")


@pytest.mark.parametrize("suffix", ["tar", "gz", "xz"])
@pytest.mark.parametrize("arcname", ["linux-6.12.7", "./linux", "."])
def test_a_tarball_is_unpacked_whatever_its_top_folder_is_called(
    tmp_path: Path, store: Store, suffix: str, arcname: str
) -> None:
    tarball = pack(make_tree(tmp_path / "tree"), tmp_path / f"linux.{suffix}", arcname)
    result = source.resolve(tarball, store)
    assert (result.release, result.kind) == ("6.12.7-rc1", Kind.TARBALL)
    out = tmp_path / "out"
    out.mkdir()
    result.unpack(out, tmp_path / "log")
    assert (out / "mm/memory.c").is_file()


def test_a_tarball_is_read_once_as_long_as_it_does_not_change(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball = pack(make_tree(tmp_path / "tree"), tmp_path / "linux.xz")
    first = source.resolve(tarball, store)
    with monkeypatch.context() as patch:
        patch.setattr("host_setup.kernel.tarball.look_into", lambda *_: pytest.fail("read again"))
        assert source.resolve(tarball, store) == first
    (tmp_path / "tree/mm/memory.c").write_text("int other;\n" * 100)
    assert source.resolve(pack(tmp_path / "tree", tarball), store).identity != first.identity


@pytest.mark.parametrize("suffix", ["tar", "gz", "xz"])
@pytest.mark.parametrize("part", [0.05, 0.6])
def test_a_truncated_tarball_says_so(tmp_path: Path, store: Store, suffix: str, part: float) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "zz").write_bytes(os.urandom(200_000))
    whole = pack(tree, tmp_path / f"linux.{suffix}")
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(KernelError, match="truncated or damaged"):
        source.resolve(whole, store).unpack(out, tmp_path / "log")


def test_what_is_no_kernel_is_refused(tmp_path: Path, store: Store) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "Makefile").write_text("VERSION = 2024\nPATCHLEVEL = 01\nSUBLEVEL =\n")
    text = tmp_path / "text"
    text.write_text("hello\n" * 500)
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, words in (
        (tree, "not a Linux kernel"),
        (pack(tree, tmp_path / "no.xz"), "not a Linux kernel"),
        (empty, "no Makefile"),
        (pack(empty, tmp_path / "empty.tar"), "no top Makefile"),
        (text, "not a tarball"),
        (tmp_path / "missing", "no such kernel source"),
    ):
        with pytest.raises(UserInputError, match=words):
            source.resolve(path, store)


def test_a_missing_package_is_named(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "DEBIAN_TARBALL", tmp_path / "none")
    with pytest.raises(SetupError, match=r"apt-get install linux-source-6\.12"):
        source.resolve(None, store)
