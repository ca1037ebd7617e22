# SPDX-License-Identifier: GPL-2.0-or-later
"""Patched trees: made of hard links without harm to the tree they came from, and clear when a patch does not apply."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import KernelError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import arrival, source
from host_setup.kernel.patches import source_tree

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION =\nKERNELVERSION = $(VERSION)\n"

CHANGE = """\
--- a/mm/memory.c
+++ b/mm/memory.c
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""
REST = """\
diff --git a/mm/new.c b/mm/new.c
new file mode 100644
--- /dev/null
+++ b/mm/new.c
@@ -0,0 +1 @@
+new
diff --git a/mm/gone.c b/mm/gone.c
deleted file mode 100644
--- a/mm/gone.c
+++ /dev/null
@@ -1 +0,0 @@
-gone
diff --git a/mm/tool.sh b/mm/tool.sh
old mode 100644
new mode 100755
--- a/mm/tool.sh
+++ b/mm/tool.sh
@@ -1 +1 @@
-tool
+TOOL
"""
WRONG = CHANGE.replace("-two", "-zwei").replace("+TWO", "+ZWEI")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "mm").mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "mm/memory.c").write_text("one\ntwo\nthree\n")
    (folder / "mm/gone.c").write_text("gone\n")
    (folder / "mm/tool.sh").write_text("tool\n")
    return folder


@pytest.fixture
def make(tmp_path: Path, tree: Path) -> Callable[..., Path]:
    store = Store(tmp_path / "cache")
    logs = tmp_path / "logs"
    logs.mkdir()

    def patch_tree(*texts: str) -> Path:
        files = []
        for number, text in enumerate(texts, 1):
            files.append(tmp_path / f"000{number}-it.patch")
            files[-1].write_text(text)
        patches = [patch for file in files for patch in arrival.read(file)]
        return source_tree(source.resolve(tree, store), patches, store, Terminal(), logs)

    return patch_tree


def content(folder: Path) -> dict[str, tuple[int, str]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mode, path.read_text()) for path in files}


def test_patching_leaves_the_tree_it_came_from_as_it_was(make: Callable[..., Path]) -> None:
    pristine = make()
    before = content(pristine)
    patched = make(CHANGE, REST)
    assert content(pristine) == before
    assert (patched / "mm/memory.c").read_text() == "one\nTWO\nthree\n"
    assert (patched / "mm/new.c").read_text() == "new\n"
    assert not (patched / "mm/gone.c").exists()
    assert (patched / "mm/tool.sh").stat().st_mode & 0o777 == 0o755
    assert (patched / "Makefile").samefile(pristine / "Makefile")
    assert not (patched / "mm/memory.c").samefile(pristine / "mm/memory.c")


def test_each_list_of_patches_has_a_tree_of_its_own(make: Callable[..., Path]) -> None:
    assert len({make(), make(CHANGE), make(CHANGE, REST), make(REST)}) == 4
    assert make(CHANGE) == make(CHANGE)


def test_a_patch_that_does_not_apply_ends_with_its_name_hunk_log_and_command(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    with pytest.raises(KernelError) as caught:
        make(REST, WRONG)
    shown = str(caught.value)
    assert "0002-it.patch does not apply" in shown
    assert "Hunk #1 FAILED at 1" in shown
    assert "-zwei\n+ZWEI" in shown
    log = caught.value.artefact
    assert log == tmp_path / "logs/patch.log"
    assert "mm/memory.c" in log.read_text()
    assert (tmp_path / "logs/0002-0002-it.patch.rej").is_file()
    assert "\n" not in caught.value.hint
    script = Path(shlex.split(caught.value.hint.split("this repeats the error: sh ")[1])[0])
    text = script.read_text().replace("/tmp/patched", shlex.quote(str(tmp_path / "p")))
    again = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "Hunk #1 FAILED at 1" in again.stdout


def test_a_source_that_has_the_series_is_told_from_a_patch_that_does_not_fit(
    make: Callable[..., Path], tree: Path
) -> None:
    patched = make(CHANGE, REST)
    (tree / "mm/memory.c").write_text((patched / "mm/memory.c").read_text())
    for path in patched.rglob("*.c"):
        (tree / path.relative_to(patched)).write_text(path.read_text())
    with pytest.raises(KernelError, match="does not apply") as caught:
        make(CHANGE, REST)
    assert "name a source without it, or the patch the right way round: 0001-" in caught.value.hint


def test_a_patch_whose_last_line_has_no_end_gets_its_own_next_step(make: Callable[..., Path]) -> None:
    with pytest.raises(KernelError, match="is damaged") as caught:
        make(CHANGE.rstrip("\n"))
    assert "its last line has no end" in caught.value.hint


def test_a_hunk_whose_surroundings_are_not_there_does_not_apply_just_anywhere(
    make: Callable[..., Path], tree: Path
) -> None:
    (tree / "mm/memory.c").write_text("".join(f"line {n}\n" for n in range(40)))
    hunk = "@@ -10,4 +10,5 @@\n elsewhere 1\n elsewhere 2\n+new\n elsewhere 3\n elsewhere 4\n"
    with pytest.raises(KernelError, match="does not apply"):
        make("--- a/mm/memory.c\n+++ b/mm/memory.c\n" + hunk)


def test_a_failure_leaves_nothing_half_made(tmp_path: Path, make: Callable[..., Path]) -> None:
    pristine = make()
    before = content(pristine)
    with pytest.raises(KernelError):
        make(CHANGE, WRONG)
    assert content(pristine) == before
    assert [path.name for path in (tmp_path / "cache/source").iterdir()] == [pristine.parent.name]
    assert list((tmp_path / "cache/scratch").iterdir()) == []


def test_a_later_state_of_a_tree_shares_what_has_not_changed(make: Callable[..., Path], tree: Path) -> None:
    first = make()
    (tree / "mm/memory.c").write_text("one\nTWO\nthree\nfour\n")
    second = make()
    assert (first / "mm/memory.c").read_text() == "one\ntwo\nthree\n"
    assert (second / "mm/memory.c").read_text() == "one\nTWO\nthree\nfour\n"
    assert (second / "mm/tool.sh").samefile(first / "mm/tool.sh")
    assert not (second / "mm/tool.sh").samefile(tree / "mm/tool.sh")
