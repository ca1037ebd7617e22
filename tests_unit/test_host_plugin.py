# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin of the machines, driven for real: pytest in a process of its own, which makes no machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.errors import SealproofError
from common.paths import PROJECT
from common.progress import Terminal
from common.store import Store
from common.waiting import Deadline, poll_until
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
HOSTS = """
import types

class FakeHost:
    guest_specs = (types.SimpleNamespace(name="plain"),)
    vitals = types.SimpleNamespace(reason=None)
    lost = None

    def login_command(self, guest=None):
        return f"log in to {guest.name if guest else 'the host'}"

    def kernel_log(self):
        return ""

    def close(self):
        print("the host is closed", file=sys.__stderr__)

@pytest.fixture(scope="session")
def provisioned():
    made = types.SimpleNamespace(start=FakeHost, close=lambda: None, one_at_a_time=False)
    return types.SimpleNamespace(hosts=made)
"""
FAILS = {
    "conftest.py": f"import sys\n{CONFTEST}{HOSTS}",
    "test_d.py": "def test_one(pool): pool.shared()\ndef test_two(pool): assert not pool.shared()\n",
}
ORDER = {
    "test_a_health.py": "import pytest\npytestmark = pytest.mark.whole_run\ndef test_health(): pass\n",
    "test_b.py": "def test_one(): pass\n"
    "import pytest\n@pytest.mark.whole_run\ndef test_end(): pass\n"
    "def test_two(): pass\n",
}


def prepared(folder: Path, tests: dict[str, str], *options: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs them, and its environment."""
    for name, content in {"conftest.py": CONFTEST, **tests}.items():
        (folder / name).write_text(content)
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
    return argv, {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), "XDG_CACHE_HOME": str(folder / "cache")}


def run(folder: Path, tests: dict[str, str], *options: str) -> tuple[int, str]:
    argv, env = prepared(folder, tests, *options)
    done = subprocess.run(
        argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
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


def test_host_is_kept_for_who_sits_at_a_terminal_until_ctrl_c(tmp_path: Path) -> None:
    argv, env = prepared(tmp_path, FAILS, "--keep-on-failure")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        argv, cwd=tmp_path, env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    leash = threading.Timer(60, process.kill)  # its output ends, and with it each wait below
    leash.start()
    try:
        said = ""
        while "Ctrl-C here ends them" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        assert "log in to the host" in said
        assert "log in to plain" in said
        assert "closed" not in said
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        leash.cancel()
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert re.search(r"ended\n(.*\n)*the host is closed\n", rest), rest
    assert "1 failed, 1 passed" in rest
    assert process.returncode == 1


def test_host_is_not_kept_beyond_its_terminal(tmp_path: Path) -> None:
    argv, env = prepared(tmp_path, FAILS, "--keep-on-failure")
    ours, theirs = os.openpty()
    with (tmp_path / "said").open("w+") as out:
        process = subprocess.Popen(argv, cwd=tmp_path, env=env, stdin=theirs, stdout=out, stderr=out)
        try:
            os.close(theirs)
            poll_until(
                lambda: "Ctrl-C here ends them" in (tmp_path / "said").read_text(), Deadline(60), "the host to be kept"
            )
            os.close(ours)
            assert process.wait(60) == 1
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        assert "the host is closed\n" in out.read()


def test_host_is_not_kept_where_nobody_could_end_it_nor_when_all_is_well(tmp_path: Path) -> None:
    status, said = run(tmp_path, FAILS, "--keep-on-failure")
    assert status == 1
    assert "log in to the host" in said
    assert "ended at once" in said
    status, said = run(tmp_path, FAILS, "--keep-on-failure", "-k", "one")
    assert status == 0
    assert "log in to the host" not in said


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
