# SPDX-License-Identifier: GPL-2.0-or-later
"""A build folder that goes from one kernel to the next, with a toy that obeys the same make targets as a kernel."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import KernelError, NoSpaceError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import build, kept_build, rolling, series, source
from host_setup.kernel.build import Request
from host_setup.kernel.rolling import Rolled, RollingBuild, differences
from tests.unit.test_kernel_build import MAKEFILE, MERGE

FILE = "mm/memory.c"
# As a kernel's: an object that is newer than its file is not compiled.
INCREMENTAL = (
    MAKEFILE.replace("all: mm/memory.o", "all: $(O)/mm/memory.o")
    .replace("mm/memory.o:\n", "$(O)/mm/memory.o: mm/memory.c\n\t@echo $@ >> $(O)/compiled\n")
    .replace("-o $(O)/$@", "-o $@")
    .replace("tinyconfig:\n", "tinyconfig:\n\t@echo $@ >> $(O)/configured\n")
)
ONE, TWO = "int memory = 1;\n", "int memory = 2;\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for name in ("init", "mm", "scripts/kconfig", "include", "arch/x86/include"):
        (folder / name).mkdir(parents=True)
    (folder / "Makefile").write_text(INCREMENTAL)
    (folder / "init/main.c").write_text("\n")
    (folder / FILE).write_text(ONE)
    (folder / "include/mm.h").write_text("\n")
    (folder / "Kconfig").write_text("\n")
    (folder / "scripts/kconfig/merge_config.sh").write_text(MERGE)
    return folder


@dataclass
class Bench:
    """A folder, and a tree that is built in it."""

    tree: Path
    store: Store
    log: Path

    @property
    def folder(self) -> Path:
        return self.store.root / "kept/rolling"

    @property
    def rolling(self) -> RollingBuild:
        """As another process has it."""
        return RollingBuild(self.folder, self.store, Terminal())

    def request(self) -> Request:
        return Request(source.resolve(self.tree, self.store), series.load("stock"))

    def build(self, by: RollingBuild | None = None) -> Rolled:
        request = self.request()
        logs = self.log.parent
        path = build.source_tree(request.source, (), self.store, Terminal(), logs)
        return (by or self.rolling).build(path, request, self.log)

    def count(self, log: str) -> int:
        return len((self.folder / "source/build" / log).read_text().splitlines())


@pytest.fixture
def bench(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(kept_build, "NEEDS", 0)
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", 0)
    return Bench(tree, Store(tmp_path / "cache"), tmp_path / "logs/make.log")


def test_the_first_build_makes_all_and_the_next_what_differs(bench: Bench) -> None:
    first = bench.build()
    assert first.changed is None
    (bench.tree / FILE).write_text(TWO)
    (bench.tree / "mm/new.c").write_text("int new;\n")
    second = bench.build()
    assert second.changed == 2
    assert second.code != first.code
    assert bench.count("compiled") == 2
    assert (bench.folder / "source/mm/new.c").is_file()
    (bench.tree / "mm/new.c").unlink()
    (bench.tree / FILE).write_text(ONE)
    third = bench.build()
    assert (third.changed, third.code) == (2, first.code)
    assert not (bench.folder / "source/mm/new.c").exists()


def test_the_same_kernel_again_compiles_nothing(bench: Bench) -> None:
    bench.build()
    assert bench.build().changed == 0
    assert bench.count("compiled") == 1
    assert bench.count("configured") == 1


def test_a_changed_kconfig_is_asked_again(bench: Bench) -> None:
    bench.build()
    (bench.tree / "Kconfig").write_text("config NEW\n")
    bench.build()
    assert bench.count("configured") == 2


def test_what_was_built_is_handed_over_as_a_kernel_of_its_own(bench: Bench) -> None:
    bench.build()
    (bench.tree / FILE).write_text(TWO)
    (bench.tree / "include/mm.h").write_text("/* two */\n")
    rolling = bench.rolling
    done = bench.build(rolling)
    entry = bench.store.get_or_make("kernel", "abc", lambda folder: rolling.hand_over(folder, done.seconds))
    result = build._kernel(entry, bench.request())
    assert result.release == "6.12.7" and result.image.is_file() and len(result.build_id) == 40
    assert (entry / "source/include/mm.h").read_text() == "/* two */\n"
    (bench.tree / "include/mm.h").write_text("/* three */\n")
    bench.build()
    assert (entry / "source/include/mm.h").read_text() == "/* two */\n"


def test_nothing_is_handed_over_that_does_not_build(bench: Bench, tmp_path: Path) -> None:
    rolling = bench.rolling
    bench.build(rolling)
    (bench.tree / FILE).write_text("int memory = ;\n")
    with pytest.raises(KernelError, match="does not build"):
        bench.build(rolling)
    with pytest.raises(KernelError, match="no kernel has been built"):
        rolling.hand_over(tmp_path / "entry", 1.0)


def test_after_what_does_not_build_it_goes_on(bench: Bench) -> None:
    first = bench.build()
    (bench.tree / FILE).write_text("int memory = ;\n")
    with pytest.raises(KernelError):
        bench.build()
    (bench.tree / FILE).write_text(ONE)
    assert bench.build().code == first.code


def test_a_first_kernel_that_does_not_build_is_no_reason_to_begin_anew(bench: Bench) -> None:
    (bench.tree / FILE).write_text("int memory = ;\n")
    with pytest.raises(KernelError):
        bench.build()
    (bench.tree / FILE).write_text(ONE)
    assert bench.build().changed == 1


def test_the_trees_that_it_is_made_of_stay_as_they_are(bench: Bench) -> None:
    bench.build()
    before = build.source_tree(bench.request().source, (), bench.store, Terminal(), bench.log.parent)
    (bench.tree / FILE).write_text(TWO)
    bench.build()
    bench.build()
    assert (before / FILE).read_text() == ONE
    assert (bench.tree / FILE).read_text() == TWO


class KilledError(Exception):
    """Stands for SIGKILL in the middle of make."""


def test_what_a_killed_make_may_have_left_half_done_is_compiled_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.build()
    (bench.tree / FILE).write_text(TWO)

    def be_killed(*_: object) -> None:
        # An object that is newer than its file, and nonsense.
        shutil.copy("/dev/null", bench.folder / "source/build/mm/memory.o")
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(rolling, "compile_all", be_killed)
        with pytest.raises(KilledError):
            bench.build()
    again = bench.build()
    assert again.changed == 0, "the file itself was there already"
    assert again.code != first.code
    assert bench.build().code == again.code


def test_a_first_build_that_was_killed_begins_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def be_killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(rolling, "compile_all", be_killed)
        with pytest.raises(KilledError):
            bench.build()
    assert bench.build().changed is None


def test_a_configuration_that_was_killed_is_made_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.build()
    (bench.tree / "Kconfig").write_text("config NEW\n")

    def be_killed(*_: object) -> None:
        (bench.folder / "source/build/.config").write_text("half")
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("host_setup.kernel.layers.configure", be_killed)
        with pytest.raises(KilledError):
            bench.build()
    (bench.tree / "Kconfig").write_text("\n")
    bench.build()
    assert "CONFIG_KVM" in (bench.folder / "source/build/.config").read_text()


def test_another_compiler_begins_anew(bench: Bench) -> None:
    bench.build()
    state = bench.folder / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "by": "another"}))
    assert bench.build().changed is None


def test_a_state_that_cannot_be_read_begins_anew(bench: Bench) -> None:
    bench.build()
    (bench.folder / "state.json").write_text("{")
    assert bench.build().changed is None


def test_a_full_disk_is_not_a_kernel_that_does_not_build(bench: Bench) -> None:
    bench.build()
    makefile = bench.tree / "Makefile"
    makefile.write_text(makefile.read_text().replace('\t@echo "  LD', "\t@echo 'No space left on device'; false\n\t@"))
    with pytest.raises(NoSpaceError):
        bench.build()


def test_a_disk_that_is_too_small_is_told_before(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_build, "NEEDS", 1 << 60)
    with pytest.raises(NoSpaceError):
        bench.build()


# --- which files differ -----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "f"])
CONTENT = st.tuples(st.sampled_from(["file", "program", "link"]), st.sampled_from(["1", "2", "22"]))


def fill(folder: Path, files: dict[str, tuple[str, str]]) -> None:
    folder.mkdir(parents=True)
    for name, (kind, text) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(text)
        else:
            path.write_text(text)
            path.chmod(0o755 if kind == "program" else 0o644)


@settings(max_examples=60)
@given(here=st.dictionaries(NAMES, CONTENT), there=st.dictionaries(NAMES, CONTENT))
def test_exactly_the_files_that_differ_are_told(
    tmp_path_factory: pytest.TempPathFactory, here: dict[str, tuple[str, str]], there: dict[str, tuple[str, str]]
) -> None:
    base = tmp_path_factory.mktemp("trees")
    fill(base / "tree", there)
    fill(base / "source", here)
    (base / "source/build").mkdir()
    (base / "source/build/object").touch()
    differing, lost = differences(base / "tree", base / "source")
    assert differing == sorted(name for name in there if here.get(name) != there[name])
    assert lost == sorted(here.keys() - there.keys())
    for name in lost:
        (base / "source" / name).unlink()
    for name in differing:
        rolling._move_in(base / "tree" / name, base / "source" / name)
    assert differences(base / "tree", base / "source") == ([], [])


def test_a_file_that_becomes_a_folder_and_back(tmp_path: Path) -> None:
    fill(tmp_path / "one", {"a": ("file", "1"), "b/c": ("link", "2")})
    fill(tmp_path / "two", {"a/x": ("file", "1"), "b": ("file", "2")})
    fill(tmp_path / "source", {"a": ("file", "1"), "b/c": ("link", "2")})
    for tree in ("two", "one", "two"):
        differing, lost = differences(tmp_path / tree, tmp_path / "source")
        for name in lost:
            (tmp_path / "source" / name).unlink()
        for name in differing:
            rolling._move_in(tmp_path / tree / name, tmp_path / "source" / name)
        assert differences(tmp_path / tree, tmp_path / "source") == ([], [])


def test_links_to_one_file_are_not_read(tmp_path: Path) -> None:
    fill(tmp_path / "tree", {"a": ("file", "1")})
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").hardlink_to(tmp_path / "tree/a")
    (tmp_path / "tree/a").chmod(0)
    assert differences(tmp_path / "tree", tmp_path / "source") == ([], [])


def test_a_file_is_newer_than_what_was_there(tmp_path: Path) -> None:
    fill(tmp_path / "tree", {"a": ("file", "1")})
    fill(tmp_path / "source", {"a": ("file", "2")})
    os.utime(tmp_path / "tree/a", (1, 1))
    rolling._move_in(tmp_path / "tree/a", tmp_path / "source/a")
    assert (tmp_path / "source/a").stat().st_mtime > 1_000_000
