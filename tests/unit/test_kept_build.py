# SPDX-License-Identifier: GPL-2.0-or-later
"""A build folder that is kept, with a toy that obeys the same make targets as a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import KernelError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import build, kept_build, series, source
from host_setup.kernel.build import Request
from host_setup.kernel.kept_build import KeptBuild
from tests.unit.test_kernel_build import MAKEFILE, MERGE

FILE = "mm/memory.c"
PLAIN, FAULT = "int memory = 1;\n", "int memory = 2;\n"


@pytest.fixture
def tree(tmp_path: Any) -> Any:
    folder = tmp_path / "tree"
    for name in ("mm", "scripts/kconfig", "include", "arch/x86/include"):
        (folder / name).mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE.replace("mm/memory.o:\n", "mm/memory.o: mm/memory.c\n"))
    (folder / FILE).write_text(PLAIN)
    (folder / "include/mm.h").write_text("\n")
    (folder / "scripts/kconfig/merge_config.sh").write_text(MERGE)
    return folder


@pytest.fixture
def make(tree: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(kept_build, "NEEDS", 0)
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", 0)
    store = Store(tmp_path / "cache")

    def run() -> tuple[KeptBuild, Request, Store]:
        request = Request(source.resolve(tree, store), series.load("stock"))
        build = KeptBuild(store.root / "kept/stock", request, store, Terminal())
        build.open()
        return build, request, store

    return run


def in_place(store: Store) -> str:
    return (store.root / "kept/stock/source" / FILE).read_text()


def test_a_change_is_built_and_handed_over(make: Any, tmp_path: Any) -> None:
    tree, request, store = make()
    built = tree.build({FILE: FAULT}, tmp_path / "log")
    assert not built.same
    entry = store.get_or_make("kernel", "abc", lambda folder: tree.hand_over(folder, built.seconds))
    result = build._kernel(entry, request)
    assert result.release == "6.12.7" and len(result.build_id) == 40
    assert result.image.is_file() and (result.build_tree / "Module.symvers").is_file()
    assert (entry / "source/include/mm.h").is_file() and not (entry / "source/mm").exists()


def test_the_source_in_the_cache_keeps_its_text(make: Any, tmp_path: Any) -> None:
    tree, _, _ = make()
    tree.build({FILE: FAULT}, tmp_path / "log")
    assert (tree.tree / FILE).read_text() == PLAIN


def test_code_that_is_the_same_is_told(make: Any, tmp_path: Any) -> None:
    tree, _, _ = make()
    assert tree.build({FILE: PLAIN + "/* nothing */\n"}, tmp_path / "log").same
    assert not tree.build({FILE: FAULT}, tmp_path / "log").same


def test_the_next_change_finds_the_first_undone(make: Any, tmp_path: Any) -> None:
    tree, _, store = make()
    tree.build({FILE: FAULT}, tmp_path / "log")
    assert tree.build({"include/mm.h": "/* */\n"}, tmp_path / "log").same
    assert in_place(store) == PLAIN


def test_what_a_killed_run_has_left_is_undone(make: Any, tmp_path: Any) -> None:
    tree, _, store = make()
    tree.build({FILE: FAULT, "mm/new.c": "int x;\n"}, tmp_path / "log")
    again, _, _ = make()
    assert in_place(store) == PLAIN
    assert not (store.root / "kept/stock/source/mm/new.c").exists()
    assert again.build({"include/mm.h": "/* */\n"}, tmp_path / "log").same


def test_it_is_made_once_and_anew_for_another_kernel(make: Any, tree: Any, store_marker: Any = "mark") -> None:
    _, _, store = make()
    mark = store.root / "kept/stock" / store_marker
    mark.touch()
    make()
    assert mark.exists()
    (tree / FILE).write_text("int memory = 7;\n")
    make()
    assert not mark.exists() and in_place(store) == "int memory = 7;\n"


def test_a_change_that_does_not_compile_is_told_and_undone(make: Any, tmp_path: Any) -> None:
    tree, _, store = make()
    with pytest.raises(KernelError, match="does not build"):
        tree.build({FILE: "int memory = ;\n"}, tmp_path / "log")
    assert tree.build({"include/mm.h": "/* */\n"}, tmp_path / "log").same
    assert in_place(store) == PLAIN


def test_a_build_that_was_killed_is_made_anew(make: Any) -> None:
    _, _, store = make()
    (store.root / "kept/stock/built.json").unlink()
    leftover = store.root / "kept/stock/half-written"
    leftover.touch()
    make()
    assert not leftover.exists()
