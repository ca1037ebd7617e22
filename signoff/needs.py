# SPDX-License-Identifier: GPL-2.0-or-later
"""What the evidence of each claim must hold: its checks and what they expect, its controls, its call, its files.

A contract's file ``evidence.toml`` names it. A report that lacks a check, names one otherwise, has one more, or expects
less is so told apart, whoever made it. ``sealproof contract`` makes the file from runs; nobody writes it by hand.

A claim has one variant or several, for hosts that differ; its evidence must be as one of them. Where some are for the
vendor of the host's processor, as one of these. Of a check the name and
what it expects are as the run puts them down; ``…`` stands for what differs from run to run: one word, or numbers,
addresses, digests, sizes and flags of mappings.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from signoff.host_facts import Vendor

FILE = "evidence.toml"
"""Of the contract's folder."""
GAP = "its evidence is not what the contract says: "
"""What the reason of a claim begins with that is MISS for that."""
ANY = "…"
_NUMERIC = r"\w*[0-9]\w*|[a-f]+"
_PLAIN = "none|and|ranges|more|kB|RW|ro|USR|PWT|PCD|PSE|PAT|GLB|NX|x"  # flags: Linux, arch/x86/mm/dump_pagetables.c
_VARIES = rf"(?:\w{{1,64}}|[^\w\s]|(?:\b(?:{_NUMERIC}|{_PLAIN})\b|[ ,:;()./+=%…-])+)"
_LONG = 400  # characters
ROLES = ("subject", "control")
_SEVERAL = re.compile(r"(.+) \*([0-9]{1,4})", re.DOTALL)
Entry = tuple[str, str]
"""A check's name, and what it expects."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one claim's evidence holds.

    :ivar sentence: what is claimed. :ivar call: of a probe; empty: the claim is told by checks.
    :ivar met: what its probe says that it met at its page, in the word for it; empty: that needs no word.
    :ivar protected: whether the checks are of a guest that opted in; None: that does not matter.
    :ivar vendor: of the hosts' processors that it is for; None: of any for which no other one is.
    :ivar files: kept beside observations and checks.
    :ivar subject: checks of the guest under test. :ivar control: of the plain one.
    """

    sentence: str = ""
    call: str = ""
    protected: bool | None = None
    files: tuple[str, ...] = ()
    subject: tuple[Entry, ...] = ()
    control: tuple[Entry, ...] = ()
    vendor: Vendor | None = None
    met: str = ""

    def of(self, role: str) -> tuple[Entry, ...]:
        """The checks of a role."""
        return self.subject if role == "subject" else self.control


Needs = Mapping[str, tuple[Need, ...]]
"""By claim."""


class _Variant(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sentence: str
    vendor: Annotated[Vendor | None, Field(strict=False)] = None
    call: str = ""
    met: Literal["", "frame", "frames", "faults", "mapping"] = ""
    protected: bool | None = None
    files: list[str] = []
    both: dict[str, list[str]] = {}
    subject: dict[str, list[str]] = {}
    control: dict[str, list[str]] = {}


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1]
    claim: dict[str, Annotated[list[_Variant], Field(min_length=1)]]


def read(content: bytes) -> dict[str, tuple[Need, ...]]:
    """The table of a file.

    :raises ValueError: the file is not such a table.
    """
    try:
        table = _File.model_validate(tomllib.loads(content.decode("utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return {name: tuple(map(_need, variants)) for name, variants in table.claim.items()}


def _need(variant: _Variant) -> Need:
    subject, control = ((*_entries(variant.both), *_entries(checks)) for checks in (variant.subject, variant.control))
    return Need(
        variant.sentence,
        variant.call,
        variant.protected,
        tuple(variant.files),
        subject,
        control,
        variant.vendor,
        variant.met,
    )


def _entries(words_of: Mapping[str, Sequence[str]]) -> Iterator[Entry]:
    for expected, names in words_of.items():
        for name in names:
            several = _SEVERAL.fullmatch(name)
            yield from [(several[1], expected)] * int(several[2]) if several else [(name, expected)]


def at(needs: Sequence[Need], vendor: Vendor | None) -> tuple[Need, ...]:
    """The variants for hosts with a vendor's processor: those that name it, or else those that name none."""
    own = [need for need in needs if need.vendor is not None and need.vendor is vendor]
    return tuple(own or [need for need in needs if need.vendor is None])


def gap(needs: Sequence[Need], evidence: Need) -> str:
    """How evidence differs from what the contract names; empty if it is as one of the variants, or none is named.

    :param needs: the variants for the host, see ``at``.
    """
    faults = [_gap(need, evidence) for need in needs]
    return "" if "" in faults or not faults else faults[0]


def _gap(need: Need, evidence: Need) -> str:
    if need.sentence != evidence.sentence:
        return f"it claims {evidence.sentence!r}, and the contract {need.sentence!r}"
    if not _fits(need.call, evidence.call):
        return f"the call is {evidence.call!r}, and the contract names {need.call!r}"
    if need.met != evidence.met:
        return f"what the probe met is {evidence.met or 'not told'}, and the contract says {need.met or 'nothing'}"
    if need.protected != evidence.protected:
        return f"whether its guest is protected is told as {evidence.protected}, and the contract says {need.protected}"
    if lacking := sorted(set(need.files) - set(evidence.files)):
        return f"{lacking[0]} is not kept"
    if strange := sorted(set(evidence.files) - set(need.files)):
        return f"{strange[0]} is kept, which the contract does not name"
    for role in ROLES:
        lacks, more = apart(need.of(role), evidence.of(role))
        if fault := _words(lacks, more, need.of(role)):
            return f"the {role} {fault}"
    return ""


def _words(lacks: Sequence[Entry], more: Sequence[Entry], named: Sequence[Entry]) -> str:
    for name, expected in more:
        if weaker := [lack for lack in lacks if _fits(lack[0], name)]:
            return f"expects {expected!r} of {name!r}, and the contract {weaker[0][1]!r}"
        if any(_fits(variant, name) and _fits(value, expected) for variant, value in named):
            return f"has {name!r} more often than the contract"
        return f"has {name!r}, which the contract does not name" + (f", and lacks {lacks[0][0]!r}" if lacks else "")
    return f"lacks {lacks[0][0]!r}" if lacks else ""


def apart(needed: Iterable[Entry], entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Checks that are needed and not found, and found and not needed."""
    open_counts = Counter(needed)
    rest = []
    for entry in entries:
        if open_counts[entry] > 0:
            open_counts[entry] -= 1
        else:
            rest.append(entry)
    more = []
    open_ = sorted(+open_counts, key=lambda words: -sum(map(len, words)))  # what leaves least open comes first
    for name, expected in rest:
        fitting = (
            entry for entry in open_ if open_counts[entry] > 0 and _fits(entry[0], name) and _fits(entry[1], expected)
        )
        if (fit := next(fitting, None)) is None:
            more.append((name, expected))
        else:
            open_counts[fit] -= 1
    return list((+open_counts).elements()), more


def _fits(pattern: str, text: str) -> bool:
    if pattern == text or ANY not in pattern:
        return pattern == text
    return len(text) <= _LONG and text.isprintable() and _regex(pattern).fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(_VARIES.join(map(re.escape, pattern.split(ANY))), re.ASCII)
