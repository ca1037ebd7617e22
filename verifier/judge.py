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
class Probe:
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
class CheckResult:
    """One check: what should be and what was."""

    role: str
    name: str
    expected: str
    got: str


def probes(claim: Claim, mode: str, runs: Sequence[Probe]) -> tuple[str, str]:
    """Status and reason of a claim about a way to guest memory."""
    subject = [run for run in runs if run.role == "subject"]
    control = [run for run in runs if run.role == "control"]
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
    if lacking := set(claim.pages) - {probe.page for probe in subject}:
        return "MISS", f"not tried on: {', '.join(sorted(lacking))}"
    if any(probe.state != state for probe in subject):
        return "MISS", f"a page under test is not {state}"
    if (attack or control) and (gap := _gap(claim, mode, subject, control)):
        return "MISS", gap
    if wrong := [probe for probe in subject if not _as_contracted(claim.by_state[state], probe)]:
        return "FAIL", f"{wrong[0].page}: {wrong[0].words}, and the contract says {claim.by_state[state].words}"
    if attack and (gap := _what_was_not_fetched(subject, control)):
        return "MISS", gap
    return "PASS", ""


def checks(mode: str, results: Sequence[CheckResult], *, protected: bool | None, controlled: bool) -> tuple[str, str]:
    """Status and reason of a claim that something works, is found, or stays well."""
    subject = [check for check in results if check.role == "subject"]
    control = [check for check in results if check.role == "control"]
    if not subject:
        return "MISS", "no check is kept"
    if any(not check.name.strip() or not check.expected.strip() for check in results):
        return "MISS", "a check does not say what is expected"
    if wrong := [probe for probe in subject if probe.got != probe.expected]:
        return "FAIL", f"{wrong[0].name}: {wrong[0].got or 'nothing'} is not {wrong[0].expected}"
    if mode == "protected" and protected is False:
        return "MISS", "the guest under test is not protected"
    if controlled and (not control or any(probe.got != probe.expected for probe in control)):
        return "MISS", "the control is not right"
    names = {_VARIES.sub("", probe.name) for probe in subject}
    if 2 * sum(_VARIES.sub("", probe.name) in names for probe in control) < len(control):
        return "MISS", "the control made other checks than the guest under test"
    return "PASS", ""


def words_of(probes: Iterable[Probe]) -> str:
    """How several probes ended, pages that fared alike named together."""
    runs = list(probes)
    groups: dict[str, list[str]] = {}
    for run in runs:
        pages = groups.setdefault(run.words, [])
        if run.page not in pages:
            pages.append(run.page)
    if len(groups) == 1 and set(next(iter(groups.values()))) == {run.page for run in runs}:
        return next(iter(groups))
    return " | ".join(f"{', '.join(pages)}: {words}" for words, pages in groups.items())


def words_of_checks(results: Sequence[CheckResult]) -> str:
    """How many checks are right."""
    right = sum(check.got == check.expected for check in results)
    return f"{right} of {len(results)} checks right" if results else "nothing checked"


def _harm(subject: Sequence[Probe]) -> tuple[str, str]:
    """What an attack achieved, and what it may have achieved."""
    hints = []
    canaries = {probe.canary for probe in subject}
    for probe in subject:
        for canary in canaries:
            if count := leaks.count_leaked(canary, probe.data):
                return f"{count} bytes of a canary leaked ({probe.page})", ""
            sure, words = leaks.find_hidden(canary, probe.data)
            if sure:
                return f"leaked: {words} ({probe.page})", ""
            hints += [f"{words} ({probe.page})"] if words else []
        if probe.page_after not in (None, "intact"):
            return f"the guest found its page {probe.page_after} ({probe.page})", ""
    return "", "; ".join(hints)


def _as_contracted(outcome: Outcome, probe: Probe) -> bool:
    unharmed = probe.page_after in (None, "intact") and outcome.page_after is None
    after = probe.page_after == outcome.page_after or unharmed
    return probe.end == outcome.end and probe.leaked == outcome.leaked and after


def _gap(claim: Claim, mode: str, subject: Sequence[Probe], control: Sequence[Probe]) -> str:
    """Why the controls do not vouch for the probes."""
    if not control:
        return "no control: nothing shows that the probe works"
    if any(probe.state == "private" for probe in control):
        return "a control ran on a private page"
    everything = [*subject, *control]
    if max(probe.over for probe in everything) - min(probe.planted for probe in everything) > HOURS * 3600:
        return "a control is of another time"
    if len({probe.canary for probe in everything}) != len(
        {(probe.host, probe.guest, probe.gpa, probe.canary) for probe in everything}
    ):
        return "one canary stands for two pages"
    groups = {state: [probe for probe in control if probe.state == state] for state in ("plain", "shared")}
    tried = {(probe.page, probe.call) for probe in subject}
    for state, group in groups.items() if mode == "protected" else {"plain": control}.items():
        if {(probe.page, probe.call) for probe in group} != tried:
            return f"the control on {state} pages is not the same probe on the same kinds of page"
    for side, other_side in ((subject, control), (groups["plain"], groups["shared"])):
        if {each.canary for each in side} & {each.canary for each in other_side}:
            return "a control ran on the very page that it is to vouch for"
    for probe in subject if mode == "protected" else ():
        like = [each for each in control if (each.host, each.page, each.call) == (probe.host, probe.page, probe.call)]
        if not any(each.state == "shared" and each.guest == probe.guest for each in like):
            return f"no shared {probe.page} page of the same guest on the same host was tried"
        if not any(each.state == "plain" and each.guest != probe.guest for each in like):
            return f"no plain {probe.page} page of another guest on the same host was tried"
    for probe in control:
        if not _as_contracted(claim.by_state[probe.state], probe):
            return f"the control did not get through as contracted ({probe.state} {probe.page} page: {probe.words})"
    return ""


def _what_was_not_fetched(subject: Sequence[Probe], control: Sequence[Probe]) -> str:
    """Whether a call that succeeded brought bytes that nobody looked at."""
    for probe in subject:
        like = [each for each in control if (each.page, each.call) == (probe.page, probe.call) and each.leaked]
        if not like or probe.returned is None or probe.returned <= 0:
            continue
        least = probe.returned if all(each.returned == len(each.data) for each in like) else 0
        if probe.returned in {each.returned for each in like}:
            least = max(least, *(len(each.data) for each in like))
        if len(probe.data) < least:
            return f"{probe.call} returned {probe.returned}, and {len(probe.data)} bytes of it are kept ({probe.page})"
    return ""
