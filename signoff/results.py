# SPDX-License-Identifier: GPL-2.0-or-later
"""One claim's line in the run's journal, and the runs of its probe as the report shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.ending import Ending
from common.errors import UserInputError
from signoff.contract import Claim, Contract, Mode, ProbeClaim
from signoff.memory_map import MemoryMap
from signoff.needs import ROLES, Need
from signoff.observation import Aim, Check, Fact, Observation, State
from signoff.verdict import Status, describe

SHOWN_BYTES = 64
"""Bytes of a leak that the report shows; all of them are in the evidence."""
_OWN = re.compile(r"(?:checks-)?(?:subject|control)\.jsonl|(?:repeat|timeline|oops)\.txt")
"""What is kept with any claim, or with any that does not hold: see :meth:`signoff.trial.Trial.explain`."""
_FRAME = r"a read of the frame at host-physical 0x[0-9a-f]+, which it left, met: (?:its bytes|[A-Z0-9]+)"
_FRAME_WORDS = {
    "frame": re.compile(_FRAME),
    "frames": re.compile(f"{_FRAME}; {_FRAME}"),
    "faults": re.compile(r"bytes of the page came|the host's CPUs took [1-9]\d* faults at the page"),
    "mapping": re.compile("the dump tells of the mapping"),
}
"""What shows that a probe met its page, by the contract's word: see ``met`` of tests_e2e/support/."""
_WORST_FIRST = (Status.FAIL, Status.ERROR, Status.MISS, Status.SKIP, Status.PASS)


@dataclass(frozen=True, slots=True)
class KeptAim:
    """An aim as it is kept."""

    run: str
    host: str
    guest: str
    gpa: str
    hva: str
    hpa: str
    mapping: tuple[str, str]
    planted: float
    commitment: str


@dataclass(frozen=True, slots=True)
class Run:
    """One observation as it is kept: numbers and names, and of the data only what leaked.

    :ivar role: ``subject`` or ``control``. :ivar got: bytes that the attacker got, of whatever content.
    :ivar leaked: bytes of the canary among them. :ivar head: the first bytes of a leak, in hexadecimal.
    :ivar canary: the fingerprint. :ivar aim: which page, and when and where it was planted (addresses in hexadecimal).
    :ivar seen: when the probe was over, in seconds since 1970.
    """

    role: str
    page: str
    state: str
    call: str
    returned: int | None
    errno: str | None
    signal: str | None
    si_code: str | None
    si_addr: str | None
    got: int
    leaked: int
    page_after: str | None
    head: str
    canary: str
    reach: tuple[str, ...]
    facts: tuple[Fact, ...]
    aim: KeptAim | None
    seen: float

    @property
    def ending(self) -> Ending:
        """How the call ended; the faulting address is not among it."""
        return Ending(self.returned, self.errno, self.signal, self.si_code)


@dataclass(frozen=True, slots=True)
class CheckRun:
    """One check as it is kept."""

    role: str
    name: str
    expected: str
    got: str
    right: bool


@dataclass(frozen=True, slots=True)
class Result:
    """How one claim ended.

    :ivar sentence: what is claimed. :ivar why: the reason of the status.
    :ivar control: outcome in a plain guest. :ivar shared: outcome on pages that the protected guest has shared.
    :ivar seconds: that its test took, without what all tests share. :ivar command: repeats this claim alone.
    :ivar evidence: files, relative to the run's folder. :ivar maps: what sweeps of all of a guest's pages found.
    :ivar protected: whether the checks were made in a guest that opted in; None if that does not matter.
    :ivar controlled: whether the checks have a control. :ivar skip: the contract's condition for which it is SKIP.
    :ivar row: of the outcomes that the contract has for the claim, the one for this host; empty: the default.
    """

    id: str
    sentence: str
    status: Status
    why: str
    expected: str
    observed: str
    control: str
    shared: str = ""
    seconds: float = 0.0
    command: str = ""
    evidence: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    checks: tuple[CheckRun, ...] = ()
    maps: tuple[MemoryMap, ...] = ()
    protected: bool | None = None
    controlled: bool = False
    skip: str = ""
    row: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A claim of the contract and how it ended: what every part of the report is made from."""

    claim: Claim
    result: Result


def to_run(role: str, observation: Observation) -> Run:
    """An observation for the journal. The canary's bytes are in it only if the attacker had them already."""
    leaked = observation.leaked
    return Run(
        role=role,
        page=observation.page,
        state=observation.state,
        call=observation.call,
        returned=observation.ending.returned,
        errno=observation.ending.errno,
        signal=observation.ending.signal,
        si_code=observation.ending.si_code,
        si_addr=None if observation.ending.si_addr is None else hex(observation.ending.si_addr),
        got=len(observation.data),
        leaked=leaked,
        page_after=observation.page_after,
        head=observation.data[:SHOWN_BYTES].hex() if leaked else "",
        canary=observation.canary.fingerprint,
        reach=observation.reach,
        facts=observation.facts,
        aim=None if observation.aim is None else _aim_of(observation.aim),
        seen=round(observation.seen, 6),
    )


def _aim_of(aim: Aim) -> KeptAim:
    first, end = aim.mapping
    addresses = (hex(aim.gpa), hex(aim.hva), hex(aim.hpa), (hex(first), hex(end)))
    return KeptAim(aim.run, aim.host, aim.guest, *addresses, aim.planted, aim.commitment)


def to_check_run(role: str, check: Check) -> CheckRun:
    """A check for the journal."""
    return CheckRun(role, check.name, check.expected, check.got, check.right)


def expectation_of(claim: Claim, mode: Mode) -> str:
    """What the contract says about a claim that was not judged."""
    if isinstance(claim, ProbeClaim):
        return describe(claim.outcome(State.PRIVATE if mode is Mode.PROTECTED else State.PLAIN))
    return "right in every check"


def without_verdict(claim: Claim, mode: Mode, sentence: str, status: Status, why: str) -> Result:
    """The result of a claim whose test did not come to a verdict."""
    return Result(claim.id, sentence or claim.sentence, status, why, expectation_of(claim, mode), "", "")


def need_of(result: Result) -> Need:
    """What the evidence of a claim holds, as the contract names it."""
    names = (name.rpartition("/")[2] for name in result.evidence)
    subject, control = (
        tuple((check.name, check.expected) for check in result.checks if check.role == role) for role in ROLES
    )
    calls = dict.fromkeys(run.call for run in result.runs)
    files = tuple(sorted(name for name in names if not _OWN.fullmatch(name)))
    mets = dict.fromkeys(_kind_met(run) for run in result.runs)
    return Need(
        result.sentence, " | ".join(calls), result.protected, files, subject, control, met=" | ".join(mets)
    )  # fmt: skip


def _kind_met(run: Run) -> str:
    """The word for what a probe says that it met at its page; empty: it says nothing of that."""
    return next((kind for text in run.reach for kind, form in _FRAME_WORDS.items() if form.fullmatch(text)), "")


def was_tried(result: Result) -> bool:
    """Whether the claim's test began: only then is there a command that repeats it."""
    return bool(result.command)


def rows(contract: Contract, mode: Mode, results: list[Result], planned: dict[str, str], default: str) -> list[Row]:
    """Every claim of the contract with its result, in the contract's order; what has none is MISS.

    A claim with several results, which no run should bring about, keeps the worst: none is covered up.

    :param planned: sentences of the claims whose tests were found. :param default: why a claim has no result.
    :raises UserInputError: a result is of an outcome that the contract does not have.
    """
    by_id: dict[str, Result] = {}
    for result in results:
        before = by_id.get(result.id)
        if before is None or _WORST_FIRST.index(result.status) < _WORST_FIRST.index(before.status):
            by_id[result.id] = result
    return [
        _row(
            claim, by_id.get(claim.id) or without_verdict(claim, mode, planned.get(claim.id, ""), Status.MISS, default)
        )
        for claim in contract.claims
    ]


def _row(claim: Claim, result: Result) -> Row:
    try:
        return Row(claim.by(result.row), result)
    except ValueError as error:
        raise UserInputError(str(error), stage="report", hint="its line belongs to another contract") from error
