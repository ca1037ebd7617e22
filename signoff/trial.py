# SPDX-License-Identifier: GPL-2.0-or-later
"""One claim while its test runs, and its result.

A trial ends PASS only by a verdict of PASS after which nothing went wrong. It ends SKIP only for the fact that the
contract names, if the harness finds before the test that it is so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import ClassVar, TypeVar

import pytest

from common import oops, releases
from common.errors import HarmError, SealproofError, UserInputError
from common.text import printable
from signoff import needs
from signoff.contract import Claim, Condition, Kind, Mode, ProbeClaim, WorkClaim
from signoff.evidence import Evidence
from signoff.host_facts import HostFacts
from signoff.journal import PLANTED
from signoff.memory_map import MemoryMap
from signoff.observation import Aim, Canary, Check, Observation, Page, State, where
from signoff.results import CheckRun, Result, Run, expectation_of, need_of, to_check_run, to_run
from signoff.verdict import Status, Verdict, judge, judge_checks

_C = TypeVar("_C", ProbeClaim, WorkClaim)
HARNESS, PROBE = "harness", "probe"  # who tells of what happened


@contextmanager
def _best_effort(attach: Callable[[str, str], None]) -> Iterator[None]:
    """What explains a failure must not take its place."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        with suppress(Exception):
            attach("not-explained.txt", f"{type(error).__name__}: {error}\n")


class Trial:
    """The fixture ``trial``.

    :ivar mode: the column that it is judged by. :param holds: whether a condition of the contract is the case.
    :param host: what is known of the host under test now.
    :param claim_needs: what its evidence must hold, by the contract.
    """

    current: ClassVar[Trial | None] = None
    """The one whose test runs."""

    def __init__(
        self,
        claim: Claim,
        mode: Mode,
        sentence: str,
        command: str,
        evidence: Evidence,
        holds: Callable[[Condition], bool] = lambda _: False,
        host: Callable[[], HostFacts] = HostFacts,
        claim_needs: Sequence[needs.Need] = (),
    ) -> None:
        self._claim = claim
        self._host = host
        self.mode = mode
        self._sentence = sentence or claim.sentence
        self._command = command
        self._evidence = evidence
        self._holds = holds
        self._claim_needs = claim_needs if mode is Mode.PROTECTED else ()
        self._gap = ""
        self._protected: bool | None = None
        self._controlled = False
        self._files: list[str] = []
        self._runs: list[Run] = []
        self._checks: list[CheckRun] = []
        self._maps: list[MemoryMap] = []
        self._verdict: Verdict | None = None
        self._raised: BaseException | None = None
        self._error = ""
        self._harm: list[str] = []
        self._harm_told: list[str] = []
        self._not_tried = ""
        self._skip: tuple[str, str] | None = None
        self._skipped_itself: str | None = None
        self._seconds = 0.0
        self._begun = time.time()
        self._notes: list[tuple[float, str, str]] = [(self._begun, HARNESS, f"the test of {claim.id} begins")]

    @property
    def row(self) -> str:
        """Which of the claim's outcomes is for the host, as far as that is known; empty: the default."""
        return self._claim.row(self._host())

    @property
    def claim(self) -> Claim:
        """The contract's line, with the outcomes that are for the host."""
        return self._claim.by(self.row)

    def aim(
        self, canary: Canary, page: Page, state: State, *, host: str, guest: str, addresses: tuple[int, int, int],
        mapping: tuple[int, int],
    ) -> Aim:  # fmt: skip
        """Record before the probe which page it will aim at, and a commitment to the guest's content there.

        :param host: one start of one host. :param addresses: guest-physical, in QEMU, host-physical.
        :param mapping: QEMU's there: first address and the one after its last.
        """
        run = self._evidence.folder.name
        aim = Aim(run, host, guest, *addresses, mapping, 0.0, "")
        commitment = canary.commitment(*where(page, state, aim))
        gpa, hva, hpa = map(hex, addresses)
        planted = self._evidence.journal.add(
            PLANTED, claim=self.claim.id, host=host, guest=guest, page=page, state=state, gpa=gpa, hva=hva, hpa=hpa,
            mapping=list(map(hex, mapping)), commitment=commitment,
        )  # fmt: skip
        return replace(aim, planted=planted, commitment=commitment)

    def attack(self, *, subject: Sequence[Observation], control: Sequence[Observation] = ()) -> None:
        """Judge a probe: an attack, or a boundary.

        :param subject: on private pages, or plain ones in mode ``plain``. :param control: on plain and shared pages.
        :raises pytest.fail.Exception: unless the verdict is PASS.
        """
        claim = self._of_kind(ProbeClaim, Kind.ATTACK, Kind.BOUNDARY)
        for role, observations in (("subject", subject), ("control", control)):
            if observations:
                self._files.append(self._evidence.observations(claim.id, role, observations))
                self._runs += [to_run(role, observation) for observation in observations]
        self._settle(judge(claim, self.mode, subject, control))

    def legitimate(
        self, subject: Sequence[Check], control: Sequence[Check] | None = None, *, protected: bool | None = None
    ) -> None:
        """Judge a path that must work.

        :param control: the same in a plain guest, if there is one.
        :param protected: whether the subject's guest opted in, if that matters.
        :raises pytest.fail.Exception: unless the verdict is PASS.
        """
        claim = self._of_kind(WorkClaim, Kind.LEGITIMATE, Kind.ORACLE, Kind.BOUNDARY)
        self._work(claim, subject, control, protected=protected)

    def health(self, checks: Sequence[Check]) -> None:
        """Judge whether host or guest are well.

        :raises pytest.fail.Exception: unless the verdict is PASS.
        """
        self._work(self._of_kind(WorkClaim, Kind.HEALTH), checks, None)

    def kernel_fits(self, text: str) -> bool:
        """Whether the kernel of the host under test is in a range of releases, such as ``<6.15``; False: or not known.

        :raises ValueError: the text is no range.
        """
        releases.check(text)
        release = self._host().kernel
        return release is not None and releases.fits(release, text)

    def attach(self, name: str, content: str | bytes) -> None:
        """Keep a file as evidence.

        :param name: a plain file name. :raises ValueError: if it is not.
        """
        self._files.append(self._evidence.attach(self.claim.id, name, content))

    def draw(self, memory_map: MemoryMap) -> None:
        """Let the report draw a guest's memory as a sweep found it. The picture is evidence, no part of the verdict."""
        self._maps.append(memory_map)

    def skip_where_the_contract_says_so(self) -> None:
        """Skip the test if the fact holds for which the contract says that the claim cannot be tried.

        Called before the test. A test that skips itself is MISS.

        :raises pytest.skip.Exception: if the fact holds.
        """
        if self._claim.skip is not None:
            self._skip = self._claim.skip.case(self._holds, self._host())
            if self._skip is not None:
                pytest.skip(self._skip[1])

    def close(self) -> None:
        """Fail a test that ends without a verdict, or with other evidence than the contract names.

        Called after the test's body.
        """
        if self._verdict is None:
            self._fail("MISS: the test ended without a verdict")
        if fault := needs.gap(needs.at(self._claim_needs, self._host().vendor), need_of(self.result())):
            self._gap = f"{needs.GAP}{fault}"
            self._fail(f"MISS: {self._gap}")

    def note_error(self, phase: str, error: BaseException, traceback: str) -> None:
        """Take note of an exception in the test or its fixtures.

        :param phase: ``setup``, ``call`` or ``teardown``.
        """
        if error is self._raised:
            return  # our own way of ending the test
        if isinstance(error, pytest.skip.Exception):
            self._skipped_itself = str(error.msg or "").strip() or "it gave no reason"
            return
        if isinstance(error, HarmError):
            self.note_harm(error.message)
            return
        words = str(error) if isinstance(error, SealproofError) else f"{type(error).__name__}: {error}"
        self._notes.append((time.time(), HARNESS, f"{phase}: {words}"))
        self._error = "\n".join(part for part in (self._error, f"{phase}: {words}") if part)
        if traceback:
            self.attach(f"traceback-{phase}.txt", traceback)

    def note_harm(self, words: str) -> None:
        """Take note of what the probe did to a machine under test: a claim whose probe kills a kernel does not hold.

        :param words: which machine, and what its kernel said; the first line stands in the reason.
        """
        self._harm.append(words.partition("\n")[0])
        self._harm_told.append(words)
        self._notes.append((time.time(), HARNESS, f"harm: {self._harm[-1]}"))
        self.attach(f"harm-{len(self._harm)}.txt", words)

    def explain(
        self,
        timeline: Callable[[float, float, list[tuple[float, str, str]]], str],
        symbolised: Callable[[str], str],
    ) -> None:
        """Keep with a claim that does not hold what happened when, and each kernel's message with its fingerprint; and
        the command that repeats it.

        :param timeline: what happened between two times, besides what is noted: (time, who, words).
        :param symbolised: a message with the places in the source that it names.
        """
        status, why = self._end()
        if status in (Status.PASS, Status.SKIP):
            return
        probes = [(run.seen, PROBE, f"{run.role}: {run.call} on a {run.page} page, {run.state}") for run in self._runs]
        now = time.time()
        with _best_effort(self.attach):
            self.attach("repeat.txt", f"{self._command}\n")
        notes = [*self._notes, *probes, (now, HARNESS, f"{status}: {why}")]
        with _best_effort(self.attach):
            if events := timeline(self._begun, now, notes):
                self.attach("timeline.txt", events)
        messages = [message for words in self._harm_told for message in oops.find(words)]
        with _best_effort(self.attach):
            texts = [f"{message.words}\n\n{symbolised(message.text)}\n" for message in messages]
            if texts:
                self.attach("oops.txt", "\n".join(texts))

    def cut_short(self, error: BaseException) -> None:
        """Take note that the run ended in the middle of the test: by hand, or by ``pytest.exit``, which says why.

        Where the kernel under test is why, nothing of ours broke: the claim was not tried.
        """
        given_up = isinstance(error, pytest.exit.Exception) and str(error)
        if given_up and isinstance(error.__context__, HarmError):
            self._not_tried = f"not run: {given_up}"
            return
        words = given_up or f"interrupted: {type(error).__name__}: {error}"
        self._error = "\n".join(part for part in (self._error, words) if part)

    def add_seconds(self, seconds: float, phase: str = "") -> None:
        """Add to the time that the test took.

        :param phase: which part of it has just ended.
        """
        self._seconds += seconds
        self._notes.append((time.time(), HARNESS, f"{phase or 'a part of it'} has ended after {seconds:.3f} s"))

    def result(self) -> Result:
        """The claim's end."""
        status, why = self._end()
        verdict = self._verdict
        return Result(
            id=self.claim.id,
            sentence=self._sentence,
            status=status,
            why=why,
            expected=verdict.expected if verdict else expectation_of(self.claim, self.mode),
            observed=verdict.observed if verdict else "",
            control=verdict.control if verdict else "",
            shared=verdict.shared if verdict else "",
            seconds=round(self._seconds, 3),
            command=self._command,
            evidence=tuple(self._files),
            runs=tuple(self._runs),
            checks=tuple(self._checks),
            maps=tuple(self._maps),
            protected=self._protected,
            controlled=self._controlled,
            skip=self._skip[0] if status is Status.SKIP and self._skip else "",
            row=self.row,
        )

    def _end(self) -> tuple[Status, str]:
        verdict = self._verdict
        if verdict is not None and verdict.status is Status.FAIL:
            # The guest's bytes in the attacker's hands stay there, whatever broke afterwards.
            return Status.FAIL, f"{verdict.why}\nbesides: {self._error}" if self._error else verdict.why
        if self._harm:
            words = "; ".join(self._harm)
            return Status.FAIL, f"the probe did harm: {words}" + (f"\nbesides: {self._error}" if self._error else "")
        if self._error:
            return Status.ERROR, self._error
        if verdict is not None and verdict.status is not Status.PASS:
            return verdict.status, verdict.why
        if self._not_tried:
            return Status.MISS, self._not_tried
        if self._skip is not None:
            return Status.SKIP, self._skip[1]
        if self._skipped_itself is not None:
            return Status.MISS, f"the test skipped itself, which is no verdict: {self._skipped_itself}"
        if verdict is None:
            return Status.MISS, "the test ended without a verdict"
        return (Status.MISS, self._gap) if self._gap else (verdict.status, verdict.why)

    def _work(
        self,
        claim: WorkClaim,
        subject: Sequence[Check],
        control: Sequence[Check] | None,
        *,
        protected: bool | None = None,
    ) -> None:
        for role, checks in (("subject", subject), ("control", control or ())):
            if checks:
                self._files.append(self._evidence.checks(claim.id, role, checks))
                self._checks += [to_check_run(role, check) for check in checks]
        self._protected, self._controlled = protected, control is not None
        self._settle(judge_checks(self.mode, subject, control, protected=protected))

    def _of_kind(self, model: type[_C], *kinds: Kind) -> _C:
        claim = self.claim
        if isinstance(claim, model) and claim.kind in kinds:
            return claim
        raise UserInputError(
            f"{claim.id} is {claim.kind} in the contract, but its test judges it as {kinds[0]}", stage="claim"
        )

    def _settle(self, verdict: Verdict) -> None:
        if self._verdict is not None:
            raise SealproofError(f"{self.claim.id} was judged twice", stage="claim", hint="one test, one verdict")
        self._verdict = verdict
        if verdict.status is not Status.PASS:
            self._fail(f"{verdict.status}: {verdict.why}")

    def _fail(self, why: str) -> None:
        try:
            pytest.fail(printable(why), pytrace=False)
        except pytest.fail.Exception as error:
            self._raised = error
            raise
