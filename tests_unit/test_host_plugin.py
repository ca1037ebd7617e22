# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin of the machines, driven for real: pytest in a process of its own, which makes no machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import SealproofError
from common.paths import PROJECT
from common.progress import Terminal
from common.store import Store
from host_setup.plugin import LAST, NOT_PROVEN, pytest_collection_modifyitems
from host_setup.provision import Settings, provision

CONFTEST = """
import pytest
from host_setup.kernel.series import Mode
pytest_plugins = ["host_setup.plugin"]

@pytest.fixture(scope="session")
def hosts_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")

@pytest.fixture(scope="session")
def guest_mode():
    return Mode.PROTECTED

@pytest.fixture(scope="session")
def meet_host():
    return print
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


def test_unusable_option_ends_the_run_with_that_one_error_and_makes_nothing(tmp_path: Path) -> None:
    tests = {"test_c.py": "def test_one(pool): pass\ndef test_two(pool): pass\n"}
    status, said = run(tmp_path, tests, "--host", "mainframe")
    assert status == NOT_PROVEN
    assert said.count("--host: no host kind mainframe\n  next: one of: auto, emulated") == 1
    assert "Traceback" not in said
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (Settings(host="mainframe"), "no host kind mainframe"),
        (Settings(kernel_source=Path("/no/such/tree")), "/no/such/tree"),
        (Settings(series="no-such-series"), "no-such-series"),
    ],
)
def test_unusable_choice_is_told_with_the_next_step_before_anything_is_made(
    tmp_path: Path, settings: Settings, wrong: str
) -> None:
    with pytest.raises(SealproofError) as caught:
        provision(settings, Store(tmp_path / "cache"), Terminal(), tmp_path / "hosts", note=pytest.fail)
    assert wrong in caught.value.message
    assert caught.value.hint
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


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
