# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import sys

import pytest

from common.errors import SetupError
from common.program import end_with


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
