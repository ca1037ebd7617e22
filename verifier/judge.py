# SPDX-License-Identifier: GPL-2.0-or-later
"""The observations or checks of one claim, and the contract's line -> its status and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from verifier import leaks
from verifier.contract import Claim, Outcome, outcome_words

HOURS = 6
_VARIES = re.compile(r"\b(?:plain|private|shared|protected) ?|0x[0-9a-f]+|\d+")


@dataclass(frozen=True, slots=True)
class Seen:
    """One probe of one page, with the canary that the guest has revealed."""

    role: str
    page: str
    state: str
    call: str
    returned: int | None
    errno: str | None
    signal: str | None
    si_code: str | None
    page_after: str | None
    data: bytes
    leaked: int
    canary: bytes
    host: str
    guest: str
    gpa: int
    hpa: int
    planted: float
    over: float

    @property
    def end(self) -> tuple[int | None, str | None, str | None, str | None]:
        """How it ended, its bytes apart."""
        return self.returned, self.errno, self.signal, self.si_code

    @property
    def words(self) -> str:
        """How it ended, in a few words."""
        return outcome_words(*self.end, self.leaked, self.page_after)


@dataclass(frozen=True, slots=True)
class Checked:
    """One check: what should be and what was."""

    role: str
    name: str
    expected: str
    got: str


def probes(claim: Claim, mode: str, seen: Sequence[Seen]) -> tuple[str, str]:
    """Status and reason of a claim about a way to guest memory."""
    subject = [one for one in seen if one.role == "subject"]
    control = [one for one in seen if one.role == "control"]
    state = "private" if mode == "protected" else "plain"
    attack = claim.kind == "attack" and mode == "protected"
    if not subject:
        return "MISS", "no probe of the page under test is kept"
    if attack:
        harm, hint = _harm(subject)
        if harm:
            return "FAIL", harm
        if hint:
            return "MISS", hint
    if lacking := set(claim.pages) - {one.page for one in subject}:
        return "MISS", f"not tried on: {', '.join(sorted(lacking))}"
    if any(one.state != state for one in subject):
        return "MISS", f"a page under test is not {state}"
    if (attack or control) and (gap := _gap(claim, mode, subject, control)):
        return "MISS", gap
    if wrong := [one for one in subject if not _as_contracted(claim.by_state[state], one)]:
        return "FAIL", f"{wrong[0].page}: {wrong[0].words}, and the contract says {claim.by_state[state].words}"
    if attack and (gap := _unfetched(subject, control)):
        return "MISS", gap
    return "PASS", ""


def checks(mode: str, found: Sequence[Checked], *, protected: bool | None, controlled: bool) -> tuple[str, str]:
    """Status and reason of a claim that something works, is found, or stays well."""
    subject = [one for one in found if one.role == "subject"]
    control = [one for one in found if one.role == "control"]
    if not subject:
        return "MISS", "no check is kept"
    if any(not one.name.strip() or not one.expected.strip() for one in found):
        return "MISS", "a check does not say what is expected"
    if wrong := [one for one in subject if one.got != one.expected]:
        return "FAIL", f"{wrong[0].name}: {wrong[0].got or 'nothing'} is not {wrong[0].expected}"
    if mode == "protected" and protected is False:
        return "MISS", "the guest under test is not protected"
    if controlled and (not control or any(one.got != one.expected for one in control)):
        return "MISS", "the control is not right"
    names = {_VARIES.sub("", one.name) for one in subject}
    if 2 * sum(_VARIES.sub("", one.name) in names for one in control) < len(control):
        return "MISS", "the control made other checks than the guest under test"
    return "PASS", ""


def words_of(seen: Iterable[Seen]) -> str:
    """How several probes ended, pages that fared alike named together."""
    runs = list(seen)
    groups: dict[str, list[str]] = {}
    for one in runs:
        pages = groups.setdefault(one.words, [])
        if one.page not in pages:
            pages.append(one.page)
    if len(groups) == 1 and set(next(iter(groups.values()))) == {one.page for one in runs}:
        return next(iter(groups))
    return " | ".join(f"{', '.join(pages)}: {words}" for words, pages in groups.items())


def words_of_checks(found: Sequence[Checked]) -> str:
    """How many checks are right."""
    right = sum(one.got == one.expected for one in found)
    return f"{right} of {len(found)} checks right" if found else "nothing checked"


def _harm(subject: Sequence[Seen]) -> tuple[str, str]:
    """What an attack achieved, and what it may have achieved."""
    hints = []
    canaries = {one.canary for one in subject}
    for one in subject:
        for canary in canaries:
            if count := leaks.counted(canary, one.data):
                return f"{count} bytes of a canary leaked ({one.page})", ""
            sure, words = leaks.hidden(canary, one.data)
            if sure:
                return f"leaked: {words} ({one.page})", ""
            hints += [f"{words} ({one.page})"] if words else []
        if one.page_after not in (None, "intact"):
            return f"the guest found its page {one.page_after} ({one.page})", ""
    return "", "; ".join(hints)


def _as_contracted(outcome: Outcome, one: Seen) -> bool:
    unharmed = one.page_after in (None, "intact") and outcome.page_after is None
    after = one.page_after == outcome.page_after or unharmed
    return one.end == outcome.end and one.leaked == outcome.leaked and after


def _gap(claim: Claim, mode: str, subject: Sequence[Seen], control: Sequence[Seen]) -> str:
    """Why the controls do not vouch for the probes."""
    if not control:
        return "no control: nothing shows that the probe works"
    if any(one.state == "private" for one in control):
        return "a control ran on a private page"
    everything = [*subject, *control]
    if max(one.over for one in everything) - min(one.planted for one in everything) > HOURS * 3600:
        return "a control is of another time"
    if len({one.canary for one in everything}) != len(
        {(one.host, one.guest, one.gpa, one.canary) for one in everything}
    ):
        return "one canary stands for two pages"
    groups = {state: [one for one in control if one.state == state] for state in ("plain", "shared")}
    tried = {(one.page, one.call) for one in subject}
    for state, group in groups.items() if mode == "protected" else {"plain": control}.items():
        if {(one.page, one.call) for one in group} != tried:
            return f"the control on {state} pages is not the same probe on the same kinds of page"
    for these, others in ((subject, control), (groups["plain"], groups["shared"])):
        if {each.canary for each in these} & {each.canary for each in others}:
            return "a control ran on the very page that it is to vouch for"
    for one in subject if mode == "protected" else ():
        like = [each for each in control if (each.host, each.page, each.call) == (one.host, one.page, one.call)]
        if not any(each.state == "shared" and each.guest == one.guest for each in like):
            return f"no shared {one.page} page of the same guest on the same host was tried"
        if not any(each.state == "plain" and each.guest != one.guest for each in like):
            return f"no plain {one.page} page of another guest on the same host was tried"
    for one in control:
        if not _as_contracted(claim.by_state[one.state], one):
            return f"the control did not get through as contracted ({one.state} {one.page} page: {one.words})"
    return ""


def _unfetched(subject: Sequence[Seen], control: Sequence[Seen]) -> str:
    """Whether a call that succeeded brought bytes that nobody looked at."""
    for one in subject:
        like = [each for each in control if (each.page, each.call) == (one.page, one.call) and each.leaked]
        if not like or one.returned is None or one.returned <= 0:
            continue
        least = one.returned if all(each.returned == len(each.data) for each in like) else 0
        if one.returned in {each.returned for each in like}:
            least = max(least, *(len(each.data) for each in like))
        if len(one.data) < least:
            return f"{one.call} returned {one.returned}, and {len(one.data)} bytes of it are kept ({one.page})"
    return ""
