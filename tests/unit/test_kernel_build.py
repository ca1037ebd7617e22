# SPDX-License-Identifier: GPL-2.0-or-later
"""Building, with a toy that obeys the same make targets as a kernel."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.environment import environment
from common.errors import KernelError, NoSpaceError, SetupError, UserInputError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import arrival, build, series, source
from host_setup.kernel.build import BuiltKernel, Request
from host_setup.kernel.layers import Layer
from host_setup.kernel.toolchain import CCACHE, Toolchain

MAKEFILE = """\
ifdef LLVM
$(error LLVM is set)
endif
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 7
EXTRAVERSION =
KERNELVERSION = $(VERSION).$(PATCHLEVEL).$(SUBLEVEL)

tinyconfig:
\t: > $(or $(KCONFIG_CONFIG),$(O)/.config)
olddefconfig:
\tsed -i /CONFIG_LOST/d $(O)/.config
bzImage: all
all: mm/memory.o
\t@echo "  LD      vmlinux"
\t@$(CC) -nostdlib -static -Wl,--build-id -Wl,-e,0 -o $(O)/vmlinux $(O)/mm/memory.o
\t@mkdir -p $(O)/arch/x86/boot $(O)/include/config $(O)/scripts
\t@cp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
\t@echo $(KERNELVERSION) > $(O)/include/config/kernel.release
\t@touch $(O)/Module.symvers $(O)/scripts/tool
\t@echo 'export KBUILD_OUTPUT = $(CURDIR)/$(O)' > $(O)/Makefile
\t@printf 'include $(CURDIR)/Makefile\\nmodules:\\n\\ttest -d $$(KBUILD_OUTPUT)\\n' >> $(O)/Makefile
\t@printf '\\tcp $$(M)/probe.c $$(M)/probe.ko\\n' >> $(O)/Makefile
mm/memory.o:
\t@echo "  CC      $@"
\t@mkdir -p $(O)/mm
\t@$(CC) $(KCFLAGS) -g -c mm/memory.c -o $(O)/$@
"""
MERGE = '#!/bin/sh\n# -m -O OUT CONFIG FRAGMENT...\nout=$3\nshift 4\ncat "$@" >> "$out/.config"\n'
NEVER = 1 << 60


def make_tree(folder: Path) -> Path:
    """A kernel's source of few files, which really builds."""
    for name in ("mm", "scripts/kconfig", "include", "arch/x86/include"):
        (folder / name).mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "mm/memory.c").write_text("int memory = 1;\n")
    (folder / "include/mm.h").write_text("\n")
    (folder / "scripts/kconfig/merge_config.sh").write_text(MERGE)
    (folder / "scripts/kconfig/merge_config.sh").chmod(0o755)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def make(tree: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BuiltKernel]:
    monkeypatch.setattr(build, "_KERNEL_NEEDS", 0)
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", 0)

    def run(*layers: Layer, **changes: object) -> build.BuiltKernel:
        request = Request(source.resolve(tree, store), replace(series.load("stock"), **changes), layers)
        return build.build(request, store, Terminal())

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leftovers(store: Store) -> list[str]:
    return [*names(store.root / "scratch"), *names(store.root / "kernel")]


def test_a_kernel_says_what_it_is_and_keeps_what_modules_need(make: Callable[..., BuiltKernel], store: Store) -> None:
    kernel = make()
    assert (kernel.release, kernel.series, kernel.patches, kernel.layers) == ("6.12.7", "stock", (), ())
    assert len(kernel.build_id) == 40
    assert kernel.image.is_file()
    assert "CONFIG_KVM_AMD=y\n" in kernel.config.read_text()
    all_paths = {str(path.relative_to(kernel.build_tree.parent)) for path in kernel.build_tree.parent.rglob("*")}
    assert {
        "include/mm.h",
        "scripts/kconfig/merge_config.sh",
        "build/Module.symvers",
        "build/scripts/tool",
    } <= all_paths
    assert not {"mm", "mm/memory.c", "build/mm", "build/mm/memory.o"} & all_paths
    assert (store.root / "kernel" / kernel.key / "build.log").is_file()
    assert names(store.root / "logs") == []


def test_a_kernel_is_known_by_what_its_files_are(make: Callable[..., BuiltKernel]) -> None:
    kernel = make()
    files = {"image": kernel.image, "vmlinux": kernel.vmlinux, "config": kernel.config}
    assert kernel.sums == {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


@pytest.mark.parametrize("name", ["arch/x86/boot/bzImage", "vmlinux", ".config"])
def test_another_image_under_the_same_key_is_refused(
    make: Callable[..., BuiltKernel], tree: Path, store: Store, name: str
) -> None:
    kernel = make()
    (kernel.build_tree / name).write_bytes(b"another kernel")
    request = Request(source.resolve(tree, store), series.load("stock"))
    with pytest.raises(SetupError, match=f"kernel {kernel.key} was changed since it was made: source/build/{name}"):
        build.build(request, Store(store.root), Terminal())


def test_the_same_request_is_built_once(make: Callable[..., BuiltKernel], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = make()
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    assert make() == kernel


def test_source_patches_and_layers_each_make_another_kernel(
    make: Callable[..., BuiltKernel], tree: Path, tmp_path: Path
) -> None:
    patch = tmp_path / "0001-a.patch"
    patch.write_text("--- a/mm/memory.c\n+++ b/mm/memory.c\n@@ -1 +1 @@\n-int memory = 1;\n+int memory = 2;\n")
    config = tmp_path / "series.config"
    config.write_text("CONFIG_ZSWAP=y\n")
    kernels = [make(), make(patches=tuple(arrival.read(patch))), make(config=config), make(Layer.DEBUG)]
    (tree / "mm/memory.c").write_text("int memory = 3;\n")
    kernels.append(make())
    assert len({kernel.key for kernel in kernels}) == 5
    assert [(p.name, len(p.sha256)) for p in kernels[1].patches] == [("0001-a.patch", 64)]
    config.write_text("# a comment is no other kernel\nCONFIG_ZSWAP=y\n")
    (tree / "mm/memory.c").write_text("int memory = 1;\n")
    assert make(config=config).key == kernels[2].key


def test_debug_information_does_not_depend_on_where_it_was_built(make: Callable[..., BuiltKernel]) -> None:
    content = make().vmlinux.read_bytes()
    assert b"/linux" in content
    assert b"scratch" not in content


HOSTILE = {
    "LLVM": "1",
    "KBUILD_OUTPUT": "/nowhere",
    "ARCH": "arm64",
    "CROSS_COMPILE": "none-",
    "CC": "false",
    "HOSTCC": "false",
    "KCFLAGS": "-DOTHER",
    "MAKEFLAGS": "-n",
    "MAKEFILES": "/dev/null",
    "GNUMAKEFLAGS": "--question",
    "LOCALVERSION": "-mine",
    "CPATH": "/nowhere",
    "BASH_ENV": "/nowhere",
    "CDPATH": "/tmp",
    "CCACHE_DISABLE": "1",
    "CCACHE_PREFIX": "false",
}


def test_nothing_that_the_user_has_set_changes_a_kernel_or_has_a_file_of_the_users_written(
    make: Callable[..., BuiltKernel], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make()
    mine = tmp_path / "mine.config"
    mine.write_text("CONFIG_MINE=y\n")
    for name, value in {**HOSTILE, "KCONFIG_CONFIG": str(mine), "KCONFIG_ALLCONFIG": str(mine)}.items():
        monkeypatch.setenv(name, value)
    assert make() == kernel
    other = Store(tmp_path / "other")
    request = Request(source.resolve(tree, other), series.load("stock"))
    again = build.build(request, other, Terminal())
    assert (again.key, again.build_id) == (kernel.key, kernel.build_id)
    assert again.config.read_text() == kernel.config.read_text()
    assert mine.read_text() == "CONFIG_MINE=y\n"
    sources = tmp_path / "probe"
    sources.mkdir()
    (sources / "Kbuild").write_text("obj-m := probe.o\n")
    (sources / "probe.c").write_text("one")
    assert "probe.ko" in names(build.module(again, sources, other, Terminal()))
    # Nor when the user repeats what failed.
    (tree / "mm/memory.c").write_text("int memory = nothing;\n")
    with pytest.raises(KernelError) as caught:
        make()
    command = caught.value.hint.removeprefix("repeat it: ")
    repeated = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "undeclared" in repeated.stderr
    assert mine.read_text() == "CONFIG_MINE=y\n"


@pytest.mark.parametrize("name", ["GNUmakefile", "makefile"])
def test_a_developers_makefile_beside_the_kernels_is_not_taken_for_it(
    make: Callable[..., BuiltKernel], tree: Path, name: str
) -> None:
    (tree / name).write_text("$(error mine)\n")
    assert make().release == "6.12.7"


@pytest.mark.parametrize("make_it", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("mm")])
def test_what_is_named_build_in_a_tree_is_not_in_the_way(
    make: Callable[..., BuiltKernel], tree: Path, make_it: Callable[[Path], None]
) -> None:
    make_it(tree / "build")
    assert make().image.is_file()
    assert (tree / "mm/memory.c").read_text() == "int memory = 1;\n"


def test_a_script_that_lost_its_permission_to_run_is_run(make: Callable[..., BuiltKernel], tree: Path) -> None:
    (tree / "scripts/kconfig/merge_config.sh").chmod(0o644)
    assert make().image.is_file()


def test_a_compiler_of_the_users_makes_another_kernel_and_its_modules(
    make: Callable[..., BuiltKernel], store: Store, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/gcc-99"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/used\nexec gcc "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    request = Request(source.resolve(tree, store), series.load("stock"), toolchain=Toolchain("gcc-99", 1))
    kernel = build.build(request, store, Terminal())
    assert "-o build/mm/memory.o mm/memory.c" in (tmp_path / "used").read_text()
    assert "-j1 " in (store.root / "kernel" / kernel.key / "build.log").read_text()
    assert kernel.toolchain.compiler == "gcc-99"
    assert (make().key, make().compiler) != (kernel.key, kernel.compiler)
    assert kernel.compiler.startswith("gcc-99; gcc ")  # it says that it is the other one
    log = (store.root / "kernel" / kernel.key / "build.log").read_text()
    assert "CC=ccache-unless-incbin gcc-99" in log or "CC=gcc-99" in log


def test_a_lost_option_ends_the_build_and_leaves_nothing(
    make: Callable[..., BuiltKernel], store: Store, tmp_path: Path
) -> None:
    config = tmp_path / "series.config"
    config.write_text("CONFIG_LOST_ONE=y\nCONFIG_LOST_TWO=7\n")
    with pytest.raises(KernelError, match=r"2 of .* did not survive") as caught:
        make(config=config)
    assert "CONFIG_LOST_TWO: wanted 7, got n (series.config)" in str(caught.value)
    assert leftovers(store) == []


def test_a_compile_error_ends_with_the_compilers_lines_the_log_and_a_command_that_repeats_it(
    make: Callable[..., BuiltKernel], store: Store, tree: Path
) -> None:
    (tree / "mm/memory.c").write_text("int memory = nothing;\n")
    with pytest.raises(KernelError, match=r"memory\.c:1:14: error: .*nothing.* undeclared") as caught:
        make()
    assert leftovers(store) == []
    assert "undeclared" in caught.value.artefact.read_text()
    command = caught.value.hint.removeprefix("repeat it: ")
    again = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "undeclared" in again.stderr


def test_a_wrong_base_is_refused_before_anything_is_made(make: Callable[..., BuiltKernel], store: Store) -> None:
    with pytest.raises(KernelError, match=r"made for Linux >=6\.13"):
        make(base=">=6.13")
    assert not (store.root / "source").exists()


def test_too_small_a_disk_is_refused_before_anything_is_made(
    make: Callable[..., BuiltKernel], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", NEVER)
    with pytest.raises(NoSpaceError, match="are needed"):
        make()
    assert not list((store.root / "source").iterdir())


def test_a_cache_path_that_make_cannot_handle_is_refused(tree: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "my cache")
    with pytest.raises(UserInputError, match="make cannot build there"):
        build.build(Request(source.resolve(tree, store), series.load("stock")), store, Terminal())


def test_a_build_expects_what_the_newest_of_its_size_took(store: Store, tmp_path: Path) -> None:
    def config(options: int) -> Path:
        file = tmp_path / "config"
        file.write_text("".join(f"CONFIG_N{number}=y\n" for number in range(options)))
        return file

    def note_build(key: str, options: int, lines: int, seconds: float, moment: float) -> None:
        entry = store.root / "kernel" / key
        (entry / "source/build").mkdir(parents=True)
        config(options).rename(entry / "source/build/.config")
        (entry / "kernel.json").write_text(json.dumps({"lines": lines, "seconds": seconds}))
        os.utime(entry / "kernel.json", (moment, moment))

    assert build._expect_duration(store, config(100))[1] is None
    note_build("old", 100, 200, 20.0, moment=1)
    note_build("new", 102, 204, 10.2, moment=2)
    note_build("large", 1000, 3000, 600.0, moment=3)
    (store.root / "kernel/being-removed").mkdir()
    assert build._expect_duration(store, config(100)) == (200, pytest.approx(10.0))
    assert build._expect_duration(store, config(800)) == (2400, pytest.approx(480.0))


def test_a_build_tells_the_next_one_what_it_took(make: Callable[..., BuiltKernel], store: Store) -> None:
    kernel = make()
    facts = json.loads((store.root / "kernel" / kernel.key / "kernel.json").read_text())
    assert build._expect_duration(store, kernel.config) == (2, facts["seconds"])


def test_modules_are_built_once_and_only_they_are_kept(
    make: Callable[..., BuiltKernel], store: Store, tmp_path: Path
) -> None:
    sources = tmp_path / "probe"
    sources.mkdir()
    (sources / "Kbuild").write_text("obj-m := probe.o\n")
    (sources / "probe.c").write_text("one")
    kernel = make()
    built = build.module(kernel, sources, store, Terminal())
    assert names(built) == [".sums", ".used", "build.log", "probe.ko"]
    assert build.module(kernel, sources, store, Terminal()) == built
    (sources / "probe.c").write_text("two")
    assert build.module(kernel, sources, store, Terminal()) != built


def test_a_folder_without_kbuild_is_refused(make: Callable[..., BuiltKernel], store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no Kbuild"):
        build.module(make(), tmp_path, store, Terminal())


@pytest.mark.skipif(shutil.which("ccache") is None, reason="there is no ccache here")
def test_compiler_s_cache_works_for_a_user_without_a_name_and_a_home(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    place = tmp_path / "cache"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    (place / "one.c").write_text("int one;\n")
    as_nobody = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--"]
    done = subprocess.run(
        [*as_nobody, "ccache", "gcc", "-c", "one.c", "-o", "one.o"],
        cwd=place,
        env={"PATH": os.environ["PATH"], **build._environment(Store(place))},
        capture_output=True,
        text=True,
        check=False,
    )
    if "setpriv" in done.stderr:
        pytest.skip(f"this machine does not let us: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("ccache") is None, reason="there is no ccache here")
@pytest.mark.parametrize(
    ("name", "text"), [("piggy.S", '.incbin "held"\n'), ("configs.c", 'asm(".incbin \\"held\\"");\n')]
)
def test_an_object_holds_the_file_that_it_takes_in_as_it_is_now(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (compiler,) = (word for word in Toolchain("gcc", 1).words() if word.startswith("CC="))
    env = environment(build._environment(Store(tmp_path / "cache")))
    for content in (b"the first kernel", b"another one here"):
        (tmp_path / "held").write_bytes(content)
        command = f"{compiler.removeprefix('CC=')} -MD -c -o out.o {name}"
        subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, check=True)
        assert content in (tmp_path / "out.o").read_bytes()


@pytest.mark.skipif(shutil.which("ccache") is None, reason="there is no ccache here")
def test_what_takes_in_no_file_is_compiled_once(tmp_path: Path) -> None:
    (tmp_path / "one.c").write_text("int one;\n")
    env = environment(build._environment(Store(tmp_path / "cache")))
    for _ in range(2):
        command = [str(CCACHE), "gcc", "-MD", "-c", "-o", "out.o", "one.c"]
        subprocess.run(command, cwd=tmp_path, env=env, check=True)
    output = subprocess.run(["ccache", "--print-stats"], env=env, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^direct_cache_hit\t1$", output, re.MULTILINE)
