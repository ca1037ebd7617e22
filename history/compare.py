# SPDX-License-Identifier: GPL-2.0-or-later
"""What has changed between two runs, claim by claim, and what differs in their inputs.

The rules. Statuses have an order: PASS, SKIP, MISS, ERROR, FAIL; each is worse than the one before. A claim has

* *regressed* if it is worse than before,
* been *fixed* if it is PASS and was not,
* been *flaky* if its status changed without a change of inputs. That is so if the claim also did better, with the same
  inputs, than the result that makes it worse; and if it ended in several ways with the inputs of the later run,
* become *slower* if it is PASS in both, and its time is more than 1.5 times the median of up to ten earlier runs (of
  less than three: twice), more than 2 seconds over it, and more than four deviations over it (1.4826 times the median
  absolute deviation); and if the last of these was not yet. Where a whole run took longer, by the median of all claims'
  ratios, its times count as that much shorter.

A claim that was not tried has no status: it is neither worse nor better. Of a run that was cut short only FAIL counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from statistics import median

from common.names import path_text
from history.model import SEALPROOF, Claim, Run
from signoff.verdict import Status

ORDER = (Status.PASS, Status.SKIP, Status.MISS, Status.ERROR, Status.FAIL)
"""The better status first."""
TIMES, SECONDS, DEVIATIONS = 1.5, 2.0, 4.0
TIMES_OF_FEW, FEW = 2.0, 3
WINDOW = 10
"""Earlier runs whose times count."""
_SIGMA = 1.4826  # of a normal distribution, the ratio of the standard deviation to the median absolute one
_LEAST = 0.1  # seconds: the ratio of shorter times says nothing
_ENOUGH = 5  # claims whose ratios say how long the whole run took


class Change(StrEnum):
    """What became of a claim."""

    REGRESSED = "regressed"
    FLAKY = "flaky"
    FIXED = "fixed"
    NEW = "new"
    GONE = "gone"
    SLOWER = "slower"
    NOT_TRIED = "not tried"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """How a claim ended in a sitting.

    :ivar claim: the worst of its results. :ivar run: that has it. :ivar statuses: all that it had there, in order.
    """

    claim: Claim
    run: Run
    statuses: tuple[Status, ...]

    @property
    def worst(self) -> Status:
        """The worst of its statuses."""
        return max(self.statuses, key=ORDER.index)

    @property
    def best(self) -> Status:
        """The best of them."""
        return min(self.statuses, key=ORDER.index)

    @property
    def is_flaky(self) -> bool:
        """Whether it ended in several ways."""
        return len(set(self.statuses)) > 1


@dataclass(frozen=True)
class Sitting:
    """Runs that count together: a night's run of a cell, and what was run again. Or one run alone.

    :ivar runs: in the order in which they were made, at least one.
    """

    runs: tuple[Run, ...]

    @cached_property
    def first(self) -> Run:
        """The whole run: the first that came to its end, or else that came to any claim."""
        whole = [run for run in self.runs if run.counted and not run.cut_short]
        some = [run for run in self.runs if run.counted]
        return (whole or some or list(self.runs))[0]

    @cached_property
    def listed(self) -> frozenset[str]:
        """The claims of its contract."""
        return frozenset(claim.id for claim in self.first.claims)

    @cached_property
    def results(self) -> dict[str, ClaimResult]:
        """The claims that were tried, by id."""
        tries_by_claim: dict[str, list[tuple[Claim, Run]]] = {}
        for run in self.runs:
            if run is self.first or run.identity == self.first.identity:  # of other inputs it says nothing of these
                for claim in run.counted.values():
                    tries_by_claim.setdefault(claim.id, []).append((claim, run))
        worst = {}
        for name, tries in tries_by_claim.items():
            claim, run = max(tries, key=lambda pair: ORDER.index(pair[0].status))
            worst[name] = ClaimResult(claim, run, tuple(result.status for result, _ in tries))
        return worst

    @cached_property
    def seconds(self) -> dict[str, float]:
        """How long each claim took in the whole run, of those that are PASS there."""
        return {claim.id: claim.seconds for claim in self.first.counted.values() if claim.status is Status.PASS}


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one claim.

    :ivar before: None: it was not tried. :ivar after: likewise. :ivar since: the run that it is compared with.
    :ivar seconds: earlier and later, if it has become slower.
    """

    claim: str
    change: Change
    before: ClaimResult | None
    after: ClaimResult | None
    since: Run | None = None
    seconds: tuple[float, float] | None = None

    @property
    def words(self) -> str:
        """The statuses, and the reason or the times, on one line."""
        if self.seconds:
            return f"{self.seconds[0]:.1f} s -> {self.seconds[1]:.1f} s"
        before = "/".join(dict.fromkeys(self.before.statuses)) if self.before else "-"
        after = "/".join(self.after.statuses) if self.after else "-"
        why = self.after.claim.why.partition("\n")[0] if self.after else ""
        return f"{before} -> {after}{f': {why}' if why else ''}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sittings compared.

    :ivar lines: of each claim. :ivar inputs: what differs in the inputs: name, before and after.
    :ivar pace: how many times as long as before a claim took, the median of all.
    """

    before: Run
    after: Run
    lines: tuple[Line, ...]
    inputs: tuple[tuple[str, str, str], ...]
    pace: float = 1.0

    def of(self, *changes: Change) -> list[Line]:
        """The claims of such changes."""
        return [line for line in self.lines if line.change in changes]

    @property
    def counts(self) -> dict[Change, int]:
        """How many claims came to what."""
        return {change: len(self.of(change)) for change in Change if self.of(change)}


@dataclass(frozen=True, slots=True)
class Background:
    """What more is known of the claims, from other runs.

    :ivar before: statuses that each claim had with the inputs of the earlier run. :ivar after: of the later one.
    :ivar times: seconds that each took in earlier runs, the newest last.
    """

    before: Mapping[str, frozenset[Status]] = field(default_factory=dict)
    after: Mapping[str, frozenset[Status]] = field(default_factory=dict)
    times: Mapping[str, Sequence[float]] = field(default_factory=dict)


def compare(past: Sequence[Sitting], after: Sitting, background: Background) -> Comparison:
    """Compare a sitting with the past.

    :param past: at least one, the newest last: a claim is compared with the last one in which it was tried.
    """
    newest = past[-1]
    pace = _pace(background.times, after.seconds)
    names = [claim.id for claim in after.first.claims]
    names += [claim.id for claim in newest.first.claims if claim.id not in after.listed]
    lines = tuple(_line(name, past, after, background, pace) for name in names)
    return Comparison(newest.first, after.first, lines, differing(newest.first, after.first), pace)


def _line(name: str, past: Sequence[Sitting], after: Sitting, background: Background, pace: float) -> Line:
    tried_in = next((sitting for sitting in reversed(past) if name in sitting.results), None)
    old = tried_in.results[name] if tried_in else None
    new = after.results.get(name)
    since = tried_in.first if tried_in else None
    if name not in after.listed:
        return Line(name, Change.GONE, old, None, since)
    if not any(name in sitting.listed for sitting in past):
        return Line(name, Change.NEW, None, new)
    if old is None or new is None:
        return Line(name, Change.NOT_TRIED, old, new, since)
    change = classify(
        old.best,
        new.worst,
        background.before.get(name, frozenset()),
        background.after.get(name, frozenset()) | {*new.statuses},
    )
    if change is Change.UNCHANGED and new.worst is Status.PASS and name in after.seconds:
        earlier, took = list(background.times.get(name, ()))[-WINDOW:], after.seconds[name]
        if is_slower(earlier, took, pace):
            return Line(name, Change.SLOWER, old, new, since, (median(earlier), took))
    return Line(name, change, old, new, since)


def classify(before: Status, after: Status, also_before: frozenset[Status], also_after: frozenset[Status]) -> Change:
    """What became of a claim by its statuses.

    :param also_before: statuses that it had with the inputs of the earlier run. :param also_after: of the later one.
    """
    was, is_ = ORDER.index(before), ORDER.index(after)
    if is_ > was:
        return Change.FLAKY if any(ORDER.index(status) <= was for status in also_after) else Change.REGRESSED
    if is_ < was and after is Status.PASS:
        return Change.FLAKY if after in also_before else Change.FIXED
    return Change.FLAKY if len(also_after) > 1 else Change.UNCHANGED


def is_slower(earlier: Sequence[float], took: float, pace: float = 1.0) -> bool:
    """Whether a time is more than noise over the earlier ones, and the last of these was not yet; the module's rule."""
    already = len(earlier) > 1 and _beyond(earlier[:-1], earlier[-1], 1.0)
    return not already and _beyond(earlier, took, pace)


def _beyond(earlier: Sequence[float], took: float, pace: float) -> bool:
    if not earlier:
        return False
    usual = pace * median(earlier)
    deviation = _SIGMA * pace * median(abs(seconds - median(earlier)) for seconds in earlier)
    times = TIMES if len(earlier) >= FEW else TIMES_OF_FEW
    return took > max(times * usual, usual + SECONDS, usual + DEVIATIONS * deviation)


def _pace(times: Mapping[str, Sequence[float]], seconds: Mapping[str, float]) -> float:
    """How many times as long as before a run took; never less than once: no claim is slow by being the same."""
    ratios = [
        seconds[name] / usual
        for name, earlier in times.items()
        if name in seconds and earlier and (usual := median(list(earlier)[-WINDOW:])) >= _LEAST
    ]
    return max(1.0, median(ratios)) if len(ratios) >= _ENOUGH else 1.0


def times_of(past: Sequence[Sitting]) -> dict[str, list[float]]:
    """How long each claim took, by sittings, the newest last; shortened where a run took longer as a whole."""
    raw: dict[str, list[float]] = {}
    for sitting in past:
        for name, seconds in sitting.seconds.items():
            raw.setdefault(name, []).append(seconds)
    times: dict[str, list[float]] = {}
    for sitting in past:
        pace = _pace(raw, sitting.seconds)
        for name, seconds in sitting.seconds.items():
            times.setdefault(name, []).append(seconds / pace)
    return times


def differing(before: Run, after: Run) -> tuple[tuple[str, str, str], ...]:
    """What differs in the inputs of two runs: name, before and after, for a person to read."""
    differences = []
    old = {"mode": str(before.mode), "tier": before.tier or "", **before.inputs}
    new = {"mode": str(after.mode), "tier": after.tier or "", **after.inputs}
    for name in dict.fromkeys([*old, *new]):
        old_value, new_value = old.get(name, ""), new.get(name, "")
        if old_value != new_value and not (name == SEALPROOF and _same_files(before, after)):
            differences.append((name, path_text(old_value) or "unknown", path_text(new_value) or "unknown"))
            if name == "patches":
                differences += _patches(dict(before.patches), dict(after.patches))
    return tuple(differences)


def _same_files(before: Run, after: Run) -> bool:
    """Whether another commit of sealproof has the same files."""
    old_files, new_files = before.inputs.get(f"{SEALPROOF}'s files"), after.inputs.get(f"{SEALPROOF}'s files")
    return old_files is not None and old_files == new_files


def _patches(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str, str]]:
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [(f"patch {name}", before.get(name, "none"), after.get(name, "none")) for name in names]
