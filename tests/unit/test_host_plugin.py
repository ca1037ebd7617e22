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

from common import failure
from common.errors import SealproofError
from common.paths import PROJECT
from common.program import FAILED
from common.progress import Terminal
from common.store import Store
from common.waiting import Deadline, poll_until
from host_setup.plugin import LAST, pytest_collection_modifyitems
from host_setup.provision import Settings, provision
from tests.unit.test_program import ignoring

CONFTEST = """
import pytest
from host_setup.kernel.series import Protection
pytest_plugins = ["host_setup.plugin"]

@pytest.fixture(scope="session")
def hosts_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "hosts"

@pytest.fixture(scope="session")
def guest_mode():
    return Protection.PROTECTED

@pytest.fixture(scope="session")
def meet_host():
    return print
"""
HOSTS = """
import types
from host_setup.channels.vitals import Vitals

class FakeHost:
    guest_specs = (types.SimpleNamespace(name="plain"),)
    qemu = object()
    vitals = Vitals("the host")
    lost = None

    def login_command(self, guest=None):
        return f"echo log in to {guest.name if guest else 'the host'}"

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
    "test_d.py": "def test_one(pool): pool.shared_host()\ndef test_two(pool): assert not pool.shared_host()\n",
}
ORDER = {
    "test_a_health.py": "import pytest\npytestmark = pytest.mark.whole_run\ndef test_health(): pass\n",
    "test_b.py": "def test_one(): pass\n"
    "import pytest\n@pytest.mark.whole_run\ndef test_end(): pass\n"
    "def test_two(): pass\n",
}


def prepare(folder: Path, tests: dict[str, str], *options: str) -> tuple[list[str], dict[str, str]]:
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
    argv, env = prepare(folder, tests, *options)
    done = subprocess.run(
        argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_what_judges_the_whole_run_comes_last(tmp_path: Path) -> None:
    status, output = run(tmp_path, ORDER, "--strict-markers")
    assert status == 0
    assert re.findall(r"::(test_\w+) PASSED", output) == ["test_one", "test_two", "test_health", "test_end"]


SIGNALS = {
    "test_s.py": "import os, signal, subprocess\n"
    "def test_hang_up(): os.kill(os.getpid(), signal.SIGHUP)\n"
    "def test_child(): assert subprocess.run(['sh', '-c', 'exit 7']).returncode == 7\n"
}


def test_what_the_parent_ignores_neither_ends_the_run_nor_hides_a_failure(tmp_path: Path) -> None:
    """nohup ignores SIGHUP; where SIGCHLD is ignored, Python takes each program for one that has ended well."""
    argv, env = prepare(tmp_path, SIGNALS)
    for number in (signal.SIGHUP, signal.SIGCHLD):
        argv = ignoring(number, *argv)
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 2), done.stdout


def test_unusable_option_ends_the_run_with_that_one_error_and_makes_nothing(tmp_path: Path) -> None:
    tests = {"test_c.py": "def test_one(pool): pass\ndef test_two(pool): pass\n"}
    status, output = run(tmp_path, tests, "--host", "mainframe")
    assert status == FAILED
    assert output.count("--host: no host kind mainframe\n  next: one of: auto, emulated") == 1
    assert "Traceback" not in output
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_host_is_kept_for_who_sits_at_a_terminal_until_ctrl_c(tmp_path: Path) -> None:
    argv, env = prepare(tmp_path, FAILS, "--keep-on-failure")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        argv, cwd=tmp_path, env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    leash = threading.Timer(60, process.kill)  # its output ends, and with it each wait below
    leash.start()
    try:
        output = ""
        while "Ctrl-C here ends them" not in output:
            line = process.stdout.readline()
            assert line, output
            output += line
        assert "log in to the host" in output
        assert "log in to plain" in output
        assert "closed" not in output
        # Who attaches gets there, and the host stays.
        report = Path(re.findall(r"shell --attach (\S+)", output)[0])
        attached = [sys.executable, "-m", "host_setup.tools.shell", "--attach"]
        for words, answer in (([report], "the host -- true"), ([report.parent, "--guest"], "plain -- true")):
            done = subprocess.run(
                [*attached, *words, "--", "true"], cwd=PROJECT, capture_output=True, text=True, check=False
            )
            assert done.stdout == f"log in to {answer}\n", done.stderr
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
    assert not (report / "hosts/kept.json").exists()


def test_host_is_not_kept_beyond_its_terminal(tmp_path: Path) -> None:
    argv, env = prepare(tmp_path, FAILS, "--keep-on-failure")
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
    status, output = run(tmp_path, FAILS, "--keep-on-failure")
    assert status == 1
    assert "log in to the host" in output
    assert "it ends at once" in output
    status, output = run(tmp_path, FAILS, "--keep-on-failure", "-k", "one")
    assert status == 0
    assert "log in to the host" not in output


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


BREAKS = """
import host_setup.plugin, os, pytest, sys

class Foreign(BaseException):
    pass

def breaks(*_, **__):
    {how}
"""
IN_SET_UP = BREAKS + "\nhost_setup.plugin.provision = breaks\n"
AT_FIRST_HOST = """
@pytest.fixture(scope="session")
def provisioned():
    import types
    made = types.SimpleNamespace(start={start}, close=lambda: None, one_at_a_time=False)
    return types.SimpleNamespace(hosts=made)
"""
MANY = {"test_e.py": "".join(f"def test_{number}(pool): pass\n" for number in range(20))}


def the_one_line(folder: Path, status: int, message: str) -> str:
    """What is told of a set-up that failed, in one line, with a traceback in a file and none on the terminal."""
    assert status == FAILED, message
    (line,) = (line for line in message.splitlines() if "the set-up failed: " in line)
    assert "Traceback" not in message
    assert len(message.splitlines()) < 40, message
    match = re.search(r"\(traceback: (\S+)\)", line)
    assert match is not None, line
    traceback = Path(match[1])
    assert traceback.is_relative_to(folder)
    assert "Traceback (most recent call last)" in traceback.read_text()
    return line


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "raise RuntimeError('Could not determine home directory.')",
            "RuntimeError: Could not determine home directory.",
        ),
        ("raise KeyError('getpwuid(): uid not found: 54321')", "KeyError: 'getpwuid(): uid not found: 54321'"),
        (
            "raise PermissionError(13, 'Permission denied', '/cache')",
            "PermissionError: [Errno 13] Permission denied: '/cache'",
        ),
        ("'\\udcff'.encode()", "UnicodeEncodeError: 'utf-8' codec can't encode"),
        ("raise ValueError('two\\nlines')", "ValueError: two (traceback"),
        ("raise ValueError", "ValueError (traceback"),
        ("raise MemoryError", "MemoryError (traceback"),
        ("assert not 1", "AssertionError"),
        ("breaks()", "RecursionError: maximum recursion depth exceeded"),
        ("sys.exit(5)", "SystemExit: 5"),
        ("pytest.skip('not here')", "Skipped: not here"),
        ("pytest.fail('not so')", "Failed: not so"),
        ("raise Foreign('a library has its own')", "Foreign: a library has its own"),
        ("raise ExceptionGroup('several', [OSError(28, 'No space left on device')])", "ExceptionGroup: several"),
    ],
)
def test_whatever_the_set_up_raises_is_one_line_and_no_claim_fails_for_it(
    tmp_path: Path, how: str, message: str
) -> None:
    conftest = CONFTEST + IN_SET_UP.format(how=how)
    status, output = run(tmp_path, {"conftest.py": conftest, **MANY}, f"--basetemp={tmp_path / 'base'}")
    assert message in the_one_line(tmp_path, status, output)
    assert not re.search(r"\d+ (failed|errors?|passed)", output), output


@pytest.mark.parametrize("where", ["start", "meet"])
def test_first_host_that_does_not_start_ends_the_run_too(tmp_path: Path, where: str) -> None:
    conftest = CONFTEST + BREAKS.format(how="raise OSError('the first host does not come')")
    if where == "start":
        conftest += AT_FIRST_HOST.format(start="breaks")
    else:
        conftest = conftest.replace("return print", "return breaks") + AT_FIRST_HOST.format(start="object")
    status, output = run(tmp_path, {"conftest.py": conftest, **MANY}, f"--basetemp={tmp_path / 'base'}")
    assert "OSError: the first host does not come" in the_one_line(tmp_path, status, output)


def test_error_of_ours_keeps_its_words_and_names_its_traceback(tmp_path: Path) -> None:
    status, output = run(tmp_path, MANY, "--host", "mainframe", f"--basetemp={tmp_path / 'base'}")
    assert status == FAILED
    assert output.count("the set-up failed: --host: no host kind mainframe\n  next: one of: auto") == 1
    match = re.search(r"  traceback: (\S+)", output)
    assert match is not None
    assert "UserInputError" in Path(match[1]).read_text()


def test_traceback_has_a_place_when_the_reports_have_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    words = failure.describe(ValueError("why"), tmp_path / "file" / "hosts")
    match = re.fullmatch(r"ValueError: why \(traceback: (\S+)\)", words)
    assert match is not None
    traceback = Path(match[1])
    try:
        assert "ValueError: why" in traceback.read_text()
    finally:
        traceback.unlink()


def test_user_without_a_name_and_a_home_gets_one_line(tmp_path: Path) -> None:
    argv, env = prepare(tmp_path, MANY, f"--basetemp={tmp_path / 'base'}")
    del env["XDG_CACHE_HOME"]
    nobody = tmp_path / "sitecustomize.py"
    nobody.write_text("import os, pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n")
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == FAILED, output
    assert output.count(f"the set-up failed: set-up: the user uid {os.getuid()} has no home folder") == 1
    assert "next: set HOME or XDG_CACHE_HOME to a writable folder" in output
    assert "Traceback" not in output
