# SPDX-License-Identifier: GPL-2.0-or-later
"""Nights: what is run, in which order, how often, and what comes of it, wherever a night is killed."""

from __future__ import annotations

import errno
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import NoSpaceError, SealproofError, SetupError, UserInputError
from common.paths import PROJECT
from common.processes import spawn
from common.waiting import Deadline, poll_until
from history import summary
from history.__main__ import main
from history.causes import BisectAnswer, heads, read_answer, search
from history.compare import Change
from history.database import History
from history.matrix import Cell, ExitOn, Matrix, load, options
from history.review import CellReview, NightExit, Review, review
from history.sources import update
from host_setup.claim_runs import run_pytest
from signoff.verdict import Status
from tests.unit.night_samples import HEALTH, Killed, Nights, World, matrix, twenty

PASS, FAIL = Status.PASS, Status.FAIL
ONE, TWO = "series=one", "series=two"
NOT_BEGUN = "no time is left"


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    with History(tmp_path / "history.sqlite") as history:
        yield Nights(tmp_path, matrix("one", "two"), history)


def cell(night_review: Review, name: str = ONE) -> CellReview:
    return next(cell_review for cell_review in night_review.cells if cell_review.cell == name)


def changes(night_review: Review, *kinds: Change) -> dict[str, set[str]]:
    """What became of which claims, by change; ``broke`` for cells that came to none."""
    lines_of: dict[str, set[str]] = {}
    for cell_review in night_review.cells:
        if cell_review.broke:
            lines_of.setdefault("broke", set()).add(cell_review.cell)
        for line in cell_review.comparison.lines if cell_review.comparison else ():
            if line.change in (kinds or set(Change) - {Change.UNCHANGED, Change.NOT_TRIED}):
                lines_of.setdefault(line.change, set()).add(f"{cell_review.cell} {line.claim}")
    return lines_of


# --- one night --------------------------------------------------------------------------------------------------------


def test_a_night_tries_every_cell_once_if_all_is_well(nights: Nights) -> None:
    night_review = nights.night()
    assert nights.ran == [(ONE,), (TWO,)]
    assert night_review.exit() is NightExit.WELL
    assert night_review.night.ended
    assert cell(night_review).sitting.first.place.night == night_review.night.id


def test_a_claim_that_fails_is_run_again_alone_before_it_counts(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    nights.ran.clear()
    night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL], (TWO, "guest_boots"): [FAIL, PASS]}))
    assert nights.ran == [(ONE,), (ONE, "guest_works", HEALTH), (TWO,), (TWO, "guest_boots", HEALTH)]
    assert changes(night_review) == {Change.REGRESSED: {f"{ONE} guest_works"}, Change.FLAKY: {f"{TWO} guest_boots"}}
    assert night_review.exit() is NightExit.WORSE
    assert cell(night_review).was_confirmed


def test_a_flaky_claim_is_named_and_counted_and_is_a_failure_only_if_asked(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL, PASS]}))
    assert (night_review.regressions, night_review.flaky) == (0, 1)
    assert [night_review.exit(on) for on in ExitOn] == [NightExit.WELL, NightExit.WORSE, NightExit.WORSE]
    assert cell(night_review).failing == ["guest_works"]
    output = summary.text(night_review)
    assert "no regressions, 1 flaky" in output
    assert "flaky  guest_works\n    PASS -> FAIL/PASS: it is FAIL: expected 4, got 5" in output


def test_what_failed_before_is_not_run_again_and_is_said(nights: Nights) -> None:
    bad = World(statuses={(ONE, "guest_works"): [FAIL]})
    first = nights.night(bad)
    assert first.exit() is NightExit.WELL  # there is nothing that it could be worse than
    assert first.exit(ExitOn.FAILURES) is NightExit.WORSE
    assert nights.ran[:2] == [(ONE,), (ONE, "guest_works", HEALTH)]
    assert "not PASS  guest_works" in summary.text(first)
    nights.next_day()
    nights.ran.clear()
    night_review = nights.night(bad)
    assert nights.ran == [(ONE,), (TWO,)]
    assert night_review.exit() is NightExit.WELL
    assert "still not PASS  guest_works" in summary.text(night_review)


def test_where_the_health_of_a_machine_fails_all_is_run_again(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    nights.ran.clear()
    night_review = nights.night(World(statuses={(ONE, HEALTH): [FAIL], (ONE, "guest_works"): [FAIL, PASS]}))
    assert nights.ran[:2] == [(ONE,), (ONE,)]
    assert changes(night_review) == {Change.REGRESSED: {f"{ONE} {HEALTH}"}, Change.FLAKY: {f"{ONE} guest_works"}}


def test_a_claim_that_no_test_is_known_of_has_its_cell_run_again(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    nights.ran.clear()
    for file in nights.project.glob("tests_e2e/*/test_guest_works.py"):
        file.unlink()
    nights.night(World(statuses={(ONE, "guest_works"): [FAIL]}))
    assert nights.ran[:2] == [(ONE,), (ONE,)]


def test_how_often_is_the_users_choice(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    nights.ran.clear()
    nights.plan = replace(nights.plan, again=3)
    night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL, FAIL, FAIL, PASS]}))
    assert len(nights.ran) == 5
    assert changes(night_review) == {Change.FLAKY: {f"{ONE} guest_works"}}
    nights.next_day()
    nights.ran.clear()
    nights.plan = replace(nights.plan, again=0)
    assert nights.night(World(statuses={(ONE, "guest_works"): [FAIL, PASS]})).regressions == 1
    assert nights.ran == [(ONE,), (TWO,)]


def test_a_second_run_of_other_inputs_excuses_nothing(nights: Nights) -> None:
    nights.night()
    nights.next_day()

    def somebody_changes_the_kernel() -> None:
        nights.world = replace(nights.world, kernel="6.12.118")

    nights.before_end = somebody_changes_the_kernel
    night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL, PASS]}))
    assert changes(night_review)[Change.REGRESSED] == {f"{ONE} guest_works"}


def test_a_host_that_comes_up_no_more_is_a_regression_and_a_set_up_that_fails_is_not_tried(nights: Nights) -> None:
    assert nights.night(World(breaks={ONE: "no boot"})).exit() is NightExit.NOT_TRIED  # nobody knows that it ever did
    nights.next_day()
    assert nights.night(World()).exit() is NightExit.WELL
    nights.next_day()
    nights.ran.clear()
    night_review = nights.night(World(breaks={ONE: "no boot"}))
    assert nights.ran == [(ONE,), (ONE,), (TWO,)]
    assert (night_review.exit(), night_review.regressions, cell(night_review).broke) == (NightExit.WORSE, 1, True)
    assert "the kernel panicked" in summary.text(night_review)
    nights.next_day()
    night_review = nights.night(World(breaks={ONE: "no host"}))
    assert (night_review.exit(), night_review.regressions, cell(night_review).is_broken) == (
        NightExit.NOT_TRIED,
        0,
        True,
    )
    assert "no space left for /var/cache" in summary.text(night_review)
    nights.next_day()
    assert nights.night(World()).exit() is NightExit.WELL
    nights.next_day()
    night_review = nights.night(World(breaks={ONE: "no host", TWO: "no report"}))
    assert night_review.exit() is NightExit.NOT_TRIED
    assert "sealproof: PYTHONPATH is set" in summary.text(night_review)


# --- the first bad patch ----------------------------------------------------------------------------------------------

TWO_PATCHES = (("0001-a.patch", "a"), ("0002-b.patch", "b"))
BOTH_FAIL = {(ONE, "guest_works"): [FAIL], (ONE, "guest_boots"): [FAIL]}


def test_of_what_regressed_with_the_patches_the_first_bad_one_is_searched_for_as_often_as_wanted(
    nights: Nights,
) -> None:
    nights.plan = replace(nights.plan, bisect=1)
    nights.night()
    nights.next_day()
    night_review = nights.night(World(statuses=BOTH_FAIL, patches=TWO_PATCHES))
    assert nights.searched == [("guest_works", "--series=one", "--trust-ends", "--good=1", "--bad=2")]
    output = summary.text(night_review, page=Path("/trend.html"))
    assert "    cause   2 of 2 patches: 0002-b.patch\n    seen    /answer.txt\n" in output
    assert "    bisect  ./sealproof bisect guest_boots --series=one --trust-ends --good=1 --bad=2\n" in output
    assert "  - first bad: 2 of 2 patches: 0002-b.patch\n" in summary.markdown(night_review)
    assert [cause.claim for cause in cell(night_review).causes] == ["guest_works", "guest_boots"]
    nights.next_day()
    nights.night()
    assert len(nights.searched) == 1, "what has failed before was searched for"


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(statuses={(ONE, "guest_works"): [FAIL]}), "the patches are the same"),
        (World(statuses={(ONE, "guest_works"): [FAIL]}, patches=()), "there is no patch more than before"),
        (World(statuses={(ONE, "guest_works"): [Status.ERROR]}, patches=TWO_PATCHES), "bisect looks for a FAIL"),
        (World(statuses={(ONE, "guest_works"): [FAIL, PASS]}, patches=TWO_PATCHES), "it is flaky"),
    ],
    ids=lambda parameter: parameter if isinstance(parameter, str) else "",
)
def test_nothing_is_searched_for_where_nothing_can_be_found(nights: Nights, world: World, why: str) -> None:
    nights.plan = replace(nights.plan, bisect=9)
    nights.night()
    nights.next_day()
    assert cell(nights.night(world)).causes == (), why
    assert nights.searched == []


def test_a_night_that_is_killed_in_a_search_searches_again(nights: Nights) -> None:
    nights.plan = replace(nights.plan, bisect=9)
    nights.night()
    nights.next_day()

    def be_killed() -> BisectAnswer:
        raise Killed

    nights.search, answers = be_killed, nights.search
    with pytest.raises(Killed):
        nights.night(World(statuses={(ONE, "guest_works"): [FAIL]}, patches=TWO_PATCHES))
    nights.search = answers
    assert [cause.told for cause in cell(nights.night()).causes] == ["2 of 2 patches: 0002-b.patch"]
    assert len(nights.searched) == 2


def test_no_search_is_begun_when_the_time_is_up_and_the_command_is_told(nights: Nights) -> None:
    nights.plan = matrix("one", minutes=22.5, bisect=9)
    nights.night()
    nights.next_day()
    night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL]}, patches=TWO_PATCHES))
    assert nights.searched == []
    assert "./sealproof bisect guest_works --series=one --trust-ends --good=1 --bad=2" in summary.text(night_review)


def test_commits_of_a_tree_that_a_cell_names_are_the_range(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    tree.mkdir()
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@b.example"]

    def commit() -> str:
        (tree / "Makefile").write_text(f"{(tree / 'Makefile').stat().st_size + 1 if first else 0}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", "a"], check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    first = ""
    subprocess.run([*git, "init", "-q"], check=True)
    first = commit()
    words = ("--series=one", f"--kernel={tree}")
    with History(tmp_path / "h") as history:
        nights = Nights(tmp_path, Matrix((Cell("one", words),), 300.0, bisect=1), history)
        nights.night()
        nights.next_day()
        (tree / "Makefile").write_text("changed\n")
        assert heads([words]) == {}, "what has local changes is no commit"
        second = commit()
        night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL]}, kernel="6.12.118"))
    assert nights.searched == [("guest_works", *words, "--trust-ends", f"--good={first}", f"--bad={second}")]
    assert cell(night_review, "one").causes[0].told == "2 of 2 patches: 0002-b.patch"


def test_a_search_is_the_command_that_users_have_and_what_it_says_is_told(tmp_path: Path) -> None:
    assert search(["no_such_claim"], tmp_path, 60.0) == BisectAnswer("not found: there is no claim no_such_claim")
    for names, sentence in ((["a"], "a"), (["a", "b"], "one of 2: a, b")):
        (tmp_path / "answer.json").write_text(json.dumps({"suspects": dict(enumerate(names))}))
        assert read_answer(tmp_path, tmp_path / "bisect.log") == BisectAnswer(sentence, str(tmp_path / "answer.txt"))
    assert search(["no_such_claim"], tmp_path, 0.0) == BisectAnswer("not found within the night's time")


def test_a_night_that_is_interrupted_ends_its_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def start(_: Sequence[str], **more: Any) -> Any:
        begun.append(spawn([sys.executable, "-c", "import time; time.sleep(600)"], **more))
        return begun[0]

    def interrupt(done: Callable[[], bool], deadline: Deadline, purpose: str, **more: Any) -> None:
        if purpose == "the first bad one":
            raise KeyboardInterrupt
        poll_until(done, deadline, purpose, **more)

    monkeypatch.setattr("history.causes.spawn", start)
    monkeypatch.setattr("history.causes.poll_until", interrupt)
    with pytest.raises(KeyboardInterrupt):
        search(["guest_works"], tmp_path, 60.0)
    assert begun[0].returncode == -signal.SIGTERM


# --- order and time ---------------------------------------------------------------------------------------------------


def test_what_failed_last_comes_first_then_what_was_not_run_for_longest(tmp_path: Path) -> None:
    with History(tmp_path / "h") as history:
        nights = Nights(tmp_path, matrix("a", "b", "c", minutes=40.5), history)
        nights.night()  # a and b; nothing is left for c
        assert nights.ran == [("series=a",), ("series=b",)]
        nights.next_day()
        nights.ran.clear()
        nights.plan = replace(nights.plan, minutes=45.0)
        night_review = nights.night(World(statuses={("series=a", "guest_works"): [FAIL]}))
        assert nights.ran == [("series=c",), ("series=a",), ("series=a", "guest_works", HEALTH)]
        assert night_review.not_begun == ("series=b",)
        nights.next_day()
        nights.ran.clear()
        nights.night(World(statuses={("series=a", "guest_works"): [FAIL]}))
        assert [ran[0] for ran in nights.ran] == ["series=a", "series=b"]


def test_a_cell_is_ended_when_the_time_is_up_and_that_is_no_regression(tmp_path: Path) -> None:
    with History(tmp_path / "h") as history:
        nights = Nights(tmp_path, matrix("one", "two"), history)
        nights.night()
        nights.next_day()
        nights.plan = matrix("one", "two", "long", minutes=50.0)
        nights.ran.clear()
        night_review = nights.night(World(breaks={}))
        assert nights.ran == [("series=long",), (ONE,)]  # the new one first
        assert night_review.not_begun == (TWO,)
        assert night_review.exit() is NightExit.WELL
        nights.next_day()
        nights.plan = matrix("other", minutes=10.0)
        night_review = nights.night()
        assert [attempt.late for attempt in cell(night_review, "series=other").attempts] == [True]
        assert (night_review.regressions, night_review.exit()) == (0, NightExit.NOT_TRIED)
        assert "ended early: no claim counts" in summary.text(night_review)
        # It was not finished, and yet is not begun first for ever.
        assert not nights.failed_last("series=other")


def test_a_leak_found_before_the_time_was_up_counts(tmp_path: Path) -> None:
    with History(tmp_path / "h") as history:
        nights = Nights(tmp_path, matrix("one"), history)
        nights.night()
        nights.next_day()
        nights.plan = matrix("one", minutes=21.0)
        nights.clock = nights.clock.replace(second=0)
        nights.night()
        nights.next_day()
        nights.plan = matrix("one", minutes=20.5)
        night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL]}))
        assert changes(night_review)[Change.REGRESSED] == {f"{ONE} guest_works"}
        assert not cell(night_review).was_confirmed
        assert "but     it was not run again, for lack of time" in summary.text(night_review)


def test_only_one_night_is_at_work(nights: Nights) -> None:
    lines: list[str] = []

    def another() -> None:
        with pytest.raises(SetupError, match="another night is at work"):
            nights.night()
        lines.append("it was refused")

    nights.before_end = another
    nights.night()
    assert lines == ["it was refused"] * 2


# --- a kill in any place ----------------------------------------------------------------------------------------------


def comparable(night_review: Review) -> Any:
    """A night, without what differs from one time to the next."""
    return (
        [
            (
                cell_review.cell,
                {name: result.statuses for name, result in cell_review.sitting.results.items()}
                if cell_review.sitting
                else cell_review.why,
            )
            for cell_review in night_review.cells
        ],
        changes(night_review),
        night_review.exit(),
    )


BAD_NIGHT = World(
    statuses={(ONE, "guest_works"): [FAIL], (TWO, "guest_boots"): [FAIL, PASS], (TWO, "guest_works"): [FAIL]}
)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_night_that_is_killed_in_any_place_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    expected = None
    for place in range(100):
        with History(tmp_path / f"{place}.sqlite") as history:
            nights = Nights(tmp_path / str(place), matrix("one", "two"), history)
            nights.night()
            nights.next_day()
            with monkeypatch.context() as patch:
                reached = kill_at(patch, place, after=when == "after")
                try:
                    night_review = nights.night(BAD_NIGHT)
                except Killed:
                    patch.undo()
                    last = history.nights()[-1]
                    night_review = (
                        review(history, last) if last.ended and len(history.nights()) == 2 else nights.night()
                    )
            assert len(history.nights()) == 2
            expected = expected or comparable(night_review)
            # What was tried before the kill may have been tried once more: the second time is its first then.
            assert comparable(night_review)[1:] == expected[1:] or _is_shifted(night_review)
            if not reached():
                assert place > 8
                return
    pytest.fail("there is no end to the places")


def _is_shifted(night_review: Review) -> bool:
    """Whether all is as it was seeded, with claims whose first result was lost with the kill."""
    return night_review.regressions == 2 and changes(night_review)[Change.REGRESSED] == {
        f"{ONE} guest_works",
        f"{TWO} guest_works",
    }


def kill_at(patch: pytest.MonkeyPatch, place: int, *, after: bool) -> Callable[[], bool]:
    """Have the night killed at the n-th time that it keeps something, before or after that."""
    count = 0

    def killing(real: Callable[..., None]) -> Callable[..., None]:
        def keep(self: History, *values: Any) -> None:
            nonlocal count
            count += 1
            if count == place + 1 and not after:
                raise Killed
            real(self, *values)
            if count == place + 1:
                raise Killed

        return keep

    patch.setattr(History, "put_night", killing(History.put_night))
    patch.setattr(History, "put_attempt", killing(History.put_attempt))
    return lambda: count > place


def test_a_run_that_came_to_its_end_before_the_kill_is_read_and_not_made_again(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, 2, after=False)  # the night, the attempt, and now what came of it
        with pytest.raises(Killed):
            nights.night()
    assert nights.ran == [(ONE,)]
    night_review = nights.night()
    assert nights.ran == [(ONE,), (TWO,)]
    assert night_review.exit() is NightExit.WELL
    assert "was not finished: it goes on" in " ".join(nights.said)


def test_a_run_that_was_killed_with_the_night_is_made_anew_and_that_is_said(nights: Nights) -> None:
    with pytest.raises(Killed):
        nights.night(World(breaks={ONE: "killed"}))
    night_review = nights.night(World())
    assert nights.ran == [(ONE,), (ONE,), (TWO,)]
    assert cell(night_review).attempts[0].why == "the night was killed meanwhile, and it was run anew"
    assert len(list((nights.folder / "nights" / night_review.night.id / "01-1").iterdir())) == 2


def test_a_night_whose_time_is_over_is_left_as_it_is(nights: Nights) -> None:
    with pytest.raises(Killed):
        nights.night(World(breaks={TWO: "killed"}))
    nights.next_day()
    night_review = nights.night(World())
    first, second = nights.history.nights()
    assert first.ended is None
    assert second.id == night_review.night.id
    assert cell(review(nights.history, first), TWO).sitting is None
    assert "not finished" in summary.headline(review(nights.history, first))
    # What was tried in it counts: the cell that was killed has no past, and the other one has.
    assert cell(night_review, TWO).comparison is None
    assert cell(night_review).comparison is not None
    # The cell that was killed came first.
    assert night_review.night.cells == (TWO, ONE)


def test_a_new_night_can_be_asked_for_and_another_matrix_is_another_night(nights: Nights) -> None:
    for fresh, plan in ((True, nights.plan), (False, matrix("one"))):
        with pytest.raises(Killed):
            nights.night(World(breaks={ONE: "killed"}))
        nights.plan = plan
        before = len(nights.history.nights())
        nights.night(World(), fresh=fresh)
        assert len(nights.history.nights()) == before + 1


PROGRAM = """
import os, signal, sys
from pathlib import Path
from history.database import History
from tests.unit.night_samples import Nights, matrix
place, folder = int(sys.argv[1]), Path(sys.argv[2])
real = History.put_attempt
left = [place]
def kept(*values):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*values)
History.put_attempt = kept
with History(folder / "h") as history:
    nights = Nights(folder, matrix("one", "two"), history)
    nights._runs = os.getpid()
    print(int(nights.night().exit()))
"""


def test_a_real_kill_leaves_no_lock_and_the_night_goes_on(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PROGRAM]
    for place in (2, 1):
        dead = subprocess.run([*argv, str(place), str(tmp_path)], cwd=PROJECT, capture_output=True, check=False)
        assert dead.returncode == -9, dead.stderr
    done = subprocess.run([*argv, "0", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr
    with History(tmp_path / "h") as history:
        assert len(history.nights()) == 1
        assert len(history.runs()) == 2


# --- the matrix -------------------------------------------------------------------------------------------------------


def write_matrix(folder: Path, text: str) -> Path:
    (folder / "m.toml").write_text(text)
    return folder / "m.toml"


GOOD = """
minutes = 240
again = 2
exit_on = "flaky"
[options]
jobs = 2
[[cells]]
series = ["stock", "protected-memory"]
layers = ["none", "debug,numa"]
mode = "plain"
[[cells]]
selftests = [true, false]
kernel = "6.12"
mark = "quick"
"""


def test_a_matrix_is_all_combinations_of_what_its_tables_name(tmp_path: Path) -> None:
    result = load(write_matrix(tmp_path, GOOD))
    assert (result.minutes, result.again, result.exit_on, result.shared) == (240, 2, ExitOn.FLAKY, ("--jobs=2",))
    assert [cell_review.name for cell_review in result.cells] == [
        "series=stock layers=none mode=plain",
        "series=stock layers=debug,numa mode=plain",
        "series=protected-memory layers=none mode=plain",
        "series=protected-memory layers=debug,numa mode=plain",
        "selftests=true kernel=6.12 mark=quick",
        "selftests=false kernel=6.12 mark=quick",
    ]
    assert result.cells[1].words == ("--series=stock", "--layers=debug,numa", "--mode=plain")
    assert result.cells[4].words == ("--selftests", "--kernel=6.12")
    assert (result.cells[5].words, result.cells[5].selection) == (("--kernel=6.12",), ("-m", "quick"))


def test_the_options_are_those_that_pytest_has() -> None:
    output = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in options():
        assert f"  --{name}" in output or f", --{name}" in output, name
    assert {"series", "kernel", "layers", "mode", "host", "compiler", "selftests"} <= options().keys()
    assert not {"reports", "dry-run", "keep-on-failure"} & options().keys()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('mode = "plain"', "nested_pagings = [true]", "the sign-off has no option --nested-pagings; there are:"),
        ("again = 2", 'pull = ["/"]', "pull: / is not a git tree"),
        ('mode = "plain"', 'mode = "protect"', "cells, table 1: mode is one of plain, protected"),
        ('"debug,numa"', '"debug,nuna"', "cells, table 1: layers: no layer 'nuna'"),
        ('kernel = "6.12"', "kernel = 6.10", "write the value as text, in quotes"),
        ('kernel = "6.12"', "kernel = []", "cells, table 2: kernel has no value"),
        ('kernel = "6.12"', 'kernel = ""', "cells, table 2: kernel needs a value"),
        ('kernel = "6.12"', "kernel = true", "cells, table 2: kernel needs a value"),
        ("[true, false]", "1", "cells, table 2: selftests is true or false"),
        ("[true, false]", "[true, true]", "the cell selftests=true kernel=6.12 mark=quick stands there twice"),
        ("jobs = 2", 'series = "stock"', "options: series is none of cache-folder"),
        ("jobs = 2", "jobs = 0", "options: jobs"),
        ('mark = "quick"', "jobs = 2", "cells, table 2: jobs changes no result"),
        ('mark = "quick"', 'reports = "x"', "cells, table 2: the sign-off has no option --reports"),
        ('mark = "quick"', 'mark = ""', "cells, table 2: mark needs a value"),
        ('mark = "quick"', "mark = true", "cells, table 2: mark needs a value"),
        ('mark = "quick"', 'only = "gup pup"', "cells, table 2: only: gup pup is no expression:"),
        ('mark = "quick"', 'series = "stok"', "cells, table 2: series: there is no series 'stok'"),
        ('kernel = "6.12"', "kernel = { a = 1 }", "cells.2.kernel: Input should be a valid"),
        ("minutes = 240", "minutes = 0", "minutes: Input should be greater than 0"),
        ("minutes = 240", "", "minutes: Field required"),
        ("again = 2", "often = 2", "often: Extra inputs are not permitted"),
        ("again = 2", "again =", "is not TOML: Invalid value"),
        ("again = 2", f"again = {'[' * 5000}", "is not TOML"),
        ("again = 2", "again = 1.5", "again: Input should be a valid integer"),
        ("again = 2", "bisect = true", "bisect: Input should be a valid integer"),
        ("minutes = 240", "minutes = nan", "minutes: Input should be less than or equal to 10080"),
        ("minutes = 240", 'minutes = "240"', "minutes: Input should be a valid number"),
        ('kernel = "6.12"', 'kernel = "6.12"\nkernel_source = "7.3"', "kernel and kernel-source are one option"),
        ('"flaky"', '"all"', "exit_on:"),
        ('mode = "plain"', f'kernel = {[str(number) for number in range(200)]}', "cells; at most 500"),
        ('mode = "plain"', f'kernel = "{"x" * 600}"', "File name too long"),
        ('mark = "quick"', f'only = "{"x" * 600}"', "more than 500 characters"),
    ],
)  # fmt: skip
def test_a_matrix_that_is_not_right_is_refused_in_one_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(UserInputError) as error:
        load(write_matrix(tmp_path, GOOD.replace(old, new, 1)))
    assert words in error.value.message
    assert "\n" not in error.value.message
    assert "--dry-run" in error.value.hint


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_matrix_of_a_windows_editor_is_read_or_told_how_to_write(tmp_path: Path, encoding: str) -> None:
    file = write_matrix(tmp_path, GOOD)
    cells = load(file).cells
    file.write_text(GOOD, encoding=encoding)
    if encoding == "utf-8-sig":
        assert load(file).cells == cells
    else:
        with pytest.raises(UserInputError, match="is not TOML"):
            load(file)


# --- git trees --------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    argv = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def test_a_new_night_pulls_what_it_may_and_says_what_it_could_not(nights: Nights, tmp_path: Path) -> None:
    origin, good, odd = (tmp_path / name for name in ("origin", "good", "odd"))
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    git(origin, "commit", "-q", "--allow-empty", "-m", "one")
    for clone in (good, odd):
        git(tmp_path, "clone", "-q", str(origin), str(clone))
    git(odd, "commit", "-q", "--allow-empty", "-m", "the user's own")
    git(origin, "commit", "-q", "--allow-empty", "-m", "two")
    before = git(odd, "rev-parse", "HEAD")
    nights.plan = replace(nights.plan, pull=(good, odd))
    with pytest.raises(Killed):
        nights.night(World(breaks={TWO: "killed"}))
    assert git(good, "rev-parse", "HEAD") == git(origin, "rev-parse", "HEAD")
    assert git(odd, "rev-parse", "HEAD") == before
    git(origin, "commit", "-q", "--allow-empty", "-m", "three")
    night_review = nights.night(World())  # it goes on, with the sources that it began with
    assert git(good, "rev-parse", "HEAD") != git(origin, "rev-parse", "HEAD")
    assert len(night_review.night.problems) == 1
    assert f"{odd} was not updated: " in summary.text(night_review)
    assert "odd was not updated" in summary.markdown(night_review)


def test_a_pull_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert list(update([tmp_path], tmp_path / "logs", 0.5)) == [
        f"{tmp_path} was not updated: git pull took longer than 0 s"
    ]


def test_pulls_leave_half_of_the_night_to_its_cells(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("history.nightly.update", lambda _trees, _folder, patience: waits.append(patience) or [])
    nights.plan = replace(nights.plan, pull=(tmp_path, tmp_path), minutes=8.0)
    nights.night()
    nights.plan = replace(nights.plan, pull=(tmp_path,), minutes=600.0)
    nights.night(fresh=True)
    assert waits == [120.0, 900.0]


def test_a_cell_whose_reports_find_no_space_is_not_tried_and_the_night_goes_on(nights: Nights) -> None:
    nights.night()
    nights.next_day()

    run, cells = nights._run, []

    def full(words: Sequence[str], reports: Path, log: Path, limit: float) -> str:
        cells.append(words)
        if len(cells) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return run(words, reports, log, limit)

    nights._run = full  # type: ignore[method-assign]
    nights.plan = replace(nights.plan, again=0)
    night_review = nights.night()
    cell_review, two = night_review.cells
    assert cell_review.why.startswith(f"no space left for {nights.folder}/nights/{night_review.night.id}/01-1: ")
    assert cell_review.is_broken
    assert two.sitting is not None
    assert night_review.exit() is NightExit.NOT_TRIED


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command, with a stand-in for pytest and its hosts."""
    numbers = itertools.count(1)
    monkeypatch.setattr("history.nightly.secrets.token_hex", lambda _: f"{next(numbers):06x}")  # all in one second
    history = History(tmp_path / "fake.sqlite")
    fake = Nights(tmp_path / "fake", matrix("stock"), history)
    monkeypatch.setattr("history.__main__._run_by_the_clock", fake._run)
    file = write_matrix(tmp_path, 'minutes = 60\n[[cells]]\nseries = ["stock", "protected-memory"]\n')

    def run(*words: str, world: World | None = None) -> int:
        fake.world = world or World()
        fake._tried = {}
        where = ("--history", str(tmp_path / "h"), "--reports", str(tmp_path / "reports"))
        return main(["nightly", str(file), *where, *words])

    return run


def test_the_command_runs_a_night_and_leaves_what_ci_shows(
    sealed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sealed("--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "series=stock: never run to its end",
        "series=protected-memory: never run to its end",
    ]
    assert sealed() == 0
    assert sealed(world=World(statuses={("series=stock", "guest_works"): [FAIL]})) == 1
    assert sealed("--exit-on", "failures", world=World(statuses={("series=stock", "guest_works"): [FAIL]})) == 1
    output = capsys.readouterr().out
    assert "REGRESSED  guest_works" in output
    assert "repeat  pytest tests_e2e -k test_guest_works" in output
    mails = sorted(tmp_path.glob("reports/*/mail.txt"))
    assert len(mails) == 3
    assert "1 regression, 2 of 2 cells tried" in mails[1].read_text()
    page = (mails[1].parent / "summary.md").read_text()
    assert "| series=stock | NOT PROVEN, 1 run again | 1 |" in page
    assert "- **regressed** `guest_works`: PASS -\\> FAIL/FAIL" in page


def test_what_regressed_stays_the_answer_where_no_page_can_be_written(
    sealed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, _content: object) -> None:
        raise NoSpaceError(f"no space left for {path}: 0.0 GiB free")

    assert sealed() == 0
    monkeypatch.setattr("history.__main__._write_lines", full)
    assert sealed(world=World(statuses={("series=stock", "guest_works"): [FAIL]})) == 1
    assert sealed() == 2  # nothing regressed, and CI has no page
    output = capsys.readouterr().out
    assert "REGRESSED  guest_works" in output
    assert output.count("no space left for ") == 6


def test_a_strangers_words_do_nothing_in_a_summary(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    evil = "<script>alert(1)</script> [x](javascript:y) | @all `x` \x1b[2J\u202e ![i](http://x)"

    def poison() -> None:
        newest = max(nights.folder.glob("nights/*/*/*/signoff.json"))
        document = json.loads(newest.read_text())
        for row in document["claims"]:
            row["why"] = evil
        newest.write_text(json.dumps(document))

    nights.before_end = poison
    night_review = nights.night(World(statuses={(ONE, "guest_works"): [FAIL]}))
    page = summary.markdown(night_review)
    assert "<script" not in page.replace("\\<", "")
    assert "](" not in page.replace("\\]", "")
    assert "\x1b" not in page + summary.text(night_review)
    assert summary.text(night_review).replace("\n", "").isprintable()


def test_a_mail_stays_small_however_much_regressed(nights: Nights) -> None:
    names = [f"claim_{number}" for number in range(400)]
    nights.night(World(claims=names))
    nights.next_day()
    night_review = nights.night(World(claims=names, statuses={(ONE, name): [FAIL] for name in names}))
    assert night_review.regressions == 400
    assert "and 380 more" in summary.text(night_review)
    assert len(summary.text(night_review)) < 12_000
    assert len(summary.markdown(night_review)) < 12_000


def test_pytest_is_run_as_users_run_it_and_is_told_to_end_when_its_time_is_up(tmp_path: Path) -> None:
    test, begun, log = tmp_path / "test_slow.py", tmp_path / "begun", tmp_path / "logs/log"
    words = ["-c", str(PROJECT / "pyproject.toml"), "-p", "signoff.plugin", "-p", "host_setup.plugin", str(test)]
    test.write_text("def test_quick():\n    pass\n")
    assert run_pytest(words, tmp_path / "reports", log, Deadline(300)) == ""
    assert "1 passed" in log.read_text()

    class UntilBegun(Deadline):
        def seconds_left(self) -> float:
            return 0.0 if begun.exists() else super().seconds_left()

    test.write_text(
        f"import time, pathlib\ndef test_slow():\n    pathlib.Path({str(begun)!r}).touch()\n    time.sleep(600)\n"
    )
    assert run_pytest(words, tmp_path / "reports", log, UntilBegun(300)) == "the claims were not done within 300 s"
    assert "KeyboardInterrupt" in log.read_text()


def test_the_matrix_may_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SealproofError, match="No such file"):
        main(["nightly", str(tmp_path / "none.toml")])


# --- twenty nights ----------------------------------------------------------------------------------------------------


def test_twenty_nights_come_out_exactly_as_they_were_seeded(nights: Nights) -> None:
    seeded: dict[int, dict[str, set[str]]] = {
        3: {Change.FLAKY: {f"{ONE} guest_shakes"}},
        5: {Change.REGRESSED: {f"{ONE} guest_works"}},
        7: {Change.FLAKY: {f"{TWO} guest_shakes"}},
        9: {Change.FIXED: {f"{ONE} guest_works"}},
        10: {Change.REGRESSED: {f"{TWO} host_cannot_read"}, Change.FLAKY: {f"{ONE} guest_shakes"}},
        13: {Change.SLOWER: {f"{TWO} guest_boots"}},
        16: {Change.REGRESSED: {f"{ONE} {HEALTH}"}},
        17: {"broke": {TWO}, Change.FIXED: {f"{ONE} {HEALTH}"}},
        19: {
            Change.NEW: {f"{ONE} guest_comes", f"{TWO} guest_comes"},
            Change.GONE: {f"{ONE} guest_sleeps", f"{TWO} guest_sleeps"},
        },
        20: {Change.FIXED: {f"{TWO} host_cannot_read"}, Change.FLAKY: {f"{ONE} guest_works"}},
    }
    result = twenty(nights)
    assert sorted(result) == [number for number in range(1, 21) if number != 12]
    assert {number: changes(night_review) for number, night_review in result.items() if changes(night_review)} == seeded
    worse = {5, 10, 16, 17}
    assert {number: night_review.exit() for number, night_review in result.items()} == {
        number: NightExit.WORSE if number in worse else NightExit.NOT_TRIED if number == 15 else NightExit.WELL
        for number in result
    }
    # The kernel's update is what differs where it made a claim fail, and nothing differs where nothing was changed.
    update = {name for name, _, _ in cell(result[10], TWO).comparison.inputs}
    assert update == {"kernel", "kernel build ID", "kernel source", "kernel image"}
    assert [name for name, _, _ in cell(result[5]).comparison.inputs] == ["patches", "patch 0001-a.patch"]
    assert cell(result[16]).comparison.inputs == ()
    # The night that was killed has left what it had done, and what failed for ten nights was said in each.
    assert sum(night.ended is None for night in nights.history.nights()) == 1
    for number in (11, 13, 14, 18, 19):
        assert "still not PASS  host_cannot_read" in summary.text(result[number])
