# SPDX-License-Identifier: GPL-2.0-or-later
"""Annotations of a night at the contract's lines, and the kernel's message in the mail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from history import summary
from history.__main__ import main
from history.annotations import Level, annotate, to_github, to_gitlab
from history.database import History
from history.review import Review
from signoff.verdict import Status
from tests.unit.night_samples import Nights, World, matrix

FAIL, PASS = Status.FAIL, Status.PASS
ONE = "series=one"
CONTRACT = (
    'version = 2\n\n[[claim]]\nid = "guest_boots"\n\n[[claim]]\nids = [\n  "guest_works",\n  "guest_shakes",\n]\n'
)


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    with History(tmp_path / "history.sqlite") as history:
        yield Nights(tmp_path, matrix("one"), history)


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """The contract of the checkout."""
    folder = tmp_path / "contract"
    folder.mkdir()
    (folder / "legitimate-x.toml").write_text(CONTRACT)
    return folder


def bad_night(nights: Nights) -> Review:
    """A night in which one claim regressed, one is flaky and one is as bad as before."""
    nights.night(World(statuses={(ONE, "guest_boots"): [FAIL]}))
    nights.next_day()
    statuses = {(ONE, "guest_boots"): [FAIL], (ONE, "guest_works"): [FAIL], (ONE, "guest_shakes"): [FAIL, PASS]}
    return nights.night(World(statuses=statuses, patches=(("0001-a.patch", "a"), ("0002-b.patch", "b"))))


def test_each_claim_is_told_at_its_line_of_the_contract_the_worst_first(nights: Nights, contract: Path) -> None:
    result = list(annotate(bad_night(nights), contract))
    assert [(entry.level, entry.file, entry.line, entry.title) for entry in result] == [
        (Level.ERROR, "tests_e2e/contract/legitimate-x.toml", 8, "regressed: guest_works"),
        (Level.WARNING, "tests_e2e/contract/legitimate-x.toml", 9, "flaky: guest_shakes"),
        (Level.WARNING, "tests_e2e/contract/legitimate-x.toml", 4, "still not PASS: guest_boots"),
    ]
    assert "series=one: PASS -> FAIL/FAIL: it is FAIL: expected 4, got 5\n" in result[0].words
    assert "repeat: pytest tests_e2e -k test_guest_works" in result[0].words


def test_the_lines_are_those_of_the_runs_own_contract_if_it_is_there(nights: Nights, contract: Path) -> None:
    night = bad_night(nights)
    for run in nights.history.runs():
        own = Path(run.folder) / "contract"
        own.mkdir()
        (own / "legitimate-y.toml").write_text("\n\n" + CONTRACT)
    assert {(entry.file, entry.line) for entry in annotate(night, contract)} == {
        ("tests_e2e/contract/legitimate-y.toml", line) for line in (6, 10, 11)
    }


def test_a_claim_that_no_contract_names_is_told_all_the_same(nights: Nights, tmp_path: Path) -> None:
    assert {(entry.file, entry.line) for entry in annotate(bad_night(nights), tmp_path / "none")} == {
        ("tests_e2e/contract", 1)
    }


def test_what_the_bisect_found_is_told_and_what_is_fixed_is_a_notice(nights: Nights, contract: Path) -> None:
    nights.plan = matrix("one", bisect=1)
    assert "\nfirst bad: 2 of 2 patches: 0002-b.patch" in next(annotate(bad_night(nights), contract)).words
    nights.next_day()
    levels = {entry.title: entry.level for entry in annotate(nights.night(World()), contract)}
    assert levels == dict.fromkeys(["fixed: guest_works", "fixed: guest_boots"], Level.NOTICE)


def test_github_takes_them_as_commands_of_a_line_each(nights: Nights, contract: Path) -> None:
    text = to_github(annotate(bad_night(nights), contract))
    lines = text.splitlines()
    assert len(lines) == 3
    for line in lines:
        match = re.fullmatch(r"::(error|warning|notice) file=([^,:]+),line=(\d+),title=([^,:]+)::(.+)", line)
        assert match is not None
        assert "%0A" in match[5]
    assert lines[0].startswith(
        "::error file=tests_e2e/contract/legitimate-x.toml,line=8,title=regressed%3A guest_works::"
    )


def test_gitlab_takes_them_as_code_quality(nights: Nights, contract: Path) -> None:
    issues = json.loads(to_gitlab(annotate(bad_night(nights), contract)))
    assert [issue["severity"] for issue in issues] == ["critical", "minor", "minor"]
    assert issues[0]["location"] == {"path": "tests_e2e/contract/legitimate-x.toml", "lines": {"begin": 8}}
    assert len({issue["fingerprint"] for issue in issues}) == 3
    assert all({*issue} == {"description", "check_name", "fingerprint", "severity", "location"} for issue in issues)
    assert json.loads(to_gitlab(iter(()))) == []


def test_the_command_prints_them_and_ends_as_the_night(
    nights: Nights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_night(nights)
    argv = ["summary", "--history", str(tmp_path / "history.sqlite"), "--annotations"]
    assert main([*argv, "github"]) == 1
    assert capsys.readouterr().out.startswith("::error file=tests_e2e/contract,line=1,title=regressed%3A guest_works::")
    assert main([*argv, "gitlab"]) == 1
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_a_mail_has_the_kernels_message_and_no_more_of_it_than_fits(nights: Nights) -> None:
    night = bad_night(nights)
    line = night.cells[0].regressed[0]
    evidence = Path(line.after.run.folder) / "evidence/guest_works"
    assert "oops" not in summary.text(night)
    evidence.mkdir(parents=True)
    (evidence / "oops.txt").write_text(
        "BUG at mm/x.c in a < b [0123456789ab]\n\n" + "".join(f" f{n}\x1b\n" for n in range(99))
    )
    output = summary.text(night)
    assert "    oops\n      BUG at mm/x.c in a < b [0123456789ab]\n\n       f0\ufffd\n" in output
    assert " f37" in output
    assert " f38" not in output
    assert "\n      ...\n" in output
