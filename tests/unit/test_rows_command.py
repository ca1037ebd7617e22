# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof rows`` says of each row and kind of page whether it shows what it must. The host is a fake."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import DeadlineError, ImageError, MachineLostError, UserInputError
from common.paths import PROJECT
from guest_images.programs import Programs
from host_setup.channels.ssh import Completed
from host_setup.channels.vitals import Vitals
from host_setup.hosts.guest_spec import row_seconds
from host_setup.tools import rows
from signoff.contract import Condition
from signoff.contract_files import load

ROWS = ("walk-bits", "smm")
CPUINFO = "vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx smap\n"

CONTRACT = load(PROJECT / "tests_e2e" / "contract")


def _rows_of_claims() -> dict[str, set[str]]:
    """The rows that each test names where it has them judged."""
    found: dict[str, set[str]] = {}
    for file in (PROJECT / "tests_e2e").rglob("test_*.py"):
        for function in ast.parse(file.read_text()).body:
            if isinstance(function, ast.FunctionDef):
                found[function.name.removeprefix("test_")] = {
                    argument.value
                    for call in ast.walk(function)
                    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "tiny_vm_works"
                    for argument in call.args
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                }
    return found


ROWS_OF = _rows_of_claims()


class FakeHost:
    """A host that has prepared answers to each row, by its name and the kind of page."""

    def __init__(
        self,
        *,
        parameters: bytes = b"",
        check: str = "bits",
        cpuinfo: str = CPUINFO,
        processors: int = 2,
        swaps: bytes = b"Filename Type Size\n",
        known: Sequence[str] = ROWS,
        **answers: Any,
    ) -> None:
        self.parameters, self.check, self.cpuinfo, self.processors = parameters, check, cpuinfo, processors
        self.swaps = swaps
        self.vitals, self.ssh, self.answers, self.ran = Vitals("the host"), self, answers, list[str]()
        self.known = list(known)

    def run(self, argv: list[str], *, seconds: float) -> Completed:
        if argv == ["cat", "/proc/swaps"]:
            return Completed(tuple(argv), 0, self.swaps, b"")
        if argv[0] == "cat":
            return Completed(tuple(argv), 0 if self.parameters else 1, self.parameters, b"")
        if argv[0] == "sh":
            return Completed(tuple(argv), 0, self.cpuinfo.encode(), b"")
        if argv[0] == "nproc":
            return Completed(tuple(argv), 0, f"{self.processors}\n".encode(), b"")
        assert seconds == row_seconds(argv[1])
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
    monkeypatch.setattr(rows, "programs", lambda *_: SimpleNamespace(rows=lambda: host.known))
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
    for asked in (rows.REGISTERS_CHECK, f"{rows.REGISTERS_CHECK} by a processor that does not boot"):
        host = FakeHost(parameters=parameters, check=asked, private=(answer, 0))
        assert tried(host, ["smm", "--ways", "private"], monkeypatch) == (verdict == "FAIL")
        assert capsys.readouterr().out.startswith(f"{verdict}  smm ")


@pytest.mark.parametrize(
    ("row", "lacking", "reason"),
    [
        ("nested", {}, "the processor has no SVM"),
        ("nested-vmx", {"cpuinfo": "flags\t\t: svm\n"}, "the processor has no VMX"),
        ("walk-smep-smap", {"cpuinfo": "flags\t\t: vmx\n"}, "the processor has no SMAP"),
        ("ended", {"processors": 1}, "the host has one processor"),
        ("swapped", {}, "the host has no swap"),
        ("asks-managed", {"parameters": b"Y\nN\n"}, "KVM emulates real mode"),
        ("asks-managed", {"parameters": b"N\nN\n"}, "KVM emulates real mode"),
    ],
)
def test_row_that_the_host_cannot_show_is_skip_and_says_why(
    row: str,
    lacking: dict[str, Any],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host = FakeHost(known=(row, "smm"), **lacking)
    assert tried(host, [], monkeypatch) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"SKIP  {row} ")
    assert reason in said
    assert said.endswith("\n3 SKIP, 3 PASS\n")
    assert host.ran == [f"smm {way}" for way in rows.WAYS]


def test_row_about_swap_runs_where_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(known=("swapped",), swaps=b"Filename Type Size\n/dev/zram0 partition 1\n")
    assert tried(host, ["--ways", "plain"], monkeypatch) == 0
    assert host.ran == ["swapped plain"]


@pytest.mark.parametrize(
    ("row", "got", "status"), [("alternate", "0x7d0", 0), ("alternate", "0x7d1", 1), ("smm", "0x7d0", 1)]
)
def test_documented_boundary_is_what_it_must_show(
    row: str, got: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost(known=("alternate", "smm"), check=rows.OPEN[1], private=(got, 0))
    assert tried(host, [row, "--ways", "private"], monkeypatch) == status


def test_emulation_of_svm_alone_carries_out_task_switches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rows, "EmulatedHost", type("OfQemu", (FakeHost,), {}))
    amd = rows.EmulatedHost(known=("task-switch",), cpuinfo="flags\t\t: svm\n")  # type: ignore[call-arg]
    assert tried(amd, [], monkeypatch) == 0
    assert "carries out task switches by itself" in capsys.readouterr().out
    assert tried(FakeHost(known=("task-switch",)), [], monkeypatch) == 0
    assert capsys.readouterr().out.endswith("\n3 PASS\n")


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        (Condition.NO_SVM, rows.SVM_ROWS),
        (Condition.NO_VMX, rows.VMX_ROWS),
        (Condition.ONE_PROCESSOR, rows.BESIDE_ROWS),
        (Condition.NO_SMAP, ("walk-smep-smap",)),
        (Condition.NO_TASK_SWITCH_EXITS, ("task-switch",)),
    ],
)
def test_claim_that_is_skip_for_a_condition_has_a_row_that_is(condition: Condition, named: Sequence[str]) -> None:
    claims = [claim.id for claim in CONTRACT.claims if claim.skip and condition in claim.skip.when]
    by_claim = {claim: ROWS_OF[claim] for claim in claims if ROWS_OF.get(claim)}
    assert by_claim
    assert [claim for claim, its in by_claim.items() if not its & {*named}] == []


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        (Condition.NO_SVM, rows.SVM_ROWS),
        (Condition.NO_VMX, rows.VMX_ROWS),
        (Condition.ONE_PROCESSOR, rows.BESIDE_ROWS),
    ],
)
def test_claim_whose_row_cannot_be_tried_is_skip(condition: Condition, named: Sequence[str]) -> None:
    skipped = {claim.id for claim in CONTRACT.claims if claim.skip and condition in claim.skip.when}
    assert {claim for claim, its in ROWS_OF.items() if its & {*named}} <= skipped


def test_lost_host_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(plain=MachineLostError("its Bochs ended with status 1"))
    host.vitals.note_loss("its Bochs ended with status 1")
    with pytest.raises(MachineLostError, match="ended with status 1"):
        tried(host, ["smm", "--ways", "plain"], monkeypatch)
    assert host.ran == ["smm plain"]


def test_a_name_that_no_row_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserInputError, match="no row smn"):
        tried(FakeHost(), ["smn"], monkeypatch)


@pytest.mark.parametrize(
    ("script", "rows"),
    [("echo 'usage: tiny_vm ROW' >&2; echo 'rows: walk-bits smm' >&2; exit 2", ["walk-bits", "smm"]), ("exit 2", None)],
)
def test_rows_are_those_that_the_program_names(tmp_path: Path, script: str, rows: list[str] | None) -> None:
    (tmp_path / "tiny_vm").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "tiny_vm").chmod(0o755)
    if rows:
        assert Programs(tmp_path, "key").rows() == rows
    else:
        with pytest.raises(ImageError, match="which rows it has: it names none"):
            Programs(tmp_path, "key").rows()
