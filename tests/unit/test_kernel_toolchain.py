# SPDX-License-Identifier: GPL-2.0-or-later
"""What compiles a kernel: what make is told, what tells two of them apart, and what is missing for one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import SetupError
from host_setup import provision
from host_setup.kernel.toolchain import GCC, Toolchain, parse_compiler, parse_jobs
from host_setup.provision import Settings

LLVM = ("ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-objdump", "llvm-readelf", "llvm-strip")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Programs that say their own name; the first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(*names: str) -> Path:
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\necho '{name} version 1'; echo more\n")
            (folder / name).chmod(0o755)
        return folder

    return install


@pytest.mark.parametrize(
    "name",
    ["gcc", "gcc-13", "clang", "clang-19", "/opt/llvm-19.1/bin/clang", "x86_64-linux-gnu-gcc-14", "/usr/bin/gcc"],
)
def test_a_compiler_is_a_name_or_a_whole_path(name: str) -> None:
    assert parse_compiler(name) == name


@pytest.mark.parametrize(
    "name", ["", "cc", "icc", "gcc 13", "./gcc", "bin/gcc", "/a b/gcc", "gcc;x", "clang-x", "tcc", "$CC"]
)
def test_what_is_no_compiler_is_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a compiler"):
        parse_compiler(name)


@pytest.mark.parametrize("text", ["0", "-1", "many", "", "1.5", "\u0664", "10000", "99999999999"])
def test_what_is_no_number_of_jobs_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a number of jobs"):
        parse_jobs(text)


def test_make_is_told_the_compiler_and_the_jobs(programs: Callable[..., Path]) -> None:
    programs("ccache", "gcc-13")
    assert Toolchain("gcc-13", 3).words() == [
        "-j3",
        "CC=ccache-unless-incbin gcc-13",
        "HOSTCC=ccache-unless-incbin gcc-13",
    ]


@pytest.mark.parametrize(
    ("compiler", "llvm"),
    [("clang", "LLVM=1"), ("clang-19", "LLVM=-19"), ("/opt/llvm/bin/clang", "LLVM=/opt/llvm/bin/")],
)
def test_clang_brings_all_of_llvm(compiler: str, llvm: str) -> None:
    words = Toolchain(compiler, 1).words()
    assert llvm in words
    assert words[-1].endswith(compiler)
    assert Toolchain(compiler).flags == ()  # clang does not know gcc's
    assert not any(word.startswith("LLVM") for word in GCC.words())


def test_the_version_tells_compilers_apart_and_names_the_linker_of_clang(programs: Callable[..., Path]) -> None:
    programs("gcc", "gcc-13", "clang", *LLVM)
    assert Toolchain("gcc").version() == "gcc version 1"
    assert Toolchain("gcc-13").version() == "gcc-13; gcc-13 version 1"
    assert Toolchain("clang").version() == "clang; clang version 1; ld.lld version 1"


@pytest.mark.parametrize(
    ("compiler", "there", "missing", "package"),
    [
        ("gcc-99", (), "gcc-99", "apt-get install gcc-99,"),
        ("clang-99", (), "clang-99, ld.lld-99, llvm-ar-99", "apt-get install clang-99 lld-99 llvm-99,"),
        ("clang-99", ("clang-99", *(f"{tool}-99" for tool in LLVM[1:])), "ld.lld-99 not", "lld-99"),
        ("/opt/none/bin/clang", (), "/opt/none/bin/clang, /opt/none/bin/ld.lld", "--compiler"),
    ],
)
def test_what_is_missing_is_one_line_with_its_package(
    programs: Callable[..., Path], compiler: str, there: tuple[str, ...], missing: str, package: str
) -> None:
    programs(*there)
    with pytest.raises(SetupError) as caught:
        Toolchain(compiler).version()
    assert missing in caught.value.message
    assert package in caught.value.hint
    assert "\n" not in caught.value.message


def test_what_the_user_chooses_reaches_the_kernel_and_the_cache(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nKERNELVERSION = 1\n")
    settings = Settings(series="stock", kernel_source=tree, toolchain=Toolchain("gcc-13", 4), cache=tmp_path / "cache")
    store = settings.store()
    assert store.root == tmp_path / "cache"
    assert provision.kernel_request(settings, store).toolchain == Toolchain("gcc-13", 4)
    assert provision.kernel_request(replace(settings, toolchain=GCC), store).toolchain is GCC
