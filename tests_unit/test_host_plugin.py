# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin of the machines, driven for real: pytest in a process of its own, which makes no machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from common.paths import PROJECT
from host_setup.plugin import LAST, pytest_collection_modifyitems

CONFTEST = """
import pytest
pytest_plugins = ["host_setup.plugin"]

@pytest.fixture(scope="session")
def hosts_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")
"""
TESTS = {
    "test_a_health.py": "import pytest\npytestmark = pytest.mark.whole_run\ndef test_health(): pass\n",
    "test_b.py": "def test_one(): pass\n"
    "import pytest\n@pytest.mark.whole_run\ndef test_end(): pass\n"
    "def test_two(): pass\n",
    "test_c.py": "def test_three(pool): pass\n",
}


def run(folder: Path, *options: str) -> str:
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in TESTS.items():
        (folder / name).write_text(text)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-v",
        "--rootdir",
        str(folder),
        *options,
        str(folder),
    ]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def test_unknown_host_is_told_nothing_is_made_and_what_judges_the_whole_run_comes_last(tmp_path: Path) -> None:
    said = run(tmp_path, "--host", "mainframe", "--strict-markers")
    names = re.findall(r"::(test_\w+) (?:PASSED|ERROR)", said)
    assert names == ["test_one", "test_two", "test_three", "test_health", "test_end"]
    assert "--host: no host kind mainframe" in said
    assert "next: one of: auto, emulated" in said
    assert "4 passed, 1 error" in said
    assert not any(p.is_file() for p in (tmp_path / "cache").rglob("*"))


def test_kernel_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    said = run(tmp_path, "--kernel-source", "/no/such/tree", "-k", "test_three")
    assert "--kernel-source: there is no /no/such/tree" in said
    assert "next: name a kernel tree or a tarball" in said
    assert not any(p.is_file() for p in (tmp_path / "cache").rglob("*"))


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
