# SPDX-License-Identifier: GPL-2.0-or-later
"""Which step to try next, and which is the first bad one: a function of the votes so far, and of nothing else.

A step is a kernel: so many patches of a series, or a commit. Each time that a claim is tried on a step is a vote, and
votes may err. A step is bad when "bad" leads by two votes, good when "good" leads by one; the good steps that the
answer rests on must lead by two. So one wrong vote a step does not change the answer: a bad step that looked good ends
up beside the answer, and is tried again.

Since the votes are all that counts, a search that was ended goes on where it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from common.errors import UserInputError

STAGE = "bisect"
_SURE = 2  # votes by which a verdict leads that the answer rests on
_NOT_PROVEN = 2  # votes that prove nothing, after which a step is passed over


class Vote(StrEnum):
    """How one trial of a step ended."""

    GOOD = "good"
    BAD = "bad"
    NOT_BUILT = "does not build"
    NOT_PROVEN = "not proven"


class StepVerdict(StrEnum):
    """What the votes say of a step."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "cannot be tried"


class History(Protocol):
    """In which order the steps came."""

    def suspects(self, good: Sequence[str], bad: str) -> Sequence[str]:
        """The steps that may be the first bad one: all that came to ``bad``, with it, and to none of ``good``.

        :returns: the one whose verdict tells most first; ``bad`` is the last.
        """


class Line:
    """Steps ``0``, ``1`` and so on, one after the other."""

    def suspects(self, good: Sequence[str], bad: str) -> Sequence[str]:
        """As of ``History``."""
        last, end = max(map(int, good)), int(bad)
        between = range(last + 1, end)
        return [*map(str, sorted(between, key=lambda at: (-min(at - last, end - at), at))), bad]


class WrongEndError(UserInputError):
    """An end of the range is not what the user said.

    :ivar step: the end.
    """

    def __init__(self, message: str, step: str, *, hint: str) -> None:
        super().__init__(message, stage=STAGE, hint=hint)
        self.step = step


@dataclass(frozen=True, slots=True)
class FirstBad:
    """The answer.

    :ivar suspects: one of them is the first bad step; the last of them is bad, the others could not be tried.
    :ivar good: the good steps that it rests on: what is before the suspects.
    :ivar flaky: steps on which the votes differ.
    """

    suspects: tuple[str, ...]
    good: tuple[str, ...]
    flaky: tuple[str, ...]

    @property
    def bad(self) -> str:
        """The bad step that comes first among those that were tried."""
        return self.suspects[-1]


class Search:
    """The search for the first bad step.

    :param good: a step that is good. :param bad: a later one that is bad.
    :param times: votes by which "good" must lead, and "bad", where that is more than usual.
    :param trust_ends: both ends were seen before. An end is tried only if the answer rests on it, and last; otherwise
        both are tried first.
    """

    def __init__(self, history: History, good: str, bad: str, *, times: int = 1, trust_ends: bool = False) -> None:
        self._history = history
        self._good = good
        self._bad = bad
        self._trust_ends = trust_ends
        self._lead = {Vote.GOOD: times, Vote.BAD: max(times, _SURE)}
        self._most = 3 * max(times, _SURE) + 1

    def verdict(self, votes: Iterable[Vote], *, sure: bool = False) -> StepVerdict | None:
        """What votes on a step say; None: too little, so try it once more.

        :param sure: "good" must lead by as much as "bad" does.
        """
        cast = list(votes)
        if Vote.NOT_BUILT in cast:
            return StepVerdict.SKIP
        lead = cast.count(Vote.GOOD) - cast.count(Vote.BAD)
        if lead <= -self._lead[Vote.BAD]:
            return StepVerdict.BAD
        if lead >= self._lead[Vote.BAD if sure else Vote.GOOD]:
            return StepVerdict.GOOD
        return StepVerdict.SKIP if cast.count(Vote.NOT_PROVEN) >= _NOT_PROVEN or len(cast) >= self._most else None

    def next(self, votes: Mapping[str, Sequence[Vote]]) -> str | FirstBad:
        """The step to be tried next, or the answer.

        :raises WrongEndError: the bad end is not bad, or the good one not good.
        """
        ends = ((self._bad, StepVerdict.BAD), (self._good, StepVerdict.GOOD))
        for end, end_verdict in () if self._trust_ends else ends:
            if not self._is_as_said(end, end_verdict, votes):
                return end
        good, bad, skipped = [self._good], self._bad, set[str]()
        while (step := _pick(suspects := self._history.suspects(good, bad), bad, skipped)) is not None:
            verdict = self.verdict(votes.get(step, ()))
            if verdict is None:
                return step
            if verdict is StepVerdict.GOOD:
                good.append(step)
            elif verdict is StepVerdict.BAD:
                bad = step
            else:
                skipped.add(step)
        rests_on = self._good_steps_needed(good, suspects)
        for end, end_verdict in ends:
            if end in (bad, *rests_on) and not self._is_as_said(end, end_verdict, votes):
                return end
        for step in rests_on:
            if self.verdict(votes.get(step, ()), sure=True) is None:
                return step
        return FirstBad(
            tuple(suspects), rests_on, tuple(step for step, cast in votes.items() if {Vote.GOOD, Vote.BAD} <= {*cast})
        )

    def _is_as_said(self, end: str, expected: StepVerdict, votes: Mapping[str, Sequence[Vote]]) -> bool:
        """Whether an end is what the user says; False: the votes say too little.

        :raises WrongEndError: it is not.
        """
        verdict = self.verdict(votes.get(end, ()))
        if verdict not in (None, expected):
            raise _wrong_end(end, expected, verdict)
        return verdict is expected

    def _good_steps_needed(self, good: Sequence[str], suspects: Sequence[str]) -> tuple[str, ...]:
        """The good steps without which there would be more suspects."""
        needed = list(good)
        for step in good:
            others = [other for other in needed if other != step]
            if others and len(self._history.suspects(others, suspects[-1])) == len(suspects):
                needed = others
        return tuple(needed)


def _pick(suspects: Sequence[str], bad: str, skipped: set[str]) -> str | None:
    """The suspect to be tried; None if there is none left.

    What keeps a step from being tried often keeps its neighbours from it too: next is then one further away, by chance,
    as in git bisect (bisect.c: skip_away()); always the same for the same votes.
    """
    steps = [step for step in suspects if step != bad and step not in skipped]
    if not steps or steps[0] == suspects[0]:
        return steps[0] if steps else None
    away = random.Random(len(skipped)).random() ** 1.5  # noqa: S311  no secret
    return steps[int(len(steps) * away)]


def _wrong_end(end: str, expected: StepVerdict, verdict: StepVerdict | None) -> WrongEndError:
    is_not = f"the {expected} end is {verdict}" if verdict is not StepVerdict.SKIP else f"the {expected} end {verdict}"
    return WrongEndError(is_not, end, hint="name another one with --good or --bad")
