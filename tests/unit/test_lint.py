# SPDX-License-Identifier: GPL-2.0-or-later
"""``.ci/lint`` on a small tree with a fault: each check names the file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import PROJECT

SPDX = "# SPDX-License-Identifier: GPL-2.0-or-later\n"
MODULE = f'{SPDX}"""Adds."""\n\n\ndef add(a: int, b: int) -> int:\n    """Return the sum."""\n    return a + b\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree without a fault, under this project's own rules."""
    environment = Path(sys.executable).parent.parent
    if not (environment / "bin/shellcheck").exists():
        pytest.skip(f"{environment} has no linters: it was not made from requirements.lock")
    (tmp_path / ".ci").mkdir()
    (tmp_path / "common").mkdir()
    for name in (".ci/lint", ".shellcheckrc", ".gitignore"):
        shutil.copy(PROJECT / name, tmp_path / name)
    rules = re.sub(r"^(packages|modules) = .*", "", (PROJECT / "pyproject.toml").read_text(), flags=re.M)
    (tmp_path / "pyproject.toml").write_text(rules.replace("strict = true", 'strict = true\npackages = ["common"]'))
    (tmp_path / ".venv").symlink_to(environment)
    (tmp_path / "common/__init__.py").write_text(SPDX + '"""A package."""\n')
    (tmp_path / "common/add.py").write_text(MODULE)
    (tmp_path / "start").write_text(f'#!/bin/sh\n{SPDX}echo "$1"\n')
    (tmp_path / "notes.json").write_text("{}")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def lint(tree: Path, *checks: str) -> tuple[int, str]:
    done = subprocess.run(["bash", tree / ".ci/lint", *checks], capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, done.stdout + done.stderr


def test_a_tree_without_a_fault_is_silent(tree: Path) -> None:
    assert lint(tree) == (0, "")


@pytest.mark.parametrize(
    ("check", "file", "text", "complaint"),
    [
        ("types", "common/wrong.py", MODULE.replace("a: int", "a"), "common/wrong.py:5: error: Function is missing"),
        ("style", "common/wrong.py", MODULE.replace("return a + b", "assert a\n    return a + b"), "S101"),
        ("layout", "common/wrong.py", MODULE.replace("a + b", "a+b"), "common/wrong.py"),
        ("shell", "wrong.sh", f"#!/bin/sh\n{SPDX}echo $1\n", "SC2086"),
        ("shell", "common/wrong", f"#!/bin/bash\n{SPDX}cd $1\n", "SC2086"),
        ("licences", "common/wrong.c", "int main(void) { return 0; }\n", "common/wrong.c: no SPDX line"),
    ],
)
def test_each_check_names_the_fault(tree: Path, check: str, file: str, text: str, complaint: str) -> None:
    (tree / file).write_text(text)
    status, output = lint(tree)
    assert status == 1
    assert re.findall(r"^lint: (.*)", output, re.M) == [check]
    assert complaint in output
    assert lint(tree, check) == (1, output)
    others = {"types", "style", "layout", "shell", "licences"} - {check}
    assert lint(tree, *others) == (0, "")


@pytest.mark.parametrize("check", ["shell", "licences"])
def test_a_check_that_cannot_list_the_files_has_not_passed(tree: Path, check: str) -> None:
    shutil.rmtree(tree / ".git")
    status, output = lint(tree, check)
    assert status == 1
    assert "not a git repository" in output


def test_an_unknown_check_is_a_fault(tree: Path) -> None:
    assert lint(tree, "spelling") == (1, "lint: spelling\nno check has this name\n")
