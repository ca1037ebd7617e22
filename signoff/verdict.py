# SPDX-License-Identifier: GPL-2.0-or-later
"""One claim: what was observed, held against the contract.

A blocked attack proves something only if the probe was aimed at the page, the outcome is the contract's to the letter,
and the same probe got through in the same run where it may: on pages of a plain guest, and on pages that the protected
guest has shared. Everything else is not PASS. A leak needs no such care: the canary's bytes in the attacker's hands are
FAIL, whatever else is missing.

What vouches for a probe is of the same run, the same start of the same host, and the same few hours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.ending import Ending
from signoff.contract import Kind, Mode, ProbeClaim
from signoff.hidden import Find
from signoff.observation import PAGE_SIZE, After, Check, Observation, Page, State
from signoff.outcome import Outcome


class Status(StrEnum):
    """How a claim stands, in KCIDB's words (its schema's test status; DONE is for tests without a verdict)."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    ERROR = "ERROR"
    """The harness broke: nothing is known."""
    MISS = "MISS"
    """Not run, or run so that it proves nothing."""
    SKIP = "SKIP"
    """Cannot apply here, with the reason."""


LONGEST = 6 * 3600.0
"""Seconds from the first page planted for a claim to the last probe over."""
_VARIES = re.compile(r"\b(?:plain|private|shared|protected) ?|0x[0-9a-f]+|\d+")
"""What may differ in the name of a check between the guest under test and the plain one: state, address, number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim's status and, in a few words each: the contract's outcome, the one seen, the controls', and why.

    :ivar control: outcome in a plain guest. :ivar shared: outcome on pages that a protected guest has shared.
    """

    status: Status
    expected: str
    observed: str
    control: str
    shared: str
    why: str


def judge(
    claim: ProbeClaim, mode: Mode, subject: Sequence[Observation], control: Sequence[Observation] = ()
) -> Verdict:
    """Judge an attack or a boundary.

    :param subject: the probe where the claim is made: on private pages, or on plain ones in mode ``plain``.
    :param control: the same probe, in the same run, on plain and on shared pages; a protected one needs both. Mode
        ``plain`` needs none: there the subject is the control.
    """
    state = State.PRIVATE if mode is Mode.PROTECTED else State.PLAIN
    outcome = claim.outcome(state)

    def verdict(status: Status, why: str) -> Verdict:
        plain, shared = (
            [observation for observation in control if (observation.state is State.SHARED) is which]
            for which in (False, True)
        )
        return Verdict(status, describe(outcome), summary(subject), summary(plain), summary(shared), why)

    if not subject:
        return verdict(Status.MISS, "the probe did not run")
    protection = claim.kind is Kind.ATTACK and mode is Mode.PROTECTED
    finds = _find_hidden(subject) if protection else []
    if protection and (harm := _harm(subject, [find for find in finds if find[0].sure])):
        return verdict(Status.FAIL, harm)
    if finds:
        return verdict(Status.MISS, f"this may be the guest's, so nothing is proven: {_each_find(finds)}; run it again")
    if gap := _gap(claim, subject):
        return verdict(Status.MISS, gap)
    if wrong := [observation for observation in subject if observation.state is not state]:
        return verdict(Status.MISS, f"the page under test is {wrong[0].state}, not {state}: nothing was tried")
    if (protection or control) and (gap := _control_gap(claim, mode, subject, control)):
        return verdict(Status.MISS, gap)
    if wrong_words := _each(subject, lambda observation: "; ".join(differences(outcome, observation))):
        return verdict(Status.FAIL, f"wrong outcome: {wrong_words}")
    if protection and (unfetched := _what_was_not_fetched(subject, control)):
        return verdict(Status.MISS, unfetched)
    if mode is Mode.PLAIN:
        return verdict(Status.PASS, "the probe gets through where nothing forbids it")
    if claim.kind is Kind.BOUNDARY:
        return verdict(Status.PASS, "open, as documented")
    return verdict(Status.PASS, "refused exactly as contracted, and the same probe got through in both controls")


def judge_checks(
    mode: Mode, subject: Sequence[Check], control: Sequence[Check] | None = None, *, protected: bool | None = None
) -> Verdict:
    """Judge something that must work.

    :param control: the same in a plain guest; None if the claim has no such control.
    :param protected: whether the subject was checked in a guest that opted in; None if that does not matter.
    """
    expected = "right in every check"
    shown = "" if control is None else _checks(control)

    def verdict(status: Status, why: str) -> Verdict:
        return Verdict(status, expected, _checks(subject), shown, "", why)

    control_right = control is None or (bool(control) and all(check.right for check in control))
    if not subject:
        return verdict(Status.MISS, "nothing was checked")
    if empty := [
        check for check in (*subject, *(control or ())) if not (check.name.strip() and check.expected.strip())
    ]:
        return verdict(Status.MISS, f"the check {empty[0].name!r} does not say what is expected, so it cannot fail")
    if wrong := [check for check in subject if not check.right]:
        also = "" if control_right or mode is Mode.PLAIN else " (wrong in the control as well)"
        words = "; ".join(f"{check.name}: {check.got or 'nothing'} is not {check.expected}" for check in wrong)
        return verdict(Status.FAIL, f"wrong result: {words}{also}")
    if mode is Mode.PROTECTED and protected is False:
        return verdict(Status.MISS, "the guest under test is not protected: nothing was tried")
    if not control_right:
        return verdict(Status.MISS, f"the control is not right: {shown}")
    if control and not alike(subject, control):
        return verdict(Status.MISS, "the control made other checks than the guest under test")
    return verdict(Status.PASS, "works")


def alike(subject: Sequence[Check], control: Sequence[Check]) -> bool:
    """Whether at least half of the control's checks are the subject's, by their names."""
    names = {_VARIES.sub("", check.name) for check in subject}
    return 2 * sum(_VARIES.sub("", check.name) in names for check in control) >= len(control)


def describe(outcome: Outcome) -> str:
    """An outcome in a few words: ``returned -1 EFAULT, nothing leaked``."""
    return outcome_words(outcome.ending, outcome.leaked, outcome.page_after)


def describe_observation(observation: Observation) -> str:
    """The same words for what a probe did."""
    return outcome_words(observation.ending, observation.leaked, observation.page_after)


def summary(observations: Iterable[Observation]) -> str:
    """Several runs in a few words, pages that fared alike named together; empty if there was none."""
    return _each(list(observations), describe_observation)


def differences(outcome: Outcome, observation: Observation) -> list[str]:
    """Where a run is not what the contract says, one phrase each; empty if it is so to the letter."""
    phrases = []
    for (name, expected), (_, actual) in zip(outcome.ending.parts(), observation.ending.parts(), strict=True):
        if expected != actual:
            phrases.append(_not(name, actual, expected))
    if observation.leaked != outcome.leaked:
        phrases.append(f"{observation.leaked} bytes leaked, not {outcome.leaked}")
    unharmed = observation.page_after in (None, After.INTACT)
    if observation.page_after != outcome.page_after and not (outcome.page_after is None and unharmed):
        phrases.append(_not("page afterwards", observation.page_after, outcome.page_after or After.INTACT))
    return phrases


def _not(name: str, actual: object, expected: object) -> str:
    if actual is None:
        return f"no {name}, not {expected}" if name == "returned" else f"no {name}, {expected} expected"
    if expected is None:
        return f"{name} {actual}, none expected"
    return f"{actual} is not {expected}" if name != "returned" else f"returned {actual} is not {expected}"


def _find_hidden(subject: Sequence[Observation]) -> list[tuple[Find, Page]]:
    """What stands of the canaries in what the attacker got and is not counted as a leak, and on which page."""
    canaries = {observation.canary.fingerprint: observation.canary for observation in subject}.values()
    finds = [(canary.find_hidden(observation.data), observation.page) for observation in subject for canary in canaries]
    return [(find, page) for find, page in finds if find is not None]


def _each_find(finds: Sequence[tuple[Find, Page]]) -> str:
    return "; ".join(f"{find} ({page})" for find, page in finds)


def _harm(subject: Sequence[Observation], hidden: Sequence[tuple[Find, Page]]) -> str:
    """What an attack on private pages achieved; empty if nothing is proven against the protection."""
    harm = []
    # A probe of one page may bring another page's canary home: that is a leak as well.
    canaries = {observation.canary.fingerprint: observation.canary for observation in subject}.values()
    leaks = [
        (max(canary.count_leaked(observation.data, observation.cuts) for canary in canaries), observation.page)
        for observation in subject
    ]
    if count := max(leaked for leaked, _ in leaks):
        pages = ", ".join(dict.fromkeys(page for leaked, page in leaks if leaked))
        harm.append(f"leaked {count} bytes equal to the canary ({pages})")
    elif hidden:
        harm.append(f"leaked {_each_find(hidden)}")
    if hurt := [observation for observation in subject if observation.page_after not in (None, After.INTACT)]:
        pages = ", ".join(dict.fromkeys(observation.page for observation in hurt))
        harm.append(f"the guest found its page {hurt[0].page_after} ({pages})")
    return "; ".join(harm)


def _gap(claim: ProbeClaim, observations: Sequence[Observation]) -> str:
    """Why these runs prove nothing, whatever they returned; empty if they do."""
    if unaimed := [observation for observation in observations if not any(word.strip() for word in observation.reach)]:
        return f"nothing shows that the probe was aimed at the {unaimed[0].page} page"
    for observation in observations:
        if observation.aim is None:
            return f"nothing that can be checked shows that the probe was aimed at the {observation.page} page"
        if fault := observation.aim.fault:
            return f"the probe was not aimed at the {observation.page} page: {fault}"
        if observation.seen < observation.aim.planted:
            return f"the probe of the {observation.page} page was over before the page was there"
    if missing := [page for page in claim.pages if page not in {observation.page for observation in observations}]:
        return f"not tried on: {', '.join(missing)}"
    return ""


def _control_gap(claim: ProbeClaim, mode: Mode, subject: Sequence[Observation], control: Sequence[Observation]) -> str:
    """Why the control does not vouch for the subject; empty if it does."""
    if not control:
        return "no control: nothing shows that the probe works"
    if gap := _gap(claim, control):
        return f"control: {gap}"
    if private := [observation for observation in control if observation.state is State.PRIVATE]:
        return f"control: it ran on a private page ({private[0].page})"
    plain = [observation for observation in control if observation.state is State.PLAIN]
    shared = [observation for observation in control if observation.state is State.SHARED]
    if mode is Mode.PROTECTED:
        for kind, group in (("plain", plain), ("shared", shared)):
            if not group:
                return f"control: it did not run on a {kind} page"
            if _probes_run(group) != _probes_run(subject):
                return f"control: not the same probe on the same kinds of {kind} page"
    if _probes_run(control) != _probes_run(subject):
        return "control: not the same probe on the same kinds of page"
    if _canaries(control) & _canaries(subject):
        return "control: it ran on the very page under test"
    if _canaries(plain) & _canaries(shared):
        return "control: a plain and a shared page are one and the same"
    if gap := _elsewhere(mode, subject, control):
        return f"control: {gap}"
    if wrong := _each(
        control, lambda observation: "; ".join(differences(claim.outcome(observation.state), observation))
    ):
        return f"the control did not get through as contracted: {wrong}"
    return ""


def _elsewhere(mode: Mode, subject: Sequence[Observation], control: Sequence[Observation]) -> str:
    """Why the control is of another run, host, guest or time than the subject; empty if it is not."""
    pairs = [(observation, observation.aim) for observation in (*subject, *control) if observation.aim is not None]
    if len({aim.run for _, aim in pairs}) > 1:
        return "it is of another run"
    if max(observation.seen for observation, _ in pairs) - min(aim.planted for _, aim in pairs) > LONGEST:
        return f"it is of another time: more than {LONGEST / 3600:.0f} hours lie between"
    places = {
        (aim.host, aim.guest, observation.page, observation.call, observation.state) for observation, aim in pairs
    }
    for observation in subject if mode is Mode.PROTECTED else ():
        here = [
            (guest, state)
            for host, guest, page, call, state in places
            if observation.aim and host == observation.aim.host and (page, call) == (observation.page, observation.call)
        ]
        guest = observation.aim.guest if observation.aim else ""
        if (guest, State.SHARED) not in here:
            return f"no shared {observation.page} page of the same guest on the same host was tried"
        if not any(state is State.PLAIN and other != guest for other, state in here):
            return f"no plain {observation.page} page of another guest on the same host was tried"
    return ""


def _what_was_not_fetched(subject: Sequence[Observation], control: Sequence[Observation]) -> str:
    """Whether a call says that it succeeded, and what it brought was not fetched; empty if all was looked at."""
    for observation in subject:
        like = [
            other
            for other in control
            if (other.page, other.call) == (observation.page, observation.call) and other.leaked
        ]
        returned = observation.ending.returned
        if not like or not returned or returned < 0:
            continue
        # Where the control's return value counts its bytes, the subject's does, too.
        counts = all(other.ending.returned == len(other.data) for other in like)
        least = returned if counts else 0
        if any(other.ending.returned == returned for other in like):
            least = max(least, *(len(other.data) for other in like))
        if len(observation.data) < least:
            fetched = f"{len(observation.data)} bytes of it were looked at"
            return f"{observation.call} returned {returned} ({observation.page}), and {fetched}"
    return ""


def _probes_run(observations: Sequence[Observation]) -> set[tuple[Page, str]]:
    """Which probes ran on which kinds of page."""
    return {(observation.page, observation.call) for observation in observations}


def _canaries(observations: Sequence[Observation]) -> set[str]:
    return {observation.canary.fingerprint for observation in observations}


def _each(observations: Sequence[Observation], words: Callable[[Observation], str]) -> str:
    """Words for each run, runs with the same words named together: ``user, kernel: returned 0``."""
    groups: dict[str, dict[str, None]] = {}
    for observation in observations:
        if text := words(observation):
            groups.setdefault(text, {})[str(observation.page)] = None
    if len(groups) == 1 and set(*groups.values()) == {str(observation.page) for observation in observations}:
        return next(iter(groups))
    return " | ".join(f"{', '.join(pages)}: {text}" for text, pages in groups.items())


def _checks(checks: Sequence[Check]) -> str:
    right = sum(check.right for check in checks)
    return f"{right} of {len(checks)} checks right" if checks else "nothing checked"


def outcome_words(ending: Ending, leaked: int, after: str | None) -> str:
    """How a probe ended, in a few words: ``returned -1 EFAULT, nothing leaked``."""
    parts = ending.words()
    if leaked:
        parts.append("the whole page leaked" if leaked == PAGE_SIZE else f"{leaked} bytes leaked")
    else:
        parts.append("nothing leaked")
    if after is not None:
        parts.append(f"page {after}")
    return ", ".join(parts)
