# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's holes: crafted observations, checks and contracts that once came to PASS, each with its reason."""

from __future__ import annotations

import base64
import dataclasses
import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from signoff.contract import Condition, Mode, ProbeClaim, Skip
from signoff.hidden import find
from signoff.host_facts import HostFacts
from signoff.observation import Canary, Check, Observation, Page
from signoff.verdict import Status, judge, judge_checks
from tests.unit.signoff_samples import CONTROL, PLAIN, READ, REFUSED, SHARED, SUBJECT, probe, refused, secret
from verifier import contract as verifier_contract
from verifier import leaks
from verifier.contract import holds as verifier_holds
from verifier.text import UnsoundError

USER = secret(0)  # the canary of the user page under test
LACKS = "it came with Linux 6.8"
ZEROS = {"protected": {"returned": 4096, "leak": "none"}}


def judge_with(subject: list[Observation], control: list[Observation] = CONTROL, **claim: Any) -> tuple[Status, str]:
    verdict = judge(probe(**claim), Mode.PROTECTED, subject, control)
    return verdict.status, verdict.why


def observations_of(data: bytes, **changes: Any) -> list[Observation]:
    return [refused(Page.USER, data=data, **changes), *SUBJECT[1:]]


def elsewhere(observations: list[Observation], **changes: Any) -> list[Observation]:
    return [
        dataclasses.replace(observation, aim=dataclasses.replace(observation.aim, **changes))
        for observation in observations
        if observation.aim
    ]


def place_bytes(size: int, at: int, of: int) -> bytes:
    return bytes(at) + USER[of : of + size] + bytes(4096 - at - size)


def test_the_samples_are_pass() -> None:
    assert judge_with(SUBJECT)[0] is Status.PASS


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (elsewhere(CONTROL, run="another run"), "of another run"),
        ([*elsewhere(PLAIN, host="another host"), *SHARED], "no plain user page of another guest on the same host"),
        ([*PLAIN, *elsewhere(SHARED, host="another host")], "no shared user page of the same guest on the same host"),
        ([*PLAIN, *elsewhere(SHARED, guest="a third")], "no shared user page of the same guest on the same host"),
        ([*elsewhere(PLAIN, guest="protected"), *SHARED], "no plain user page of another guest on the same host"),
        (elsewhere(CONTROL, planted=1000.0 - 86400), "of another time"),
        ([dataclasses.replace(observation, seen=1000.0 + 86400) for observation in CONTROL], "of another time"),
        ([dataclasses.replace(observation, aim=None) for observation in CONTROL], "nothing that can be checked"),
    ],
)
def test_a_control_from_elsewhere_vouches_for_nothing(control: list[Observation], words: str) -> None:
    status, why = judge_with(SUBJECT, control)
    assert (status, words in why) == (Status.MISS, True), why


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpa": 0x1001}, "not a page's"),
        ({"hva": 0}, "nowhere in QEMU"),
        ({"hpa": 0}, "nowhere in QEMU"),
        ({"hva": 0x1000}, "no mapping at the page's address"),
        ({"host": ""}, "no run, host and guest"),
        ({"planted": 2000.0}, "was over before the page was there"),
    ],
)
def test_reach_is_a_fact_that_is_checked(changes: dict[str, Any], words: str) -> None:
    status, why = judge_with([*elsewhere(SUBJECT[:1], **changes), *SUBJECT[1:]])
    assert (status, words in why) == (Status.MISS, True), why


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (USER[:1], Status.MISS),
        (place_bytes(1, 9, 9), Status.MISS),
        (USER[:2], Status.FAIL),
        (USER[:3], Status.FAIL),
        (USER[700:703], Status.FAIL),
        (USER[700:702], Status.MISS),
        (place_bytes(2, 9, 9), Status.FAIL),
        (place_bytes(7, 500, 100), Status.FAIL),
        (bytes(255 - observation for observation in USER), Status.FAIL),
        (USER[::-1], Status.FAIL),
        (b"".join(USER[at : at + 4][::-1] for at in range(0, 4096, 4)), Status.FAIL),
        (USER.hex().encode(), Status.FAIL),
        (USER[:40].hex(" ").upper().encode(), Status.FAIL),
        (base64.b64encode(USER), Status.FAIL),
        (bytes(observation ^ 0x77 for observation in USER), Status.FAIL),
        (bytes(observation * (at % 2) for at, observation in enumerate(USER)), Status.FAIL),
        (secret(1)[:3], Status.FAIL),  # another page's
        (bytes(4096), Status.PASS),
        (b"\xa5" * 4096 + bytes(4096), Status.PASS),
        (b"", Status.PASS),
        (b"\x7fELF\x02\x01\x01" + bytes(500), Status.PASS),
        (secret(77), Status.PASS),
    ],
)
def test_few_bytes_and_other_forms_are_leaks(data: bytes, status: Status) -> None:
    results, why = judge_with(observations_of(data))
    assert results is status, why
    assert status is Status.PASS or "once in" in why


def test_random_bytes_are_no_find() -> None:
    """Of 400 random buffers at most one: a find happens once in 65,536, in each of its forms."""
    source = random.Random(20)
    assert sum(find(USER, source.randbytes(source.choice([64, 200, 4096]))) is not None for _ in range(400)) <= 1


def test_both_ways_to_count_agree() -> None:
    """The judge's and the verifier's share no code, and find the same."""
    source = random.Random(21)
    makers: list[Callable[[bytes], bytes]] = [
        lambda page: page[source.randrange(4000) :][: source.choice([1, 2, 3, 5, 8, 30, 400])],
        lambda page: bytes(source.randrange(500)) + page[40:][: source.choice([2, 4, 7, 9])] + bytes(600),
        lambda page: page[::-1][:900],
        lambda _: source.randbytes(source.choice([2, 5, 60, 900])),
        lambda page: page[100:180].hex().encode() + bytes(300),
    ]
    for _ in range(60):
        page = source.randbytes(4096)
        data = source.choice(makers)(page)
        canary, messages = Canary(page), find(page, data)
        assert canary.count_leaked(data) == leaks.count_leaked(page, data)
        sure, words = leaks.find_hidden(page, data)
        assert (messages is not None and messages.sure, messages is not None) == (sure, bool(words))


def as_words(page: bytes, size: int, form: str) -> bytes:
    return " ".join(format(int.from_bytes(page[at : at + size], "little"), form) for at in range(0, 160, size)).encode()


def turn(page: bytes, bits: int) -> bytes:
    return bytes((value << bits | value >> 8 - bits) & 255 for value in page)


def in_bits(page: bytes, one: int, zero: int) -> bytes:
    return bytes(one if value >> bit & 1 else zero for value in page[:64] for bit in range(7, -1, -1))


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "inverted": lambda page: bytes(255 - value for value in page),
    "backwards": lambda page: page[::-1],
    "inverted, backwards": lambda page: bytes(255 - value for value in page[::-1]),
    "bits backwards": lambda page: bytes(int(f"{value:08b}"[::-1], 2) for value in page),
    "halves exchanged": lambda page: turn(page, 4),
    **{f"bits turned by {bits}": partial(turn, bits=bits) for bits in (1, 2, 3, 5, 6, 7)},
    **{
        f"{width} bytes backwards": lambda page, width=width: b"".join(  # type: ignore[misc]
            page[at : at + width][::-1] for at in range(0, 4096, width)
        )
        for width in (2, 4, 8)
    },
    **{
        f"one of {width} bytes": lambda page, width=width: b"".join(  # type: ignore[misc]
            bytes([value]) + secrets.token_bytes(width - 1) for value in page[:400]
        )
        for width in (2, 4, 8)
    },
    "shifted": lambda page: (int.from_bytes(page[:300], "big") << 3).to_bytes(301, "big"),
    "shifted the other way": lambda page: (int.from_bytes(page[:300], "little") << 5).to_bytes(301, "little"),
    "halves of bytes": lambda page: bytes(half for value in page[:300] for half in (value >> 4, value & 15)),
    "hexadecimal": lambda page: page[:200].hex().encode(),
    "hexadecimal of two bytes a letter": lambda page: page[:200].hex().encode("utf-16-le"),
    "hexadecimal with words between": lambda page: page[:200].hex("/").upper().encode(),
    "base64": lambda page: base64.b64encode(page[:200]),
    "base32": lambda page: base64.b32encode(page[:200]),
    "base32 in small letters": lambda page: base64.b32encode(page[:200]).lower(),
    "base85": lambda page: base64.b85encode(page[:200]),
    "base64 of hexadecimal": lambda page: base64.b64encode(page[:200].hex().encode()),
    "decimal": lambda page: ", ".join(map(str, page[:200])).encode(),
    "octal": lambda page: " ".join(f"{value:03o}" for value in page[:200]).encode(),
    "hexadecimal words": lambda page: as_words(page, 2, "04x"),
    "decimal words": lambda page: as_words(page, 8, "d"),
    "bits as text": lambda page: in_bits(page, ord("1"), ord("0")),
    "bits": lambda page: in_bits(page, 0, 1),
    **{
        f"XORed with {width} bytes": lambda page, width=width: bytes(  # type: ignore[misc]
            value ^ b"key-of-8"[at % width] for at, value in enumerate(page)
        )
        for width in (1, 2, 4, 8)
    },
    "one added to each": lambda page: bytes((value + 1) % 256 for value in page),
    **{
        f"each {stride}th byte": lambda page, stride=stride: page[::stride]  # type: ignore[misc]
        for stride in (2, 3, 5, 7, 8, 16, 64)
    },
    "words in another order": lambda page: b"".join(page[at : at + 4] for at in range(4092, -1, -4)),
    "bytes in another order": lambda page: bytes(sorted(page)),
}
"""Ways in which a page may come home; of judge and verifier each has its own code for them."""


@pytest.mark.parametrize("form", FORMS)
def test_judge_and_verifier_find_a_page_in_the_same_forms(form: str) -> None:
    data = FORMS[form](USER)
    result = find(USER, data)
    assert result is not None
    assert result.sure
    assert leaks.find_hidden(USER, data)[0]


def test_what_a_call_returned_must_have_been_looked_at() -> None:
    for data, status in ((b"", Status.MISS), (bytes(4095), Status.MISS), (bytes(4096), Status.PASS)):
        subject = [refused(page, returned=4096, errno=None, data=data) for page in Page]
        assert judge_with(subject, **ZEROS)[0] is status


@pytest.mark.parametrize(
    ("subject", "control", "words"),
    [
        ([Check("a", "", "")], None, "does not say what is expected"),
        ([Check("a", " ", " ")], None, "does not say what is expected"),
        ([Check("", "x", "x")], None, "does not say what is expected"),
        ([Check("a", "x", "x")], [Check("b", "y", "y")], "other checks than the guest under test"),
        ([Check("a", "x", "x")], [Check("a", "", "")], "does not say what is expected"),
    ],
)
def test_checks_that_cannot_be_wrong_are_none(subject: list[Check], control: list[Check] | None, words: str) -> None:
    verdict = judge_checks(Mode.PROTECTED, subject, control, protected=True)
    assert (verdict.status, words in verdict.why) == (Status.MISS, True), verdict.why


def test_checks_may_differ_in_what_differs_between_the_guests() -> None:
    subject = [Check("the private page at 0x1000", "x", "x"), Check("bounce buffers", "y", "y")]
    control = [Check("the plain page at 0x2000", "x", "x")]
    assert judge_checks(Mode.PROTECTED, subject, control, protected=True).status is Status.PASS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({**ZEROS, "plain": {"returned": 4096, "leak": 1}}, "a control must leak 4 bytes or more"),
        ({**ZEROS, "plain": {"returned": 4096, "leak": 8}}, "let the control leak 4096"),
        ({**ZEROS, "shared": {"returned": 4096, "leak": 8}}, "let the control leak 4096"),
        ({"pages": ["user"], "narrowed": "x"}, "'x' is too short a reason"),
        ({"skip": {"when": "it rains"}}, "skip.when"),
        ({"skip": {}}, "state a condition"),
        ({"skip": {"kernel": "<6.8"}}, "say what these kernels do not have"),
        ({"skip": {"kernel": "<6.8", "reason": "too old"}}, "say what these kernels do not have"),
        ({"skip": {"when": "no-vfio", "reason": "it has no device"}}, "say what these kernels do not have"),
        ({"skip": {"kernel": "6.8", "reason": LACKS}}, "not a version range"),
        ({"skip": {"kernel": "<6.8,>6.9", "reason": LACKS}}, "no release lies in"),
    ],
)
def test_contracts_that_prove_little_are_refused(changes: dict[str, Any], words: str) -> None:
    table = {"id": "a_claim", "kind": "attack", "class": "kvm", "source": "s", "reason": "r", "plain": READ}
    with pytest.raises(ValueError, match=words):
        ProbeClaim.model_validate({**table, "protected": REFUSED, **changes})
    with pytest.raises(UnsoundError):
        verifier_contract._claim({**table, "protected": REFUSED, **changes})


@pytest.mark.parametrize(
    ("condition", "tier", "host", "holds"),
    [
        (Condition.NO_VFIO, "emulated", {"devices": "kvm"}, True),
        (Condition.NO_VFIO, "emulated", {"devices": "kvm, vfio/vfio"}, False),
        (Condition.NO_VFIO, "emulated", {}, False),
        (Condition.NO_AVX2, "nested", {"features": "svm, avx2"}, False),
        (Condition.NO_PROTECTION_KEYS, "nested", {"features": "svm"}, True),
        (Condition.NO_SVM, "emulated", {"features": "vmx, ept"}, True),
        (Condition.NO_SVM, "emulated", {"features": "svm, npt"}, False),
        (Condition.NO_SVM, "emulated", {}, False),
        (Condition.NO_VMX, "emulated", {"features": "svm, npt"}, True),
        (Condition.NO_VMX, "emulated", {"features": "vmx, ept"}, False),
        (Condition.NO_SMAP, "nested", {"features": "vmx, smep"}, True),
        (Condition.NO_SMAP, "nested", {"features": "vmx, smep, smap"}, False),
        (Condition.ONE_PROCESSOR, "emulated", {"cpus": "1"}, True),
        (Condition.ONE_PROCESSOR, "bare-metal", {"cpus": "16"}, False),
        (Condition.ONE_PROCESSOR, "emulated", {}, False),
        (Condition.NO_TASK_SWITCH_EXITS, "emulated", {}, True),
        (Condition.NO_TASK_SWITCH_EXITS, "emulated", {"emulator": "Bochs x86 Emulator 2.7"}, False),
        (Condition.NO_TASK_SWITCH_EXITS, "bare-metal", {}, False),
        (Condition.NO_SELFTESTS, "emulated", {"kernel's layers": "none"}, True),
        (Condition.NO_SELFTESTS, "emulated", {"kernel's layers": "debug, selftests"}, False),
        (Condition.NO_SELFTESTS, "emulated", {}, False),
        (Condition.REAL_MACHINE, "bare-metal", {}, True),
        (Condition.REAL_MACHINE, None, {}, False),
        (Condition.BY_BOCHS, "emulated", {"emulator": "Bochs x86 Emulator 2.7"}, True),
        (Condition.BY_BOCHS, "emulated", {}, False),
    ],
)
def test_a_condition_is_the_harness_own_finding(
    condition: Condition, tier: str | None, host: dict[str, str], *, holds: bool
) -> None:
    assert condition.holds(tier, host) is holds
    assert verifier_holds(condition, tier, dict(host)) is holds


@pytest.mark.parametrize(
    ("stated", "release", "name"),
    [
        ({"kernel": "< 6.8", "reason": LACKS}, "6.1.192", "kernel <6.8"),
        ({"kernel": "<6.8", "reason": LACKS}, "6.8.0", ""),
        ({"kernel": "<6.8", "reason": LACKS}, "7.3.4", ""),
        ({"kernel": "<6.8", "reason": LACKS}, "", ""),
        ({"kernel": ">=7", "reason": LACKS}, "7.3.4", "kernel >=7"),
        ({"when": "no-vfio", "kernel": "<6.8", "reason": LACKS}, "6.12.117", "no-vfio"),
        ({"when": "no-avx", "kernel": "<6.8", "reason": LACKS}, "6.12.117", ""),
        ({"when": "no-avx", "kernel": "<6.8", "reason": LACKS}, "6.1.192", "kernel <6.8"),
        ({"when": ["no-avx", "no-vfio"]}, "6.12.117", "no-vfio"),
        ({"when": ["no-vfio"]}, "6.12.117", "no-vfio"),
        ({"when": ["no-avx"]}, "6.12.117", ""),
    ],
)
def test_a_claim_may_be_skipped_where_the_kernel_has_not_what_its_probe_uses(
    stated: dict[str, str], release: str, name: str
) -> None:
    facts = {"devices": "kvm", "features": "avx"}
    skip = Skip.model_validate(stated)
    case = skip.case(lambda condition: condition.holds("emulated", facts), HostFacts(release or None))
    assert (case[0] if case else "") == name
    table = {"id": "a_claim", "kind": "attack", "class": "kvm", "source": "s", "reason": "r", "plain": READ}
    claim = verifier_contract._claim({**table, "protected": REFUSED, "skip": stated})
    assert skip.names == tuple(claim.skip)
    assert case is None or claim.skip[case[0]] == case[1]
    assert any(verifier_holds(condition, "emulated", dict(facts), release) for condition in claim.skip) is bool(name)


def test_the_longest_find_is_told_and_not_a_few_bytes_by_chance() -> None:
    page = bytearray(random.Random(22).randbytes(4096))
    page[200:205] = page[100:105][::-1]
    output = bytes(page[::-1])
    assert bytes(page[100:105]) in output
    sure, words = leaks.find_hidden(bytes(page), output)
    assert sure
    assert words == "4096 bytes of the canary backwards"
