# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from common.errors import SetupError
from common.program import end_with

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
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
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
    said: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "--rounds", "3"])

    def main(argv: list[str]) -> int:
        assert argv == ["--rounds", "3"]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(SystemExit) as ended:
        end_with(main)
    assert ended.value.code == status
    assert capsys.readouterr().err.endswith(said)


def test_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        end_with(lambda _: 1 // 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_command_that_is_asked_to_end_puts_its_things_away(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"put away\n", b"interrupted\n")
