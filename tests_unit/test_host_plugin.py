# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin of the machines, driven for real: pytest in a process of its own, which makes no machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import PROJECT
from host_setup.plugin import LAST, NOT_PROVEN, pytest_collection_modifyitems

CONFTEST = """
import pytest
pytest_plugins = ["host_setup.plugin"]

@pytest.fixture(scope="session")
def hosts_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")
"""
ORDER = {
    "test_a_health.py": "import pytest\npytestmark = pytest.mark.whole_run\ndef test_health(): pass\n",
    "test_b.py": "def test_one(): pass\n"
    "import pytest\n@pytest.mark.whole_run\ndef test_end(): pass\n"
    "def test_two(): pass\n",
}


def run(folder: Path, tests: dict[str, str], *options: str) -> tuple[int, str]:
    for name, text in {"conftest.py": CONFTEST, **tests}.items():
        (folder / name).write_text(text)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-v",
        f"--rootdir={folder}",
        *options,
        str(folder),
    ]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_judges_the_whole_run_comes_last(tmp_path: Path) -> None:
    status, said = run(tmp_path, ORDER, "--strict-markers")
    assert status == 0
    assert re.findall(r"::(test_\w+) PASSED", said) == ["test_one", "test_two", "test_health", "test_end"]


@pytest.mark.parametrize(
    ("option", "value", "wrong"),
    [("--host", "mainframe", "no host kind mainframe"), ("--kernel-source", "/no/such/tree", "/no/such/tree")],
)
def test_unusable_option_ends_the_run_with_that_one_error_and_makes_nothing(
    tmp_path: Path, option: str, value: str, wrong: str
) -> None:
    tests = {"test_c.py": "def test_one(pool): pass\ndef test_two(pool): pass\n"}
    status, said = run(tmp_path, tests, option, value)
    assert status == NOT_PROVEN
    assert said.count(wrong) == 1
    assert "  next: " in said
    assert "Traceback" not in said
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_order_among_equals_stays() -> None:
    class Item:
        def __init__(self, name: str) -> None:
            self.name = name

        def get_closest_marker(self, marker: str) -> object:
            assert marker == LAST
            return object() if self.name.startswith("last") else None

    items = [Item(name) for name in ("last 1", "b", "a", "last 0", "c")]
    pytest_collection_modifyitems(items)
    assert [item.name for item in items] == ["b", "a", "c", "last 1", "last 0"]
