# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from common.errors import SetupError
from common.paths import PROJECT
from common.program import end_with
from common.waiting import Deadline, poll_until

WAITS = """
import time
from common.program import end_with

def main(argv):
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("put away")

end_with(main)
"""


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """What the command sets is this process's here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (SetupError("no disk", hint="buy one"), 2, "no disk\n  next: buy one\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_command_ends_with_its_status_or_an_errors_text(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: int | BaseException,
    status: int,
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "--rounds", "3"])

    def main(argv: list[str]) -> int:
        assert argv == ["--rounds", "3"]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(SystemExit) as caught:
        end_with(main)
    assert caught.value.code == status
    assert capsys.readouterr().err.endswith(message)


def test_fault_of_ours_is_not_hidden_and_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        end_with(lambda _: 1 // 0)
    assert caught.value.code == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


SAYS = "from common.program import end_with; end_with(lambda _: print('x' * {size}) or {status})"


@pytest.mark.parametrize(
    ("redirected", "size", "status", "expected"),
    [
        (">&-", 1, 0, 0),
        ("<&- >&- 2>&-", 1, 0, 0),
        ("> /dev/full", 1, 0, 2),
        ("> /dev/full", 1, 1, 1),
        ("| true; exit ${PIPESTATUS[0]}", 100_000, 0, 2),
    ],
)
def test_streams_that_are_closed_full_or_gone_are_no_verdict(
    redirected: str, size: int, status: int, expected: int
) -> None:
    command = shlex.join([sys.executable, "-E", "-c", SAYS.format(size=size, status=status)])
    done = subprocess.run(["bash", "-c", f"{command} {redirected}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (expected, "")


WRITES = """
import os, sys
from pathlib import Path
from common.program import end_with

def main(argv):
    with Path(argv[0]).open("w") as report:
        os.write(1, b"lost")
        report.write("kept")
    return 0

end_with(main)
"""


def test_closed_stream_is_not_taken_by_a_file(tmp_path: Path) -> None:
    report = tmp_path / "report"
    command = shlex.join([sys.executable, "-c", WRITES, str(report)])
    assert subprocess.run(["bash", "-c", f"{command} >&-"], check=False).returncode == 0
    assert report.read_text() == "kept"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_command_that_is_asked_to_end_puts_its_things_away(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"put away\n", b"interrupted\n")


def ignoring(number: signal.Signals, *argv: str) -> list[str]:
    """The command, started by who ignores a signal: nohup does, and some daemons that start the jobs of others."""
    ignore = f"import os, signal, sys; signal.signal({number:d}, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", ignore, *argv]


STARTS = """
import subprocess
from common.program import end_with

end_with(lambda _: subprocess.run(["sh", "-c", "exit 7"], check=False).returncode)
"""


def test_a_program_that_fails_is_noticed_whatever_the_parent_ignores() -> None:
    """Where SIGCHLD is ignored, nobody is told how a program ended, and Python takes it for a success."""
    command = ignoring(signal.SIGCHLD, sys.executable, "-c", STARTS)
    assert subprocess.run(command, timeout=60, check=False).returncode == 7


HANGS_UP = """
import os, signal
from common.program import end_with

end_with(lambda _: os.kill(os.getpid(), signal.SIGHUP) or 3)
"""


def test_who_began_with_nohup_outlives_the_terminal() -> None:
    command = ignoring(signal.SIGHUP, sys.executable, "-c", HANGS_UP)
    assert subprocess.run(command, timeout=60, check=False).returncode == 3


@pytest.mark.parametrize("command", [["./sealproof", "help"], ["make", "doctor"]])
@pytest.mark.parametrize("milliseconds", range(0, 40, 4))
def test_ctrl_c_while_python_starts_is_no_traceback_and_no_verdict(command: list[str], milliseconds: int) -> None:
    """Python's own answer has a traceback, and status 1 where it comes early: a claim FAIL, or a bad commit."""
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        poll_until(lambda: process.poll() is not None or python_of(process.pid), Deadline(30), "Python", interval=0.001)
        time.sleep(milliseconds / 1000)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        _, output = process.communicate(timeout=30)
    assert "Traceback" not in output
    assert process.returncode in (0, 2, 130, -signal.SIGINT)


def python_of(group: int) -> bool:
    """Whether a process of this group is a Python that runs our commands."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getpgid(int(folder.name)) == group and b"python3\0-E" in (folder / "cmdline").read_bytes():
                return True
    return False


def test_ctrl_c_after_the_end_is_no_traceback() -> None:
    """Python tells of an interrupt while it ends, and ends as if there had been none."""
    ends = "import atexit, os, signal; from common.program import end_with\n"
    ends += "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{ends}end_with(lambda _: 1)"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
