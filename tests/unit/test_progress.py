# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import io

import pytest
from rich.console import Console

from common import progress
from common.progress import Terminal, clock

HOSTILE = "  CC [M]  [/drivers] [red]x"  # looks like rich's markup, and is none


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0.0)
    terminal = Terminal()
    terminal._console = Console(file=io.StringIO(), force_terminal=request.param, width=200, soft_wrap=True)
    return terminal


def output_of(terminal: Terminal) -> str:
    out = terminal._console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (7.34, "7.3 s"), (65, "1 min 05 s"), (119.6, "2 min 00 s"), (3600, "60 min 00 s")],
)
def test_clock_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_step_tells_begin_and_end(terminal: Terminal) -> None:
    with terminal.step("kernel", expected=90) as step:
        step.update(0.5, "CC fork.o")
    assert "kernel (about 1 min 30 s)" in output_of(terminal)
    assert "kernel: done in " in output_of(terminal)


def test_failed_step_is_not_done(terminal: Terminal) -> None:
    with pytest.raises(ZeroDivisionError), terminal.step("kernel"):
        raise ZeroDivisionError
    assert "done" not in output_of(terminal)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_what_looks_like_markup_is_shown_as_it_is(terminal: Terminal, fraction: float) -> None:
    with terminal.step(f"kernel {HOSTILE}") as step:
        step.update(fraction, HOSTILE)
    terminal.say(HOSTILE)
    assert output_of(terminal).count("[/drivers]") >= 3


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().say("hello")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")


def test_log_gets_no_line_for_each_update(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().step("kernel") as step:
        for done in range(1000):
            step.update(done / 1000)
    assert len(capsys.readouterr().err.splitlines()) == 2
