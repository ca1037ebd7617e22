# SPDX-License-Identifier: GPL-2.0-or-later
"""One fault: the kernel with it is compiled, booted as the host under test, and claims are tried on it.

The claims are tried by the command that users have, ``pytest tests_e2e --series FOLDER``, which finds the kernel in a
cache of the faults' own: all that a fault does not change is a link to the user's cache there, the kernel, its saved
state and what it was given are removed when the fault is done.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from common.errors import KernelError, SealproofError
from common.store import Store
from guest_images.programs import MODULES
from host_setup.claim_runs import HARM, SHARED_KINDS, ClaimRun, OwnCache, read_run, run_claims
from host_setup.kernel import build, series
from host_setup.kernel.build import Request
from host_setup.kernel.kept_build import Built, KeptBuild
from host_setup.kernel.source import Source
from host_setup.mutate.book import Line, MutantVerdict
from host_setup.mutate.claims import Order
from host_setup.mutate.faults import Fault, as_series

STAGE = "mutate"


@dataclass(frozen=True, slots=True)
class MutantOutcome:
    """What a run of claims came to.

    :ivar named: claims that are FAIL by what they looked for, with the reason. :ivar noticed: what else went wrong: a
        crash, a hang, an error. :ivar passed: claims that are PASS or SKIP. :ivar statuses: of all that were tried.
    """

    named: dict[str, str]
    noticed: list[str]
    passed: int
    statuses: dict[str, str]


class Trials:
    """Tries faults, one after the other.

    :param request: the kernel of the series. :param base: its folder. :param plain: that kernel, built.
    :param store: the user's cache. :param folder: for runs and logs. :param commit: of this project.
    """

    def __init__(
        self, kept_build: KeptBuild, request: Request, base: Path, plain: build.BuiltKernel, store: Store,
        folder: Path, *, order: Order, tests: dict[str, str], failures: int, whole: bool, commit: str,
    ) -> None:  # fmt: skip
        self._kept_build = kept_build
        self._request = request
        self._base = base
        self._plain = plain
        self._store = store
        self._folder = folder
        self._order = order
        self._tests = tests
        self._failures = failures
        self._whole = whole
        self._commit = commit
        self._own = OwnCache(store, store.root / "kept/cache", (*SHARED_KINDS, "source"))
        self._cache = self._own.store

    def try_fault(self, fault: Fault) -> Line:
        """Compile and try one fault."""
        logs = self._folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        line = Line(
            fault.name, fault.digest, MutantVerdict.UNTRIED, fault.operator, fault.before, fault.mistake,
            must=fault.must, when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", commit=self._commit,
        )  # fmt: skip
        begun = time.monotonic()
        log = logs / "build.log"
        log.unlink(missing_ok=True)
        try:
            built = self._kept_build.build(fault.changes, log)
        except KernelError as error:
            return replace(line, verdict=MutantVerdict.NOT_BUILT, why=_refusal(error.message), building=_since(begun))
        line = replace(line, building=round(built.seconds, 1))
        if built.same:
            return replace(line, verdict=MutantVerdict.SAME)
        begun = time.monotonic()
        try:
            with as_series(self._base, fault) as folder:
                self._lend(folder, fault, built)
                line = self._try_claims(line, fault, folder)
        except SealproofError as error:
            line = replace(line, why=str(error))
        finally:
            self._own.take_back()
        return replace(line, trying=_since(begun))

    def controls(self, claims: Sequence[str]) -> dict[str, str]:
        """How claims end on the series without a fault; what the run did not come to is not in it."""
        self._own.take_back()
        claims_with_tests = [claim for claim in claims if claim in self._tests]
        return self._run(Path(self._base), claims_with_tests, self._store, failures=0).statuses

    # --- inside ---

    def _try_claims(self, line: Line, fault: Fault, folder: Path) -> Line:
        """Try claims until one names the fault, or all that must have been tried."""
        noticed: list[str] = []
        named: dict[str, str] = {}
        for claims, failures in self._stages(fault):
            outcome = self._run(folder, claims, self._cache, failures=failures)
            noticed += outcome.noticed
            named |= outcome.named
            line = replace(line, tried=line.tried + outcome.passed + len(outcome.named))
            if named:
                verdict = MutantVerdict.KILLED if set(fault.must) <= named.keys() else MutantVerdict.OTHERS
                return replace(line, verdict=verdict, claims=tuple(named), why=next(iter(named.values())))
        if noticed:
            return replace(line, verdict=MutantVerdict.CRASH, why=noticed[0])
        if not line.tried:
            return replace(line, why="no claim was tried: none is about it, and --whole was not asked for")
        return replace(line, verdict=MutantVerdict.SURVIVED if self._whole else MutantVerdict.SURVIVED_SOME)

    def _stages(self, fault: Fault) -> Iterator[tuple[Sequence[str], int]]:
        """Claims to be tried together, and after how many failures they are done with: all that must name it are."""
        first = self._order.first(fault)
        stages = [
            ([claim for claim in first if claim in fault.must], 0),
            ([claim for claim in first if claim not in fault.must], self._failures),
            (self._order.rest(fault) if self._whole else (), self._failures),
        ]
        return ((claims, failures) for claims, failures in stages if claims)

    def _run(self, folder: Path, claims: Sequence[str], cache: Store, *, failures: int) -> MutantOutcome:
        """Try claims.

        :param folder: the series. :param failures: after how many it ends; 0: none.
        """
        reports = self._folder / "reports"
        shutil.rmtree(reports, ignore_errors=True)
        health = [claim for claim in self._tests if "tests_e2e/health/" in self._tests[claim]]
        nodes = [self._tests[claim] for claim in dict.fromkeys((*claims, *health))]
        words = ["--host", "emulated", "--mode", "protected", "--series", str(folder), f"--maxfail={failures}"]
        return _outcome(run_claims(nodes, words, cache, reports, self._folder / "logs/pytest.log"))

    def _lend(self, folder: Path, fault: Fault, built: Built) -> None:
        """Make the faults' cache one in which this kernel is built."""
        self._own.lend()
        request = replace(self._request, series=series.load(folder))
        key = build.key(request, request.toolchain.version())
        self._cache.get_or_make("kernel", key, lambda entry: self._kept_build.hand_over(entry, built.seconds))
        if any(name.endswith(".h") for name in fault.changes):
            return  # the modules may hold code of it
        original = self._store.get("module", build.module_key(self._plain, MODULES))
        if original is not None:
            mine = build.module_key(replace(self._plain, key=key), MODULES)
            self._cache.get_or_make("module", mine, lambda entry: _copy(original, entry))


def read(reports: Path, log: Path, late: str) -> MutantOutcome:
    """What a run of claims has left.

    A run without a report has noticed the fault only if a host was started: else it broke before it tried any.

    :param reports: the folder that it was given. :param log: what it printed. :param late: why it was ended, if it was.
    :raises SealproofError: it broke.
    """
    return _outcome(read_run(reports, log, late))


def _outcome(run: ClaimRun) -> MutantOutcome:
    noticed = [run.late] if run.late else []
    if run.report is None:
        if not run.host_was_started:
            raise SealproofError(
                f"no claim was tried: {(run.failed_set_up or [run.output[-400:].strip()])[0]}", stage=STAGE
            )
        return MutantOutcome({}, [*noticed, *(run.failed_set_up or ["there is no report"])][:1], 0, {})
    tried = run.tried_claims
    named: dict[str, str] = {}
    for claim, result in tried.items():
        if result["status"] == "FAIL" and result["kind"] != "health" and not result["why"].startswith(HARM):
            named[claim] = result["why"]
        elif result["status"] in ("FAIL", "ERROR", "MISS"):
            noticed.append(f"{claim} is {result['status']}: {result['why']}")
    given_up = [words for words in run.report["problems"] if "the set-up failed" in words]
    statuses = {claim: str(result["status"]) for claim, result in tried.items()}
    passed = sum(status in ("PASS", "SKIP") for status in statuses.values())
    return MutantOutcome(named, [*given_up, *noticed], passed, statuses)


def kernel_request(source: Source, base: Path) -> Request:
    """The kernel of a series, without layers."""
    return Request(source, series.load(base))


def _copy(source: Path, entry: Path) -> None:
    shutil.copytree(source, entry, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".used"))


def _refusal(message: str) -> str:
    lines = [line for line in message.splitlines() if "error:" in line or "undefined reference" in line]
    return lines[0].strip() if lines else message.partition("\n")[0]


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 1)
