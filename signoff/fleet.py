# SPDX-License-Identifier: GPL-2.0-or-later
"""A sign-off of several machines: which part ran where, what each said, and what differs between the machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from signoff.record import KernelIdentity, Record, Tier
from signoff.verdict import Status

_OF_THE_START = ("started",)
"""Facts of a host that differ from start to start, and say nothing about the machine."""


@dataclass(frozen=True, slots=True)
class Part:
    """One run that was merged.

    :ivar run: its id, which names its folder below ``parts/``. :ivar machine: which machine ran it.
    :ivar seconds: from the order to run it to its end, as who gave the order measured it; 0: not measured.
    :ivar cut_short: why it did not come to its end, so that only a FAIL of it counts; empty if it did.
    """

    run: str
    machine: str
    started: str
    ended: str
    seconds: float
    cut_short: str
    tier: Tier | None
    kernel: KernelIdentity | None
    host: Mapping[str, str]

    @classmethod
    def of(cls, record: Record, seconds: float) -> Part:
        """The part that such a record is of."""
        return cls(
            run=record.run,
            machine=record.machine or "unknown",
            started=record.started,
            ended=record.ended,
            seconds=seconds,
            cut_short=record.cut_short,
            tier=record.tier,
            kernel=record.kernel,
            host=record.host,
        )

    @property
    def folder(self) -> str:
        """Where the part lies, relative to the merged run's folder."""
        return f"parts/{self.run}"

    @property
    def page(self) -> str:
        """Its own report, relative to the merged run's folder; empty if it was killed before it had one."""
        return f"{self.folder}/signoff.html" if self.ended else ""

    @property
    def facts(self) -> dict[str, str]:
        """What may differ from machine to machine."""
        if self.kernel is None:
            return {}
        return {
            "tier": self.tier or "unknown",
            "kernel": self.kernel.release,
            "build id": self.kernel.build_id,
            "configuration": f"sha256 {self.kernel.config_sha256}",
            "compiler": self.kernel.compiler or "unknown",
            **{name: value for name, value in self.host.items() if name not in _OF_THE_START},
        }


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """What one part said about a claim."""

    part: str
    status: Status
    why: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """The parts of a merged run.

    :ivar words: for each claim what every part said that tried it, the one that counts first.
    """

    parts: tuple[Part, ...]
    words: Mapping[str, tuple[PartVerdict, ...]]

    @classmethod
    def of(cls, parts: Sequence[Part], words: Mapping[str, tuple[PartVerdict, ...]]) -> Fleet:
        """One of such parts. Machines that have one name, and processors that differ, are called by both."""
        processors: dict[str, set[str]] = {}
        for part in parts:
            if processor := part.host.get("cpu"):
                processors.setdefault(part.machine, set()).add(processor)

        def part_named(part: Part) -> Part:
            processor = part.host.get("cpu")
            if not processor or len(processors[part.machine]) == 1:
                return part
            return replace(part, machine=f"{part.machine}, {processor}")

        return cls(tuple(map(part_named, parts)), words)

    def machine_of(self, run: str) -> str:
        """The machine that ran a part."""
        return next(part.machine for part in self.parts if part.run == run)

    def page_of(self, run: str) -> str:
        """A part's own report; empty if it has none."""
        return next(part.page for part in self.parts if part.run == run)

    def machines_behind(self, claim: str) -> list[str]:
        """The machines whose word on a claim is the one that counts."""
        words = self.words.get(claim, ())
        return list(dict.fromkeys(self.machine_of(word.part) for word in words if word.status is words[0].status))


@dataclass(frozen=True, slots=True)
class Share:
    """What one machine did.

    :ivar settled: claims by status, as this machine said it. :ivar seconds: of its parts, one after the other.
    :ivar cut_short: why parts of it did not come to their end.
    """

    machine: str
    parts: tuple[Part, ...]
    settled: Mapping[Status, int]
    seconds: float
    cut_short: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The kinds of machine side by side: machines of which all facts are the same are one kind.

    :ivar kinds: the machines of each kind. :ivar differing: fact, and its value on each kind.
    :ivar verdicts: claim, and the worst that each kind said (None: it did not try), where not all said the same.
    """

    kinds: tuple[tuple[str, ...], ...]
    differing: tuple[tuple[str, tuple[str, ...]], ...]
    verdicts: tuple[tuple[str, tuple[PartVerdict | None, ...]], ...]


def shares(fleet: Fleet) -> list[Share]:
    """What each machine did, in the order of their first parts."""
    rows = []
    for machine in dict.fromkeys(part.machine for part in fleet.parts):
        parts = tuple(part for part in fleet.parts if part.machine == machine)
        runs = {part.run for part in parts}
        worst_words = [worst(word for word in words if word.part in runs) for words in fleet.words.values()]
        settled = {status: sum(word is not None and word.status is status for word in worst_words) for status in Status}
        cut = tuple(part.cut_short for part in parts if part.cut_short)
        rows.append(Share(machine, parts, settled, sum(part.seconds for part in parts), cut))
    return rows


def matrix(fleet: Fleet) -> Matrix:
    """Differences between the machines."""
    facts = {share.machine: _facts(share.parts) for share in shares(fleet)}
    by_facts: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for machine, machine_facts in facts.items():
        by_facts.setdefault(tuple(machine_facts.items()), []).append(machine)
    kinds = tuple(tuple(machines) for machines in by_facts.values())
    columns = [dict(machine_facts) for machine_facts in by_facts]
    names = dict.fromkeys(name for column in columns for name in column)
    differing = [(name, tuple(column.get(name, "unknown") for column in columns)) for name in names]
    of_machine = {part.run: part.machine for part in fleet.parts}
    verdicts = []
    for claim, words in fleet.words.items():
        worst_words = tuple(worst(word for word in words if of_machine[word.part] in machines) for machines in kinds)
        if len({word.status for word in worst_words if word is not None}) > 1:
            verdicts.append((claim, worst_words))
    return Matrix(kinds, tuple((name, values) for name, values in differing if len(set(values)) > 1), tuple(verdicts))


WORST_FIRST = (Status.FAIL, Status.ERROR, Status.MISS, Status.PASS, Status.SKIP)
"""Which of several words on a claim counts. A FAIL anywhere is FAIL; what one machine cannot try, another may have."""


def worst(words: Iterable[PartVerdict]) -> PartVerdict | None:
    """The word that counts, the first of several alike; None if there is none."""
    return min(words, key=lambda word: WORST_FIRST.index(word.status), default=None)


def _facts(parts: Iterable[Part]) -> dict[str, str]:
    """A machine's facts; where its parts do not agree, all that they say."""
    facts_of: dict[str, dict[str, None]] = {}
    for part in parts:
        for name, value in part.facts.items():
            facts_of.setdefault(name, {})[value] = None
    return {name: " or ".join(values) for name, values in facts_of.items()}
