# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof rows`` says of each row and kind of page whether it shows what it must. The host is a fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from common.errors import DeadlineError, MachineLostError, UserInputError
from host_setup.channels.ssh import Completed
from host_setup.channels.vitals import Vitals
from host_setup.tools import rows

USAGE = b"usage: tiny_vm ROW plain|private|shared\nrows: walk-bits smm\n"


class FakeHost:
    """A host that has prepared answers to each row, by its name and the kind of page."""

    def __init__(self, *, parameters: bytes = b"", check: str = "bits", **answers: Any) -> None:
        self.parameters, self.check = parameters, check
        self.vitals, self.ssh, self.answers, self.ran = Vitals("the host"), self, answers, list[str]()

    def run(self, argv: list[str], *, seconds: float) -> Completed:
        assert seconds == rows.ROW
        if argv[0] == "cat":
            return Completed(tuple(argv), 0 if self.parameters else 1, self.parameters, b"")
        if len(argv) == 1:
            return Completed(tuple(argv), 2, b"", USAGE)
        self.ran.append(" ".join(argv[1:]))
        answer = self.answers.get(argv[2], ("1", 0))
        if isinstance(answer, Exception):
            raise answer
        value, status = answer
        line = json.dumps({"name": self.check, "expected": "1", "got": value})
        return Completed(tuple(argv), status, line.encode() if value else b"", b"")


def tried(host: FakeHost, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    @contextmanager
    def fake_host(*_: Any) -> Iterator[FakeHost]:
        yield host

    monkeypatch.setattr(rows, "_host", fake_host)
    return rows.main(argv)


def test_all_rows_are_tried_on_all_kinds_of_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = FakeHost()
    assert tried(host, [], monkeypatch) == 0
    assert host.ran == [f"{row} {way}" for row in ("walk-bits", "smm") for way in rows.WAYS]
    assert capsys.readouterr().out.endswith("\n6 PASS\n")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (("0", 0), "bits: 0, not 1"),
        (("1", 3), "status 3"),
        (("", 0), "status 0"),
        (DeadlineError("late"), "wait: late"),
    ],
)
def test_row_that_shows_something_else_fails(
    answer: Any, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(FakeHost(private=answer), ["smm"], monkeypatch) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith(("PASS", "FAIL"))] == [
        ["PASS", "smm", "plain"],
        ["FAIL", "smm", "private"],
        ["PASS", "smm", "shared"],
    ]
    assert f"      {fault}" in lines


@pytest.mark.parametrize(
    ("parameters", "answer", "verdict"),
    [
        (b"Y\nN\n", rows.REFUSED, "SKIP"),
        (b"Y\nN\n", "0", "FAIL"),
        (b"Y\nY\n", rows.REFUSED, "FAIL"),
        (b"", rows.REFUSED, "FAIL"),
    ],
)
def test_row_that_needs_private_registers_is_skip_where_kvm_has_none(
    parameters: bytes, answer: str, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = FakeHost(parameters=parameters, check=rows.ASKED, private=(answer, 0))
    assert tried(host, ["smm", "--ways", "private"], monkeypatch) == (verdict == "FAIL")
    assert capsys.readouterr().out.startswith(f"{verdict}  smm ")


def test_lost_host_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(plain=MachineLostError("its Bochs ended with status 1"))
    host.vitals.note_loss("its Bochs ended with status 1")
    with pytest.raises(MachineLostError, match="ended with status 1"):
        tried(host, ["smm", "--ways", "plain"], monkeypatch)
    assert host.ran == ["smm plain"]


def test_a_name_that_no_row_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserInputError, match="no row smn"):
        tried(FakeHost(), ["smn"], monkeypatch)
