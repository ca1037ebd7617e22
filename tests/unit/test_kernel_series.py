# SPDX-License-Identifier: GPL-2.0-or-later
"""Series folders: what is accepted, and what the refusals say."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import KernelError, UserInputError
from host_setup.kernel import series
from host_setup.kernel.series import Protection

GOOD = 'title = "T"\nbase = ">=6.12,<6.13"\nmode = "protected"\ndescription = "D"\n'
WITHOUT_CONTENT = {"enter", "leave", "map", "unmap"}  # arch/x86/mm/guest_page.c: no argument is a buffer


def write(folder: Path, text: str = GOOD) -> Path:
    folder.mkdir()
    (folder / "series.toml").write_text(text)
    return folder


def test_the_stock_series_has_no_patches_and_is_plain() -> None:
    stock = series.load("stock")
    assert (stock.name, stock.mode, stock.patches, stock.config) == ("stock", Protection.PLAIN, (), None)


def test_the_series_that_is_built_when_none_is_named_protects() -> None:
    assert series.load(series.DEFAULT).mode is Protection.PROTECTED


def test_a_folder_of_the_users_own_is_loaded_with_its_patches_in_order(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    for name in ("0002-b.patch", "0010-c.patch", "0001-a.patch", "notes.txt"):
        (folder / name).write_text(f"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+{name}\n" if name.endswith(".patch") else "")
    (folder / "series.config").write_text("CONFIG_A=y\n")
    loaded = series.load(str(folder))
    assert [patch.name for patch in loaded.patches] == ["0001-a.patch", "0002-b.patch", "0010-c.patch"]
    assert (loaded.name, loaded.mode, loaded.config) == ("mine", Protection.PROTECTED, folder / "series.config")
    assert series.load(folder) == loaded


def test_a_port_takes_the_place_of_a_series_of_ours_that_is_made_for_another_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "FOLDER", tmp_path)
    for name, base in (("mine", ">=6.12,<6.13"), ("mine-7.3", ">=7.3,<7.4"), ("minerals-7.4", ">=7.4")):
        write(tmp_path / name, GOOD.replace(">=6.12,<6.13", base))
    listing = [series.load_for("mine", release).name for release in ("6.12.118", "7.3.4", "7.4", "next")]
    assert listing == ["mine", "mine-7.3", "mine", "mine"]


@pytest.mark.parametrize("path", ["host_setup/kernel/series/{}", "./host_setup/kernel/series/{}/", "{}/../{}"])
def test_a_series_of_ours_is_the_same_by_the_path_of_its_folder(path: str) -> None:
    def name_of(name: str) -> str:
        return str(series.FOLDER / path.format(name, name)) if path.startswith("{}") else path.format(name)

    assert series.load(name_of("stock")) == series.load("stock")
    expected = series.load_for("protected-memory", "7.3.4")
    assert expected.name == "protected-memory-7.3"
    assert series.load_for(name_of("protected-memory"), "7.3.4") == expected


def test_a_folder_of_the_users_own_is_what_it_is_on_any_kernel(tmp_path: Path) -> None:
    folder = write(tmp_path / series.DEFAULT)
    (folder / "0001-a.patch").write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n")
    assert series.load_for(str(folder), "7.3.4") == series.load(folder)


ABI = (
    "Documentation/virt/kvm/x86/protected-memory.rst",
    "Documentation/virt/kvm/x86/hypercalls.rst",
    "Documentation/virt/kvm/x86/cpuid.rst",
    "Documentation/admin-guide/kernel-parameters.txt",
    "include/uapi/linux/kvm_para.h",
    "arch/x86/include/uapi/asm/kvm_para.h",
)
ONE_REG = {  # KVM_GET_ONE_REG and KVM_SET_ONE_REG, which x86 does not have in Linux 6.12
    "+VCPU_EVENTS, MSRS, ONE_REG              each MSR 0",
    "+MSRS, MP_STATE, LAPIC, NESTED_STATE,    reset is kept in mind",
    "+ONE_REG",
}


def lines_changed(name: str, file: str) -> list[str]:
    """The lines that a series takes away from a file and adds to it, patch by patch."""
    listing = []
    for patch in sorted((series.FOLDER / name).glob("*.patch")):
        at = ""
        for line in patch.read_text().splitlines():
            if line.startswith("diff --git "):
                at = line.partition(" b/")[2]
            elif at == file and line[:1] in "+-" and not line.startswith(("+++ ", "--- ")):
                listing.append(line)
    return listing


@pytest.mark.parametrize("file", ABI)
def test_a_port_says_the_same_to_guests_and_to_who_reads_its_documentation(file: str) -> None:
    ours = lines_changed("protected-memory", file)
    port = lines_changed("protected-memory-7.3", file)
    assert ours
    assert {*port} - {*ours} <= ONE_REG
    shorter = [line.replace(", ONE_REG", "         ").replace("STATE,    reset", "STATE     reset") for line in port]
    assert [line for line in shorter if line != "+ONE_REG"] == ours


@pytest.mark.parametrize("name", ["protected-memory", "protected-memory-7.3"])
def test_what_no_probe_may_be_put_on_is_not_traced_either(name: str) -> None:
    """A trace of functions (fprobe, fentry) takes down arguments as a kprobe does.

    No claim can tell: the kernels of hosts trace no functions, and so ``notrace`` changes nothing in them.
    """
    unprobed, untraced = Counter[str](), Counter[str]()
    for patch in (series.FOLDER / name).glob("*.patch"):
        for sign, step in (("+", 1), ("-", -1)):
            text = "\n".join(re.findall(rf"^\{sign}(.*)", patch.read_text(), re.MULTILINE))
            unprobed.update(dict.fromkeys(re.findall(r"^NOKPROBE_SYMBOL\((\w+)\)", text, re.MULTILINE), step))
            named = re.findall(r"^(?:static )?notrace [^;({]*?(\w+)\(", text, re.MULTILINE)
            untraced.update(dict.fromkeys(named, step))
    assert {*+unprobed} - {*+untraced} == WITHOUT_CONTENT


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserInputError, match=r"there is no series 'stok'[\s\S]*known series: .*stock"):
        series.load("stok")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "kernel = 1\n", "kernel: Extra inputs"),
        (GOOD.replace("protected", "secret"), "mode: Input should be 'plain' or 'protected'"),
        (GOOD.replace(">=6.12,<6.13", "6.12"), "base: .*not a version range"),
        (GOOD.replace(">=6.12,<6.13", ">=6.12,"), "base: .*not a version range"),
        (GOOD.replace('title = "T"\n', ""), "title: Field required"),
        ("title = T", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_field(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserInputError, match=words):
        series.load(write(tmp_path / "mine", text))


def test_a_file_in_another_encoding_is_told_with_the_next_step(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    (folder / "series.toml").write_text(GOOD, encoding="utf-16")
    with pytest.raises(UserInputError, match="not TOML") as caught:
        series.load(folder)
    assert "UTF-8" in (caught.value.hint or "")


@pytest.mark.parametrize("release", ["6.12.0", "6.12.117", "6.12.1-rc2"])
def test_a_release_in_the_base_range_is_accepted(tmp_path: Path, release: str) -> None:
    (write(tmp_path / "mine") / "a.patch").write_text(PATCH)
    series.load(tmp_path / "mine").check_base(release)


@pytest.mark.parametrize("release", ["6.11.9", "6.13.0", "6.13.0-rc1", "5.10.1"])
def test_a_release_outside_the_base_range_is_refused_naming_both(tmp_path: Path, release: str) -> None:
    (write(tmp_path / "mine") / "a.patch").write_text(PATCH)
    with pytest.raises(KernelError, match=rf">=6\.12,<6\.13, the source is Linux {release}"):
        series.load(tmp_path / "mine").check_base(release)


@pytest.mark.parametrize("release", ["6.1.192", "6.12.118", "7.3.4", "8.0.0"])
def test_stock_is_any_kernel_from_6_1_on(release: str) -> None:
    series.load("stock").check_base(release)


PATCH = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    (folder / "series.toml").write_text(GOOD, encoding="utf-8-sig")
    (folder / "a.patch").write_text(PATCH, encoding="utf-8-sig")
    assert len(series.load(folder).patches) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "it has no series.toml"),
        (lambda path: path.write_text("From a@b"), "is a file; a series is a folder"),
        (lambda path: path.symlink_to(path), "cannot read the series"),
        (lambda _: None, "there is no such folder"),
        (os.mkfifo, "it is no folder"),
        (lambda path: (path.mkdir(), (path / "series.toml").symlink_to("series.toml")), "has no series.toml"),
    ],
)
def test_what_is_no_series_is_one_line_with_the_next_step(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "mine")
    with pytest.raises(UserInputError, match=words) as caught:
        series.load(str(tmp_path / "mine"))
    assert "\n" not in caught.value.message


def test_a_user_who_is_not_there_is_one_line() -> None:
    with pytest.raises(UserInputError, match="cannot read the series"):
        series.load("~nobody-of-that-name/series")


def test_a_folder_here_without_a_slash_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserInputError, match=r"\./mine for the folder here"):
        series.load("mine")


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("nowhere")])
def test_a_configuration_that_is_no_file_is_not_left_out(tmp_path: Path, make: Callable[[Path], object]) -> None:
    folder = write(tmp_path / "mine")
    (folder / "a.patch").write_text(PATCH)
    make(folder / "series.config")
    with pytest.raises(UserInputError, match=r"series\.config is not a file"):
        series.load(folder)
