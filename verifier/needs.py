# SPDX-License-Identifier: GPL-2.0-or-later
"""What the contract's file ``evidence.toml`` says that a claim's evidence must hold, and how evidence differs from it.

It names the call of a probe, each check with what it expects, on the guest under test and on its control, and the files
that are kept beside them. A claim has a variant or several; one of them must be met, and one of those for the vendor of
the host's processor where there are some. ``…`` stands for what differs from run to run: one word, or numbers,
addresses, digests, sizes and flags of mappings. No sentence goes in there.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verifier import bounds, rows
from verifier.text import UnsoundError, legible

FILE = "evidence.toml"
_ANY = "…"
_WORDS = "none|and|ranges|more|kB|RW|ro|USR|PWT|PCD|PSE|PAT|GLB|NX|x"  # flags: Linux, arch/x86/mm/dump_pagetables.c
_STANDS_FOR = rf"(?:\w{{1,64}}|[^\w\s]|(?:\b(?:\w*[0-9]\w*|[a-f]+|{_WORDS})\b|[ ,:;()./+=%…-])+)"
_LONGEST = 400  # characters
_OWN = {"subject.jsonl", "control.jsonl", "checks-subject.jsonl", "checks-control.jsonl"}
_FIELDS = {"sentence", "vendor", "call", "met", "protected", "files", "both", "subject", "control"}
_TIMES = re.compile(r"(?P<name>.+) \*(?P<times>[0-9]{1,4})", re.DOTALL)
_Pairs = tuple[tuple[str, str], ...]
ObservationRows = Sequence[tuple[str, str, str, str]]
CheckRows = Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way in which a claim's evidence is as it must be.

    :ivar sentence: what it claims. :ivar call: of its probe; empty: it is told by checks.
    :ivar met: what its probe says that it met at its page; empty: the contract does not say.
    :ivar protected: whether they are of a protected guest. :ivar files: names.
    :ivar checks: name and expectation, by role. :ivar vendor: whose processors it is for; empty: those of any other.
    """

    sentence: str
    call: str
    protected: bool | None
    files: frozenset[str]
    checks: dict[str, _Pairs]
    vendor: str
    met: str = ""


def load(data: bytes) -> dict[str, tuple[Variant, ...]]:
    """The variants of each claim that the file names.

    :raises UnsoundError: the file is not such a table.
    """
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnsoundError(f"{FILE} is not TOML: {legible(error, 80)}") from error
    claims = content.get("claim")
    if set(content) != {"version", "claim"} or content["version"] != 1 or not isinstance(claims, dict):
        raise UnsoundError(f"{FILE} is not of version 1")
    needs = {}
    for name, variants in claims.items():
        if not isinstance(variants, list) or not variants:
            raise UnsoundError(f"{FILE}: {legible(name, 80)} has no variant")
        needs[name] = tuple(_variant(name, variant) for variant in variants)
    return needs


def _variant(name: str, content: Any) -> Variant:
    right = isinstance(content, dict) and set(content) <= _FIELDS
    right = right and all(isinstance(content.get(text, ""), str) for text in ("sentence", "call", "met"))
    right = right and content.get("vendor", "") in ("", *rows.VENDORS.values())
    right = right and content.get("protected") in (True, False, None) and _texts(content.get("files", []))
    roles = {role: content.get(role, {}) for role in ("both", "subject", "control")} if right else {}
    if not right or not all(
        isinstance(checks, dict) and all(map(_texts, checks.values())) for checks in roles.values()
    ):
        raise UnsoundError(f"{FILE}: the requirements on {legible(name, 80)} are malformed")
    both = _pairs(roles["both"])
    checks = {role: both + _pairs(roles[role]) for role in ("subject", "control")}
    if bool(content.get("call")) == bool(checks["subject"]):
        raise UnsoundError(f"{FILE}: {legible(name, 80)} must have either a call or checks")
    return Variant(
        content.get("sentence", ""),
        content.get("call", ""),
        content.get("protected"),
        frozenset(content.get("files", [])),
        checks,
        content.get("vendor", ""),
        content.get("met", ""),
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text for text in value)


def _pairs(patterns: dict[str, list[str]]) -> _Pairs:
    pairs: list[tuple[str, str]] = []
    for expected, names in patterns.items():
        for name in names:
            times = _TIMES.fullmatch(name)
            pairs += [(times["name"], expected)] * int(times["times"]) if times else [(name, expected)]
    return tuple(pairs)


def fault(
    variants: Sequence[Variant], vendor: str, row: dict[str, Any], probes: ObservationRows, checks: CheckRows
) -> str:
    """How the evidence of a claim is not as the contract says; empty if it is, or if the contract says nothing of it.

    :param vendor: of the host's processor; empty: not known.
    :param row: the claim's line: its sentence, its files, whether its guest was protected.
    :param probes: role, state, page and call of each observation. :param checks: role, name and expectation of each.
    """
    names = {name.rpartition("/")[2] for name in row["evidence"]} - _OWN
    faults = []
    own = [variant for variant in variants if variant.vendor and variant.vendor == vendor]
    for variant in own or [variant for variant in variants if not variant.vendor]:
        words = (
            _row_fault(variant, row)
            or _probe_fault(variant, probes)
            or _check_fault(variant, checks)
            or _file_fault(variant, names)
        )
        if not words:
            return ""
        faults.append(words)
    return faults[0] if faults else ""


def _row_fault(variant: Variant, row: dict[str, Any]) -> str:
    if row["sentence"] != variant.sentence:
        return f"it claims {legible(row['sentence'], 90)!r}, and the contract {variant.sentence!r}"
    if row["protected"] != variant.protected:
        return f"it says of its guest's protection {row['protected']}, and the contract {variant.protected}"
    for probe in row.get("runs", ()) if variant.met else ():
        if (kind := bounds.kind_met(probe["reach"])) != variant.met:
            return f"what its probe met at the page is {kind or 'not told'}, and the contract says {variant.met}"
    return ""


def _probe_fault(variant: Variant, probes: ObservationRows) -> str:
    for _, _, _, call in probes:
        if not _like(variant.call, call):
            return f"its call is {legible(call, 60)!r}, and the contract names {variant.call!r}"
    places = Counter((role, state, page) for role, state, page, _ in probes)
    again = [f"{state} {page} page" for (_, state, page), times in places.items() if times > 1]
    return f"a {again[0]} was tried more than once" if again else ""


def _file_fault(variant: Variant, names: set[str]) -> str:
    if lacking := variant.files - names:
        return f"{min(lacking)} is not kept with it"
    if more := names - variant.files:
        return f"{legible(min(more), 60)} is kept with it, which the contract does not name"
    return ""


def _check_fault(variant: Variant, checks: CheckRows) -> str:
    for role, needed in variant.checks.items():
        missing, strange = _differences(needed, [(name, expected) for at, name, expected in checks if at == role])
        for name, expected in strange:
            weak = [value for weak_name, value in missing if _like(weak_name, name)]
            if weak:
                return (
                    f"the {role}'s check {legible(name, 90)!r} expects {legible(expected, 60)!r}, and not {weak[0]!r}"
                )
            if any(_like(weak_name, name) for weak_name, _ in needed):
                return f"the {role} has the check {legible(name, 90)!r} once more than the contract"
            lost = f", and {missing[0][0]!r} is missing" if missing else ""
            return f"the {role} has the check {legible(name, 90)!r}, which the contract does not name{lost}"
        if missing:
            return f"the {role} lacks the check {missing[0][0]!r}"
    return ""


def _differences(needed: _Pairs, pairs: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What is wanted and is not there, and the other way round."""
    missing, rest = Counter(needed), []
    for pair in pairs:
        if missing[pair]:
            missing[pair] -= 1
        else:
            rest.append(pair)
    # Those that leave least open take what fits them first.
    patterns = sorted((pair for pair, times in missing.items() if times), key=lambda pair: len("".join(pair)))[::-1]
    strange = []
    for name, expected in rest:
        for pair in patterns:
            if missing[pair] and _like(pair[0], name) and _like(pair[1], expected):
                missing[pair] -= 1
                break
        else:
            strange.append((name, expected))
    return list(missing.elements()), strange


def _like(pattern: str, text: str) -> bool:
    return pattern == text or (
        _ANY in pattern and len(text) <= _LONGEST and text.isprintable() and bool(_compile(pattern).fullmatch(text))
    )


@functools.cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(_STANDS_FOR.join(re.escape(part) for part in pattern.split(_ANY)), re.ASCII)
