# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ending import Ending
from signoff.contract import Mode
from signoff.observation import After, Canary, Check, Observation, Page, State
from signoff.verdict import Status, judge, judge_checks
from tests.unit.signoff_samples import CONTROL, PLAIN, SHARED, SUBJECT, change_in, leaking, probe, refused, secret

PROTECTED = Mode.PROTECTED


def judge_all(
    subject: Sequence[Observation], control: Sequence[Observation] = CONTROL, mode: Mode = PROTECTED, **claim: Any
) -> tuple[Status, str]:
    verdict = judge(probe(**claim), mode, subject, control)
    return verdict.status, verdict.why


def one_differs(**changes: Any) -> list[Observation]:
    return [refused(Page.USER, **changes), *SUBJECT[1:]]


def control_differs(**changes: Any) -> list[Observation]:
    """A control whose first plain page is otherwise."""
    return [leaking(Page.USER, **changes), *CONTROL[1:]]


def with_another_shared(**changes: Any) -> list[Observation]:
    """A control whose first shared page is otherwise."""
    return [*PLAIN, change_in(SHARED[0], **changes), *SHARED[1:]]


def test_refused_to_the_letter_with_a_control_that_read_is_pass() -> None:
    verdict = judge(probe(), PROTECTED, SUBJECT, CONTROL)
    assert verdict.status is Status.PASS
    assert verdict.expected == verdict.observed == "returned -1 EFAULT, nothing leaked"
    assert verdict.control == verdict.shared == "returned 4096, the whole page leaked"


def test_each_control_is_told_for_itself() -> None:
    verdict = judge(probe(), PROTECTED, SUBJECT, with_another_shared(returned=7))
    assert verdict.control == "returned 4096, the whole page leaked"
    assert verdict.shared.startswith("user: returned 7, the whole page leaked | ")
    assert judge(probe(), PROTECTED, SUBJECT, PLAIN).shared == ""
    assert judge(probe(), PROTECTED, SUBJECT, SHARED).control == ""


def test_a_probe_that_never_ran_is_miss() -> None:
    assert judge_all([]) == (Status.MISS, "the probe did not run")
    assert judge_all([], []) == (Status.MISS, "the probe did not run")


def test_a_probe_that_was_not_aimed_is_miss() -> None:
    for reach in ((), ("",), (" ",)):
        status, why = judge_all(one_differs(reach=reach))
        assert status is Status.MISS
        assert "aimed at the user page" in why


def test_a_page_that_was_not_tried_is_miss() -> None:
    assert judge_all(SUBJECT[:1], CONTROL[:1]) == (Status.MISS, "not tried on: kernel, page cache")
    assert judge_all(SUBJECT[:1], [PLAIN[0], SHARED[0]], pages=["user"])[0] is Status.PASS


def test_another_errno_is_fail_and_is_named() -> None:
    status, why = judge_all(one_differs(errno="EPERM"))
    assert status is Status.FAIL
    assert why == "wrong outcome: user: EPERM is not EFAULT"


def test_a_short_count_is_fail() -> None:
    status, why = judge_all(one_differs(returned=100, errno=None, data=b"\0" * 100))
    assert status is Status.FAIL
    assert "returned 100 is not -1" in why


def test_success_without_data_is_fail() -> None:
    assert judge_all(one_differs(returned=4096, errno=None, data=b"\0" * 4096))[0] is Status.FAIL


def test_an_unexpected_signal_is_fail() -> None:
    status, why = judge_all(one_differs(signal="SIGBUS", si_code="BUS_ADRERR"))
    assert status is Status.FAIL
    assert "SIGBUS, none expected" in why


def test_another_si_code_is_fail() -> None:
    protected = {"signal": "SIGBUS", "si_code": "BUS_ADRERR", "leak": "none"}
    wrong = [refused(p, returned=None, errno=None, signal="SIGBUS", si_code="BUS_OBJERR") for p in Page]
    assert judge_all(wrong, protected=protected) == (Status.FAIL, "wrong outcome: BUS_OBJERR is not BUS_ADRERR")
    right = [change_in(observation, si_code="BUS_ADRERR") for observation in wrong]
    assert judge_all(right, protected=protected)[0] is Status.PASS


def test_a_leak_with_the_right_errno_is_fail() -> None:
    status, why = judge_all(one_differs(data=b"\0" * 5 + secret(0)[33:41]))
    assert (status, why) == (Status.FAIL, "leaked 8 bytes equal to the canary (user)")


def test_a_leak_is_fail_even_without_control_or_reach() -> None:
    assert judge_all(one_differs(data=secret(0), reach=()), [])[0] is Status.FAIL


def test_another_pages_canary_is_a_leak_as_well() -> None:
    status, why = judge_all(one_differs(data=secret(1)))
    assert (status, why) == (Status.FAIL, "leaked 4096 bytes equal to the canary (user)")


@pytest.mark.parametrize("after", [After.OVERWRITTEN, After.CHANGED])
def test_a_page_that_was_changed_is_fail(after: After) -> None:
    status, why = judge_all(one_differs(page_after=after), [])
    assert status is Status.FAIL
    assert f"page {after}" in why


def test_a_write_must_be_looked_for_by_the_guest() -> None:
    write: dict[str, Any] = {
        "plain": {"returned": 4096, "leak": "none", "page_after": "overwritten"},
        "protected": {"returned": -1, "errno": "EIO", "leak": "none", "page_after": "intact"},
    }
    control = [dataclasses.replace(observation, data=b"", page_after=After.OVERWRITTEN) for observation in CONTROL]
    blind = [refused(p, errno="EIO") for p in Page]
    assert judge_all(blind, control, **write)[0] is Status.FAIL
    looked = [refused(p, errno="EIO", page_after=After.INTACT) for p in Page]
    assert judge_all(looked, control, **write)[0] is Status.PASS
    for place in range(len(control)):  # on each single page, plain or shared
        unwritten = [*control]
        unwritten[place] = dataclasses.replace(control[place], page_after=After.INTACT)
        assert judge_all(looked, unwritten, **write)[0] is Status.MISS


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ([], "no control"),
        (PLAIN[:2], "not tried on: page cache"),
        (PLAIN, "it did not run on a shared page"),
        (SHARED, "it did not run on a plain page"),
        ([*PLAIN[:2], *SHARED], "not the same probe on the same kinds of plain page"),
        ([*PLAIN, *SHARED[1:]], "not the same probe on the same kinds of shared page"),
        ([*PLAIN[1:], *SHARED[:1]], "not the same probe on the same kinds of plain page"),
        (with_another_shared(call="preadv"), "not the same probe on the same kinds of shared page"),
        (with_another_shared(data=b"\0" * 4096), "0 bytes leaked, not 4096"),
        (
            with_another_shared(returned=-1, errno="EFAULT", data=b""),
            "returned -1 is not 4096; errno EFAULT, none expected",
        ),
        (with_another_shared(reach=()), "aimed"),
        (with_another_shared(state=State.PRIVATE), "private page"),
        (with_another_shared(state=State.PLAIN), "not the same probe on the same kinds of shared page"),
        (with_another_shared(canary=Canary(secret(0)), data=secret(0)), "very page under test"),
        (
            with_another_shared(canary=Canary(secret(10)), data=secret(10)),
            "a plain and a shared page are one and the same",
        ),
        (control_differs(data=b"\0" * 4096), "0 bytes leaked, not 4096"),
        (control_differs(data=secret(10)[:4095]), "4095 bytes leaked, not 4096"),
        (control_differs(data=secret(11)), "0 bytes leaked, not 4096"),
        (control_differs(returned=4095), "returned 4095 is not 4096"),
        (control_differs(returned=-1, errno="EPERM", data=b""), "returned -1 is not 4096; errno EPERM, none expected"),
        (control_differs(reach=()), "aimed"),
        (control_differs(state=State.PRIVATE), "private page"),
        (control_differs(call="preadv"), "not the same probe"),
        ([*CONTROL, leaking(Page.USER, call="preadv", seed=30)], "not the same probe"),
        (control_differs(seed=0), "very page under test"),
    ],
)
def test_a_control_that_does_not_vouch_is_miss(control: Sequence[Observation], words: str) -> None:
    status, why = judge_all(SUBJECT, control)
    assert status is Status.MISS
    assert "control" in why
    assert words in why


def test_a_shared_page_is_a_control_by_its_own_column() -> None:
    column = {"returned": 512, "leak": 512}
    assert judge_all(SUBJECT, CONTROL, shared=column)[0] is Status.MISS
    partly = [change_in(observation, returned=512, data=observation.data[:512]) for observation in SHARED]
    assert judge_all(SUBJECT, [*PLAIN, *partly], shared=column)[0] is Status.PASS
    assert judge_all(SUBJECT, [*PLAIN, *partly])[0] is Status.MISS


def test_a_guest_that_did_not_opt_in_proves_nothing_unless_it_leaks() -> None:
    plain = [refused(page, state=State.PLAIN) for page in Page]
    assert judge_all(plain) == (Status.MISS, "the page under test is plain, not private: nothing was tried")
    leaked = [leaking(page, seed=40 + place) for place, page in enumerate(Page)]
    assert judge_all(leaked, PLAIN)[0] is Status.FAIL


def test_in_mode_plain_a_control_needs_no_shared_page() -> None:
    subject = [leaking(page, seed=40 + place) for place, page in enumerate(Page)]
    assert judge_all(subject, PLAIN, Mode.PLAIN)[0] is Status.PASS
    assert judge_all(subject, PLAIN[:2], Mode.PLAIN)[0] is Status.MISS


def test_a_subject_that_is_not_private_proves_nothing() -> None:
    status, why = judge_all([refused(p, state=State.SHARED) for p in Page])
    assert status is Status.MISS
    assert "shared, not private" in why


def test_on_a_kernel_that_cannot_protect_all_pages_leak() -> None:
    subject = [leaking(p, state=State.PRIVATE) for p in Page]
    control = [leaking(p, seed=30 + i) for i, p in enumerate(Page)]
    verdict = judge(probe(), PROTECTED, subject, control)
    assert verdict.status is Status.FAIL
    assert verdict.why == "leaked 4096 bytes equal to the canary (user, kernel, page cache)"
    assert verdict.expected == "returned -1 EFAULT, nothing leaked"
    assert verdict.observed == "returned 4096, the whole page leaked"


def test_mode_plain_judges_the_controls_column() -> None:
    assert judge_all(PLAIN, [], Mode.PLAIN)[0] is Status.PASS
    assert judge_all(CONTROL, [], Mode.PLAIN)[0] is Status.MISS
    assert judge_all(SUBJECT, [], Mode.PLAIN)[0] is Status.MISS
    assert judge_all([refused(p, state=State.PLAIN) for p in Page], [], Mode.PLAIN)[0] is Status.FAIL
    assert judge_all([], [], Mode.PLAIN)[0] is Status.MISS


def test_a_boundary_must_be_as_open_as_documented() -> None:
    opened = [leaking(p, state=State.PRIVATE) for p in Page]
    table: dict[str, Any] = {"kind": "boundary", "protected": {"returned": 4096, "leak": "page"}}
    assert judge_all(opened, [], **table) == (Status.PASS, "open, as documented")
    assert judge_all(SUBJECT, [], **table)[0] is Status.FAIL
    control = [leaking(page, seed=50 + place) for place, page in enumerate(Page)]
    assert judge_all(opened, control, **table)[0] is Status.MISS
    assert judge_all(opened, [*control, *SHARED], **table)[0] is Status.PASS


def test_what_must_work() -> None:
    good, bad = Check("value", "7", "7"), Check("value", "7", "8")
    assert judge_checks(PROTECTED, [good]).status is Status.PASS
    assert judge_checks(PROTECTED, [good], [good]).status is Status.PASS
    assert judge_checks(PROTECTED, []).status is Status.MISS
    assert judge_checks(PROTECTED, [good], []).status is Status.MISS
    assert judge_checks(PROTECTED, [good], [bad]).status is Status.MISS
    assert judge_checks(PROTECTED, [good], [good], protected=True).status is Status.PASS
    assert judge_checks(PROTECTED, [good], [good], protected=False).status is Status.MISS
    assert judge_checks(PROTECTED, [bad], [good], protected=False).status is Status.FAIL
    assert judge_checks(Mode.PLAIN, [good], protected=False).status is Status.PASS
    wrong = judge_checks(PROTECTED, [good, bad], [bad])
    assert wrong.status is Status.FAIL
    assert wrong.why == "wrong result: value: 8 is not 7 (wrong in the control as well)"


SECRETS = [secret(seed) for seed in range(4)]
CANARIES = [Canary(data) for data in SECRETS]
DATA = st.sampled_from([b"", b"\0" * 4096, SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[0][5:13], SECRETS[2][:4095]])


def leak_of_shared(page: Page, **changes: Any) -> Observation:
    """A probe of a shared page that read all of it."""
    return change_in(SHARED[list(Page).index(page)], **changes)


@st.composite
def observations(draw: st.DrawFn, *, near: str) -> list[Observation]:
    """Runs that mostly are nearly right, so that the rule's edges are met."""
    bases = {"subject": [refused], "control": [leaking, leak_of_shared]}[near]
    listing = []
    tried = st.lists(st.sampled_from(Page), max_size=4)
    # A control has half of its chances with a whole set of pages of each kind.
    whole = st.just(list(Page)) if near == "subject" or draw(st.booleans()) else tried
    for base, page in [(base, page) for base in bases for page in draw(st.one_of(whole, tried))]:
        changes = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "state": st.sampled_from(State),
                    "canary": st.sampled_from(CANARIES),
                    "reach": st.sampled_from([(), ("",), ("gpa 0x1000",)]),
                    "returned": st.sampled_from([None, -1, 0, 4095, 4096]),
                    "errno": st.sampled_from([None, "EFAULT", "EPERM"]),
                    "signal": st.sampled_from([None, "SIGBUS"]),
                    "data": DATA,
                    "page_after": st.sampled_from([None, *After]),
                    "call": st.sampled_from(["process_vm_readv", "preadv"]),
                },
            )
        )
        # Few changes at a time.
        keep = draw(st.sets(st.sampled_from(sorted(changes)), max_size=2)) if changes else set()
        listing.append(base(page, **{name: changes[name] for name in keep}))
    return listing


@given(
    observations(near="subject"), observations(near="control"), st.sets(st.sampled_from(Page), min_size=1).map(sorted)
)
def test_nothing_but_the_rule_makes_a_pass(
    subject: Sequence[Observation], control: Sequence[Observation], pages: list[Page]
) -> None:
    """The rule once more, in other words: whatever is observed, PASS if and only if all of this holds."""
    expected = set(pages)
    rule = (
        subject
        and control
        and {s.page for s in subject} >= expected
        and {c.page for c in control} >= expected
        and {(s.page, s.call) for s in subject} == {(c.page, c.call) for c in control if c.state is State.PLAIN}
        and {(s.page, s.call) for s in subject} == {(c.page, c.call) for c in control if c.state is State.SHARED}
        and all(any(word.strip() for word in observation.reach) for observation in [*subject, *control])
        and all(s.state is State.PRIVATE for s in subject)
        and all(c.state is not State.PRIVATE for c in control)
        and all(s.ending == Ending(-1, "EFAULT") for s in subject)
        and all(other.canary.count_leaked(s.data) == 0 for s in subject for other in subject)
        and all(observation.page_after in (None, After.INTACT) for observation in [*subject, *control])
        and all(c.ending == Ending(4096) for c in control)
        and all(c.canary.count_leaked(c.data) == 4096 for c in control)
        and not {s.canary.fingerprint for s in subject} & {c.canary.fingerprint for c in control}
        and not {c.canary.fingerprint for c in control if c.state is State.PLAIN}
        & {c.canary.fingerprint for c in control if c.state is State.SHARED}
    )
    verdict = judge(probe(pages=pages), PROTECTED, subject, control)
    assert (verdict.status is Status.PASS) == bool(rule)
    assert verdict.why
