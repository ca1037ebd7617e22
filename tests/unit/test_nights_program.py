# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.nights``: its seeds fit what they are put into, and its judge sees what is not as it was seeded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common.errors import SetupError
from common.paths import PROJECT
from history.database import History
from history.matrix import load
from history.trend import to_html
from host_setup.claim_runs import claim_tests
from host_setup.kernel import series
from signoff.contract_files import load as load_contract
from signoff.verdict import Status
from tests.nights import judge as judges
from tests.nights.judge import Judge, claim_lines, compare_lines, squares
from tests.nights.seeds import (
    BOOTS,
    CHANCE,
    FAULT,
    FAULTY,
    NAMED,
    NIGHTS,
    PLAIN,
    READS,
    SHAKES,
    SLEEPS,
    comparison_of,
    statuses,
)
from tests.nights.world import ENTRY, MATRIX, ONLY, World
from tests.unit.night_samples import Nights, matrix
from tests.unit.night_samples import World as Found

FAIL, PASS = Status.FAIL, Status.PASS


@pytest.fixture
def world(tmp_path: Path) -> World:
    """As ``make`` leaves it, without a checkout."""
    world = World(tmp_path)
    for name in ("host_setup/kernel/series", "host_setup/kernel/faults/protected-memory"):
        shutil.copytree(PROJECT / name, world.project / name)
    shutil.copytree(PROJECT / "tests_e2e/contract", world.project / "tests_e2e/contract")
    (world.project / "tests_e2e/legitimate").mkdir()
    test = world.project / "tests_e2e/legitimate/test_seeded.py"
    shutil.copyfile(PROJECT / "tests/nights/seeded.txt", test)
    with (world.project / "tests_e2e/contract/legitimate-guest-life.toml").open("a") as out:
        out.writelines(ENTRY.format(claim_name) for claim_name in (SHAKES, READS, BOOTS, SLEEPS))
    (tmp_path / "seeds").mkdir()
    shutil.copytree(world.project / "host_setup/kernel/series/protected-memory", tmp_path / FAULTY)
    shutil.copytree(world.project / "host_setup/kernel/series/stock", tmp_path / PLAIN)
    return world


def test_each_night_leaves_series_contract_and_tests_that_fit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.nights.world.debian_archive.tarball", lambda *_: Path("/newer.tar.xz"))
    ours = len(series.load("protected-memory").patches)
    for number in NIGHTS:
        world.seed(number)
        assert len(series.load(str(world.folder / FAULTY)).patches) == ours + 3 * (5 <= number < 9)
        assert len(series.load(str(world.folder / PLAIN)).patches) == (number == 17)
        assert (str((world.folder / "linux").readlink()) == "/newer.tar.xz") is (number >= 10)
        contract = load_contract(world.project / "tests_e2e/contract")
        tests = {name for name in claim_tests(world.project) if "as_seeded" in name}
        assert len(tests) == 4
        assert all(contract.find(name) for name in tests)


def test_the_fault_is_named_by_the_claims_that_are_tried(tmp_path: Path) -> None:
    text = (PROJECT / f"host_setup/kernel/faults/protected-memory/{FAULT}.patch").read_text()
    for name in NAMED:
        assert f"Claim: {name}" in text
        assert name in claim_tests(PROJECT)
        assert name in ONLY
    (tmp_path / "matrix.toml").write_text(MATRIX.format(folder=tmp_path, only=ONLY))
    assert [judges.cell_of(cell_review.name) for cell_review in load(tmp_path / "matrix.toml").cells] == [FAULTY, PLAIN]


def test_a_folder_with_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(SetupError, match="not empty"):
        World(tmp_path).make()


def test_what_was_seeded_is_told_for_all_commands() -> None:
    assert comparison_of(4, FAULTY) == {"flaky": {SHAKES}}  # with these inputs it ended in two ways in night 3
    assert comparison_of(5, FAULTY) == {"regressed": {*NAMED}}
    assert comparison_of(9, FAULTY) == {"fixed": {*NAMED}, "flaky": {SHAKES}}
    assert comparison_of(20, PLAIN) == {"flaky": {READS}}
    for cell in (FAULTY, PLAIN):
        assert statuses(SHAKES, cell).count("FAIL/PASS") == sum(
            claim_name == (cell, SHAKES) for claim_name in CHANCE.values()
        )
    assert statuses(READS, PLAIN).count("FAIL") == 7  # 10 to 19 without 12, 15 and 17
    assert len(statuses(SLEEPS, FAULTY)) == 16


@dataclass
class FakeWorld:
    """Nights that come to the end that they are told."""

    folder: Path
    history: Path
    said: dict[str, tuple[int, str]] = field(default_factory=dict)

    def ask(self, *words: str) -> tuple[int, str]:
        if words[0] == "trend":
            with History(self.history) as history:
                Path(words[1]).write_text(to_html(history, Path(words[1])))
            return 0, ""
        return self.said.get(words[0], (0, ": no regressions, 2 of 2 cells tried"))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeWorld, Nights]]:
    """The second night of a world whose first one went well."""
    monkeypatch.setattr(judges, "cell_of", lambda name: {"series=one": FAULTY, "series=two": PLAIN}[name])
    with History(tmp_path / "history.sqlite") as history:
        nights = Nights(tmp_path, matrix("one", "two"), history)
        nights.night()
        nights.next_day()
        yield FakeWorld(tmp_path, tmp_path / "history.sqlite"), nights


def judge_with(world: FakeWorld, status: int = 0) -> list[str]:
    judge = Judge(world)
    return [fault.partition(":")[0] for fault in judge.night(2, status)]


def test_a_night_that_is_as_it_was_seeded_has_no_fault(fake: tuple[FakeWorld, Nights]) -> None:
    world, nights = fake
    nights.night()
    assert judge_with(world) == []


@pytest.mark.parametrize(
    ("result", "faults"),
    [
        (Found(statuses={("series=one", "guest_works"): (FAIL,)}), ["changes", "trend page"]),
        (Found(statuses={("series=two", "guest_works"): (FAIL, PASS)}), ["changes", "trend page"]),
        (Found(seconds={("series=two", "guest_works"): 40.0}), ["changes"]),
        (Found(breaks={"series=one": "no host"}), ["trend page", "faulty"]),
    ],
)
def test_each_change_that_was_not_seeded_is_a_fault(
    fake: tuple[FakeWorld, Nights], result: Found, faults: list[str]
) -> None:
    world, nights = fake
    nights.night(result)
    assert judge_with(world) == faults


def test_each_command_that_says_something_else_is_a_fault(fake: tuple[FakeWorld, Nights]) -> None:
    world, nights = fake
    nights.night()
    assert judge_with(world, 1) == ["exit status 1, not 0"]
    world.said = {"compare": (1, "regressed       guest_works\n"), "summary": (1, "1 regression")}
    faults = judge_with(world)
    assert faults == ["history summary", "history summary", "history compare", "history compare"]


def test_what_the_commands_print_is_read() -> None:
    assert compare_lines("regressed       guest_a\nflaky  guest_b\nstill not PASS  guest_c\n") == {
        "regressed": {"guest_a"}, "flaky": {"guest_b"},
    }  # fmt: skip
    lines = """guest_a
Guest does.

series=/x/faulty mode=protected
  2026-11-01 01:00  20261101T010000Z-000001  PASS       1.0 s
  2026-11-02 01:00  20261102T010000Z-000002  not tried
  2026-11-03 01:00  20261103T010000Z-000003  FAIL/PASS            flaky  why
      the inputs do not differ from the run before
"""
    assert claim_lines(lines) == {FAULTY: ["PASS", "FAIL/PASS"]}
    page = (
        '<tr><th scope="row"><a href="#track-1">series=/x/plain</a></th>'
        '<td><span title="2026-11-01 01:00: could not be tried: no space">!</span></td></tr>'
    )
    assert squares(page, "20261101T010000Z-000001") == {PLAIN: "could not be tried"}
