# SPDX-License-Identifier: GPL-2.0-or-later
"""The search for the first bad step, over lines and merges, with votes that err and votes that prove nothing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_setup.bisect.search import FirstBad, History, Line, Search, StepVerdict, Vote, WrongEndError

Oracle = Callable[[str, int], Vote]
"""How the trial of a step with that number, from 0, ends."""


@dataclass
class Run:
    """A search that was done: the answer, and the steps in the order in which they were tried."""

    found: FirstBad
    tried: list[str]


def run(search: Search, oracle: Oracle) -> Run:
    votes: dict[str, list[Vote]] = defaultdict(list)
    tried: list[str] = []
    while not isinstance(result := search.next(votes), FirstBad):
        votes[result].append(oracle(result, len(votes[result])))
        tried.append(result)
        assert len(tried) < 10_000, "it does not end"
    return Run(result, tried)


def bad_from(first: int, *, skips: frozenset[int] = frozenset(), lies: dict[int, int] | None = None) -> Oracle:
    """Steps are bad from one on; :param lies: the number of the one trial of a step that errs."""

    def oracle(step: str, number: int) -> Vote:
        at = int(step)
        if at in skips:
            return Vote.NOT_BUILT
        wrong = (lies or {}).get(at) == number
        return Vote.BAD if (at >= first) != wrong else Vote.GOOD

    return oracle


# --- lines ------------------------------------------------------------------------------------------------------------


@given(st.data())
def test_the_first_bad_step_is_found_in_a_logarithm_of_the_steps(data: st.DataObject) -> None:
    last = data.draw(st.integers(1, 2000))
    first = data.draw(st.integers(1, last))
    done = run(Search(Line(), "0", str(last)), bad_from(first))
    assert done.found.suspects == (str(first),)
    assert done.found.good == (str(first - 1),)
    assert done.found.flaky == ()
    assert len(set(done.tried)) <= math.ceil(math.log2(last)) + 2


def test_a_range_may_begin_anywhere() -> None:
    done = run(Search(Line(), "5", "12"), bad_from(9))
    assert (done.found.bad, done.found.good) == ("9", ("8",))
    assert {int(step) for step in done.tried} <= set(range(5, 13))


@given(st.data())
def test_what_cannot_be_built_leaves_a_range_and_never_a_wrong_answer(data: st.DataObject) -> None:
    last = data.draw(st.integers(1, 60))
    first = data.draw(st.integers(1, last))
    skips = data.draw(st.frozensets(st.integers(1, last - 1))) if last > 1 else frozenset[int]()
    done = run(Search(Line(), "0", str(last)), bad_from(first, skips=skips))
    bad = min(at for at in range(first, last + 1) if at not in skips)
    good = max(at for at in range(first) if at not in skips)
    assert done.found.bad == str(bad)
    assert done.found.good == (str(good),)
    assert sorted(map(int, done.found.suspects)) == list(range(good + 1, bad + 1))


def test_what_does_not_build_is_tried_once_and_its_neighbours_not_one_by_one() -> None:
    skips = frozenset(range(300, 700))
    done = run(Search(Line(), "0", "1000"), bad_from(900, skips=skips))
    assert done.found.suspects == ("900",)
    broken = [step for step in done.tried if int(step) in skips]
    assert len(broken) == len(set(broken)) <= 8


@given(st.data())
def test_one_wrong_vote_a_step_does_not_change_the_answer(data: st.DataObject) -> None:
    last = data.draw(st.integers(1, 40))
    first = data.draw(st.integers(1, last))
    lies = data.draw(st.dictionaries(st.integers(0, last), st.integers(0, 2)))
    try:
        done = run(Search(Line(), "0", str(last)), bad_from(first, lies=lies))
    except WrongEndError as error:
        # The one vote that an end begins with may be the wrong one: it is said, and nothing is found instead.
        assert error.step == str(last)
        assert lies[last] == 0
        return
    assert (done.found.bad, done.found.good) == (str(first), (str(first - 1),))


def test_steps_on_which_the_votes_differ_are_named() -> None:
    done = run(Search(Line(), "0", "8"), bad_from(3, lies={4: 0}))
    assert (done.found.bad, done.found.flaky) == ("3", ("4",))


def test_a_vote_that_proves_nothing_is_cast_again_and_a_second_one_passes_the_step_over() -> None:
    def once(step: str, number: int) -> Vote:
        return Vote.NOT_PROVEN if step == "4" and number == 0 else bad_from(3)(step, number)

    assert run(Search(Line(), "0", "8"), once).found.suspects == ("3",)

    def always(step: str, number: int) -> Vote:
        return Vote.NOT_PROVEN if step == "3" else bad_from(3)(step, number)

    done = run(Search(Line(), "0", "8"), always)
    assert sorted(done.found.suspects) == ["3", "4"]
    assert done.tried.count("3") == 2


def test_a_step_that_never_makes_up_its_mind_is_passed_over() -> None:
    def coin(step: str, number: int) -> Vote:
        return (Vote.BAD, Vote.GOOD)[number % 2] if step == "4" else bad_from(6)(step, number)

    done = run(Search(Line(), "0", "8"), coin)
    assert (done.found.bad, done.found.good, done.found.flaky) == ("6", ("5",), ("4",))
    assert done.tried.count("4") == 7


def test_more_times_are_more_votes() -> None:
    done = run(Search(Line(), "0", "1", times=3), bad_from(1))
    assert sorted(done.tried) == ["0"] * 3 + ["1"] * 3


@pytest.mark.parametrize(
    ("first", "step", "words"),
    [
        (9, "8", "the bad end is good"),
        (0, "0", "the good end is bad"),
    ],
)
def test_a_wrong_end_is_told_in_one_line(first: int, step: str, words: str) -> None:
    with pytest.raises(WrongEndError) as raised:
        run(Search(Line(), "0", "8"), bad_from(first))
    assert raised.value.step == step
    assert raised.value.message == words
    assert raised.value.hint


@given(st.data())
def test_ends_that_are_trusted_are_tried_only_if_the_answer_rests_on_them(data: st.DataObject) -> None:
    last = data.draw(st.integers(1, 2000))
    first = data.draw(st.integers(1, last))
    done = run(Search(Line(), "0", str(last), trust_ends=True), bad_from(first))
    assert (done.found.suspects, done.found.good) == ((str(first),), (str(first - 1),))
    assert (str(last) in done.tried, "0" in done.tried) == (first == last, first == 1)
    assert len(set(done.tried)) <= math.ceil(math.log2(last)) + (first == last) + (first == 1)


@pytest.mark.parametrize(
    ("first", "skips", "words"),
    [
        (9, [], "the bad end is good"),
        (0, [], "the good end is bad"),
        (3, range(1, 9), "the bad end cannot be tried"),
        (1, [0], "the good end cannot be tried"),
    ],
)
def test_a_wrong_end_that_is_trusted_is_told_before_there_is_an_answer(
    first: int, skips: Sequence[int], words: str
) -> None:
    with pytest.raises(WrongEndError, match=words):
        run(Search(Line(), "0", "8", trust_ends=True), bad_from(first, skips=frozenset(skips)))


@pytest.mark.parametrize(
    ("step", "words"), [("8", "the bad end cannot be tried"), ("0", "the good end cannot be tried")]
)
def test_an_end_that_cannot_be_tried_is_told(step: str, words: str) -> None:
    with pytest.raises(WrongEndError, match=words):
        run(Search(Line(), "0", "8"), bad_from(3, skips=frozenset({int(step)})))


@given(st.data())
def test_a_search_that_was_ended_goes_on_where_it_was(data: st.DataObject) -> None:
    last = data.draw(st.integers(1, 60))
    first = data.draw(st.integers(1, last))
    skips = data.draw(st.frozensets(st.integers(1, last - 1))) if last > 1 else frozenset[int]()
    oracle = bad_from(first, skips=skips)
    whole = run(Search(Line(), "0", str(last)), oracle)
    votes: dict[str, list[Vote]] = defaultdict(list)
    for step in whole.tried:  # another process each time
        assert Search(Line(), "0", str(last)).next(votes) == step
        votes[step].append(oracle(step, len(votes[step])))
    assert Search(Line(), "0", str(last)).next(votes) == whole.found


# --- histories with merges --------------------------------------------------------------------------------------------


class Merges(History):
    """:param parents: of each step, all of them before it."""

    def __init__(self, parents: list[list[int]]) -> None:
        self._before: list[frozenset[int]] = []
        for at, its in enumerate(parents):
            self._before.append(frozenset({at}).union(*(self._before[parent] for parent in its)))

    def before(self, step: int) -> frozenset[int]:
        return self._before[step]

    def suspects(self, good: Sequence[str], bad: str) -> Sequence[str]:
        """As git rev-list --bisect-all orders them."""
        suspects = self._before[int(bad)].difference(*(self._before[int(step)] for step in good))
        weight = {at: len(self._before[at] & suspects) for at in suspects}
        ranked = sorted(suspects - {int(bad)}, key=lambda at: (-min(weight[at], len(suspects) - weight[at]), at))
        return [*map(str, ranked), bad]


@st.composite
def merges(draw: st.DrawFn) -> list[list[int]]:
    count = draw(st.integers(2, 30))
    return [[], *(sorted(draw(st.sets(st.integers(0, at - 1), min_size=1, max_size=2))) for at in range(1, count))]


@given(merges(), st.data())
def test_the_first_bad_commit_is_found_among_merges(parents: list[list[int]], data: st.DataObject) -> None:
    history, last = Merges(parents), len(parents) - 1
    culprit = data.draw(st.sampled_from(sorted(history.before(last) - {0})))
    done = run(
        Search(history, "0", str(last)),
        lambda step, _: Vote.BAD if culprit in history.before(int(step)) else Vote.GOOD,
    )
    assert done.found.suspects == (str(culprit),)
    # What it rests on was seen to be good twice, and leaves no other suspect.
    assert all(done.tried.count(step) == 2 for step in done.found.good)
    assert history.suspects(done.found.good, str(culprit)) == [str(culprit)]


def test_a_verdict_is_not_made_of_votes_that_were_never_cast() -> None:
    search = Search(Line(), "0", "8")
    assert search.verdict([]) is None
    assert search.verdict([Vote.BAD]) is None
    assert search.verdict([Vote.BAD, Vote.BAD]) is StepVerdict.BAD
    assert search.verdict([Vote.GOOD]) is StepVerdict.GOOD
    assert search.verdict([Vote.GOOD], sure=True) is None
