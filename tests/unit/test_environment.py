# SPDX-License-Identifier: GPL-2.0-or-later
"""What we start gets an environment of ours: nothing that a user has set for something else comes through."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.commands import output
from common.environment import PIP, USER_VARIABLES, environment, search_path, shell_line
from common.processes import run_tree, spawn

# Of each program that we start, some; and some of programs that nobody knows.
FOREIGN = (
    *(
        "ARCH",
        "CC",
        "CROSS_COMPILE",
        "HOSTCC",
        "INSTALL_MOD_PATH",
        "KBUILD_BUILD_USER",
        "KBUILD_EXTMOD",
        "KBUILD_OUTPUT",
    ),
    *("KCFLAGS", "KCONFIG_ALLCONFIG", "KCONFIG_CONFIG", "LLVM", "LLVM_IAS", "LOCALVERSION", "O", "V", "W"),
    *("GNUMAKEFLAGS", "MAKEFILES", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"),
    *("COMPILER_PATH", "CPATH", "GCC_EXEC_PREFIX", "LIBRARY_PATH", "SOURCE_DATE_EPOCH"),
    *("CCACHE_COMPILER", "CCACHE_DISABLE", "CCACHE_PREFIX", "CCACHE_SLOPPINESS"),
    *("GIT_CEILING_DIRECTORIES", "GIT_CONFIG_COUNT", "GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("PATCH_GET", "POSIXLY_CORRECT", "QUILT_PATCHES", "TAPE", "TAR_OPTIONS", "XZ_OPT", "ZSTD_CLEVEL"),
    *("BASH_ENV", "CDPATH", "ENV", "GREP_OPTIONS", "IFS", "LANG", "LC_MESSAGES", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONPATH", "PIP_INDEX_URL"),
    "NOBODY_KNOWS",
)
OWN = {"PWD", "SHLVL", "_", "OLDPWD", "PATH", "LC_ALL", *USER_VARIABLES}  # the shell's, and ours


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN:
        if name != "LD_PRELOAD":  # the test's own processes would have it, too
            monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("NOBODY KNOWS%", "odd name")


def by_spawn(_: Path) -> str:
    process = spawn(["env"], stdout=subprocess.PIPE)
    return process.communicate()[0].decode()


def by_run_tree(folder: Path) -> str:
    run_tree(["env"], log=folder / "log", stage="test")
    return (folder / "log").read_text().partition("\n")[2]


def by_output(_: Path) -> str:
    return output(["env"], stage="test").decode()


def by_the_log(folder: Path) -> str:
    """As a user repeats it, from the log."""
    run_tree(["env"], log=folder / "log", stage="test")
    line = (folder / "log").read_text().splitlines()[0].removeprefix("$ ")
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("start", [by_spawn, by_run_tree, by_output, by_the_log])
def test_what_is_started_gets_nothing_but_what_is_kept(tmp_path: Path, start: Callable[[Path], str]) -> None:
    names = {line.partition("=")[0] for line in start(tmp_path).splitlines()}
    assert names - OWN == set()
    assert {"PATH", "HOME", "LC_ALL"} <= names


def test_what_the_user_may_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror/simple")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    variables = environment({"LC_ALL": "C.UTF-8", "OURS": "1"})
    assert variables["https_proxy"] == "http://proxy:3128"
    assert (variables["LC_ALL"], variables["OURS"]) == ("C.UTF-8", "1")
    assert "PIP_INDEX_URL" not in variables
    assert "SSH_AUTH_SOCK" not in variables
    assert environment(more_names=PIP)["PIP_INDEX_URL"] == "https://mirror/simple"


@pytest.mark.parametrize("named", [":bin:.:/opt/bin:./x", "/opt/bin", None])
def test_programs_are_never_looked_for_in_the_folder_one_is_in(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    if named is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", named)
    folders = search_path().split(os.pathsep)
    assert all(folder.startswith("/") for folder in folders)
    assert "/usr/sbin" in folders
    assert (folders[0] == "/opt/bin") == (named is not None)


def test_a_line_for_a_shell_names_what_is_kept_and_tells_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy")
    monkeypatch.setenv("NOBODY_KNOWS", "secret")
    line = shell_line(["make", "a b"], {"CCACHE_DIR": "/x y"}, cwd=Path("/a folder"))
    assert "secret" not in line
    assert line.startswith("cd '/a folder' && env -i ")
    assert line.endswith(" make 'a b'")
    shown = subprocess.run(
        ["sh", "-c", shell_line(["env"], {"A": "$B `c`"})], capture_output=True, text=True, check=True
    )
    assert "https_proxy=http://user:secret@proxy\n" in shown.stdout
    assert "A=$B `c`\n" in shown.stdout
