# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin: a test named ``test_<claim id>`` that uses the fixture ``trial`` is that claim's test.

The run's folder is made when the first such test begins, so unit tests alone leave nothing behind. The exit
code is the verdict's: 0, 1 or 2 (see :mod:`signoff.overall`); other tests of the session that fail make it non-zero.

A session that should try claims either writes a new report or ends with an exit code other than 0. Settings that change
pytest from outside are refused or named (:mod:`signoff.surroundings`). Each report is signed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import re
import socket
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from common.errors import HarmError, SealproofError, UserInputError
from common.names import shell_word
from common.paths import PROJECT, config_root, parse_path, require_reports
from common.text import printable
from signoff import ourselves, surroundings
from signoff.attestation import sign
from signoff.contract import Claim, Condition, Contract, Kind, Mode
from signoff.contract_files import load
from signoff.evidence import Evidence
from signoff.forecast import describe, last_seconds
from signoff.host_facts import HostFacts
from signoff.keys import fingerprint, own_key, put_key
from signoff.overall import Exit
from signoff.record import LISTS, PYTHON, SEALPROOF, KernelIdentity, Record, Tier, new_run_id, now, project_commit
from signoff.report import Report, write
from signoff.report.terminal import lines
from signoff.results import Result, without_verdict
from signoff.shared_time import SharedTime
from signoff.trial import Trial
from signoff.verdict import Status
from verifier.report import TrustAnchors, verify
from verifier.run import derive
from verifier.tree import load as load_tree

NAME = "sealproof-signoff"
FIXTURE = "trial"
MOST = 3  # faults of the evidence that the headline names
_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?: \([0-9A-Fa-f:.%a-z]{2,60}:[0-9]{1,5}\))?")
QUICK = "quick"
"""The marker of the quick list."""
QUICK_LIST_HOLDS = "every claim of the quick list is PASS; no other claim was tried, so the report says NOT PROVEN"
ONLY_COLLECTED = "no claim was tried, and no report was written: this is not a sign-off"
NONE_SELECTED = "no claim was selected: '--collect-only -q' lists their names, '-k' takes a part of one"
Inquest = Callable[..., list[str]]
Timeline = Callable[[float, float, list[tuple[float, str, str]]], str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a sign-off."""
    group = parser.getgroup("sealproof", "sealproof: proof that a host cannot read its guests")
    group.addoption(
        "--mode",
        choices=[str(mode) for mode in Mode],
        default=str(Mode.PROTECTED),
        help="protected (default): the sign-off; plain: check that every probe succeeds against a plain guest",
    )
    group.addoption(
        "--reports", type=parse_path, default=Path("reports"), metavar="DIR", help="folder for the reports of runs"
    )
    group.addoption(
        "--machine",
        default=socket.gethostname(),
        type=parse_machine,
        metavar="NAME",
        help="name of this machine in the report; default: its host name",
    )
    group.addoption(
        "--dry-run",
        action="store_true",
        help="print what would be built, booted, leased and tried, with times of earlier runs; make and run nothing",
    )
    parser.addini(
        "sealproof_contract", "folder or file of the contract, relative to the project", default="tests_e2e/contract"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the run."""
    contract = config.rootpath / config.getini("sealproof_contract")
    mode, reports = Mode(config.getoption("--mode")), Path(config.getoption("--reports"))
    config.pluginmanager.register(Signoff(config, contract, config.rootpath / reports, mode), NAME)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Refuse options that reach pytest past the command line, if this run tries claims."""
    contract = config.rootpath / config.getini("sealproof_contract")
    if not surroundings.asks_for_claims(config, contract):
        return None
    for words in (*surroundings.refusals(os.environ), *surroundings.questions(config)):
        sys.stderr.write(f"sealproof: {words}\n")
        return Exit.NOT_PROVEN
    return None


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> Trial:
    """The claim that this test is about."""
    return _run(request).trial(request.node)


@pytest.fixture
def host_is_known() -> None:
    """After it the run knows the facts of its host. Who has machines puts a fixture in its place."""


@pytest.fixture(autouse=True)
def _requirements(request: pytest.FixtureRequest) -> None:
    """Look before a claim's test whether the fact holds for which the contract says that it cannot be tried."""
    if FIXTURE not in request.fixturenames:
        return
    trial = request.getfixturevalue(FIXTURE)
    if trial.claim.skip is not None:
        request.getfixturevalue(host_is_known.__name__)
        trial.skip_where_the_contract_says_so()


@pytest.fixture(scope="session")
def signoff(request: pytest.FixtureRequest) -> Signoff:
    """The run: takes the identity of what is tested."""
    return _run(request)


def _run(request: pytest.FixtureRequest) -> Signoff:
    plugin = request.config.pluginmanager.get_plugin(NAME)
    if not isinstance(plugin, Signoff):
        raise TypeError(f"the plugin {NAME} is not registered")
    return plugin


class Signoff:
    """One run, from the first claim to the reports.

    :param contract: its folder or file. :param reports: the folder for runs. :param mode: the column to judge by.
    :ivar inquest: tells which machines came to harm since it was asked last, by a fault of their kernels;
        ``thorough``: something went wrong, and it may take its time.
    :ivar timeline: tells what happened between two times, besides what is noted (time, who, words).
    :ivar symbolised: a kernel's message with the places in the source that it names.
    """

    def __init__(self, config: pytest.Config, contract: Path, reports: Path, mode: Mode) -> None:
        self.mode = mode
        self._config = config
        self._contract_path = contract
        self.reports = reports
        self._contract: Contract | None = None
        self._record: Record | None = None
        self._evidence: Evidence | None = None
        self._identity: dict[str, Any] = {"host": {}, "durations": {}, "made_of": {}}
        self._ourselves: dict[str, str] = {}
        self._sentences: dict[str, str] = {}
        self._deselected: set[str] = set()
        self._quick: set[str] = set()
        self._problems: list[str] = []
        self._ended: set[str] = set()
        self._now: Trial | None = None
        self._shared = SharedTime()
        self._interrupted = False
        self._given_up = ""
        self._harm = ""
        self._report: Report | None = None
        self._broken = ""
        self._link = ""
        self._only_collected = False
        self._quick_list_holds = False
        self.inquest: Inquest = lambda *, thorough: []  # noqa: ARG005
        self.timeline: Timeline = lambda *_: ""
        self.symbolised: Callable[[str], str] = lambda text: text

    # --- what the harness calls ---

    @property
    def folder(self) -> Path:
        """The run's folder; opens the run."""
        return self._open().folder

    def identify(
        self,
        *,
        kernel: KernelIdentity | None = None,
        tier: Tier | None = None,
        series: str | None = None,
        host: Mapping[str, str] | None = None,
        durations: Mapping[str, float] | None = None,
        made_of: Mapping[str, str] | None = None,
        files: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Say what is tested, all at once or piece by piece, at any time before the end.

        :param host: added to what is known. :param durations: seconds, added as well.
        :param made_of: name and SHA-256, added as well. :param files: files of the run's folder that say more of that.
        """
        for name, value in (("kernel", kernel), ("tier", tier), ("series", series)):
            if value is not None:
                self._identity[name] = value
        self._identity["host"].update(host or {})
        if host and "machine" in host:  # a real one: this computer, which has the option's name, only drives it
            self._identity["machine"] = f"{host['machine']}, from {self._config.getoption('--machine')}"
        self._identity["durations"].update(durations or {})
        self._identity["made_of"].update(made_of or {})
        for name, content in (files or {}).items():
            self._open().identify(name, content)
        self._note()

    def problem(self, words: str) -> None:
        """Say why this run as a whole cannot be a proof."""
        if words not in self._problems:
            self._problems.append(words)
            self._note()

    def trial(self, item: pytest.Item) -> Trial:
        """The claim of the test that is running.

        :raises UserInputError: if the contract has no such claim.
        """
        if self._now is None:
            raise UserInputError(
                f"{item.name} uses the fixture '{FIXTURE}', but {self._contract_path.name} has no claim of that name",
                stage="contract",
                hint=f"add [[claim]] id = '{_claim_id(item)}', or name the test as its claim",
                artefact=self._contract_path,
            )
        return self._now

    # --- what pytest calls ---

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note every claim's test, also those that will be deselected."""
        if _is_claim(item):
            name = _claim_id(item)
            if name in self._sentences:
                self._problems.append(f"two tests claim {name}")
            self._sentences[name] = _sentence(item)
            if item.get_closest_marker(QUICK) is not None:
                self._quick.add(name)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Note which claims were deselected."""
        self._deselected |= {_claim_id(item) for item in items if _is_claim(item)}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the contract and compare the tests with it, if any claim will be tried.

        Also check that the report can be written, before hours of work.
        """
        option = session.config.option
        if option.dry_run or not any(_is_claim(item) for item in session.items):
            return
        if session.config.option.collectonly:
            self._only_collected = True
            return
        self._problems += surroundings.foreign(session.config, self._contract_path)
        try:
            require_reports(self.reports)
            self._contract = load(self._contract_path)
        except SealproofError as error:
            pytest.exit(f"{error}", returncode=Exit.NOT_PROVEN)
        contract_ids = {claim.id for claim in self._contract.claims}
        self._problems += [
            f"test_{name} has no entry in the contract" for name in self._sentences if name not in contract_ids
        ]

    def forecast(self, session: pytest.Session) -> str:
        """How many claims this session would try, how long that may take, and why it would be no sign-off."""
        names = (_claim_id(item) for item in session.items if _is_claim(item))
        tried = describe(names, last_seconds(self.reports, self.mode))
        return "; ".join([tried, *surroundings.foreign(session.config, self._contract_path)])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Open a trial around a claim's test, and record its end."""
        self._shared.is_last = nextitem is None
        claim = self._contract.find(_claim_id(item)) if self._contract and _is_claim(item) else None
        if claim is None:
            return (yield)
        try:
            evidence = self._open()
        except (OSError, SealproofError) as error:
            pytest.exit(f"the run has no folder: {error}", returncode=Exit.NOT_PROVEN)
        command = f"{self._command()} -k test_{claim.id}"
        claim_needs = self._contract.needs.get(claim.id, ()) if self._contract else ()
        trial = Trial(
            claim, self.mode, self._sentences[claim.id], command, evidence, self._holds, self._host, claim_needs
        )
        self._now = Trial.current = trial
        try:
            return (yield)
        except BaseException as error:
            trial.cut_short(error)
            raise
        finally:
            self._now = Trial.current = None
            self._ended.add(claim.id)
            trial.explain(self.timeline, self.symbolised)
            self._keep(evidence, trial)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Take the time of what all tests share."""
        with self._shared.making(fixturedef.scope):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """A claim's test must come to a verdict."""
        yield
        if self._now is not None:
            self._now.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take note of whatever went wrong in a claim's test or its fixtures."""
        report = yield
        if self._now is not None:
            self._now.add_seconds(self._shared.without(call), call.when)
            if call.excinfo is not None:
                self._now.note_error(call.when, call.excinfo.value, report.longreprtext)
                if report.failed and (shown := printable(report.longreprtext)) != report.longreprtext:
                    report.longrepr = shown  # a kernel's last words, on their way to a terminal
            broken = call.excinfo is not None and call.excinfo.errisinstance((SealproofError, OSError))
            for words in self.inquest(thorough=broken):
                self._now.note_harm(words)
        return report

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that the run is interrupted, by hand or by ``pytest.exit``, and why."""
        words = str(excinfo.value)
        if isinstance(excinfo.value, pytest.exit.Exception):
            self._given_up = words or "the run was given up"
            if isinstance(excinfo.value.__context__, HarmError):
                self._harm = excinfo.value.__context__.message
            self._problems.append(self._given_up.partition("\n")[0])
        else:
            self._interrupted = True
            self._problems.append(f"interrupted: {words or 'Ctrl-C'}")

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        """Write the reports and let the verdict be the exit code.

        It comes after the last fixtures' end, for machines write their logs until then, and before the summary.
        """
        try:
            return (yield)
        finally:
            self._end(session, exitstatus)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Show the verdict."""
        write_line = terminalreporter.write_line
        if self._broken:
            terminalreporter.write_sep("=", "sealproof: the report could not be written", red=True)
            write_line(f"{self._broken}\nexit {int(Exit.NOT_PROVEN)}: not proven")
        if self._only_collected:
            write_line(ONLY_COLLECTED)
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._deselected:
            write_line(NONE_SELECTED, yellow=True)
        if self._report is None:
            return
        terminalreporter.write_sep("=", "sealproof")
        width = min(terminalreporter._tw.fullwidth, 120)  # noqa: SLF001  pytest offers no other way to ask
        for text, look in lines(self._report, self.folder, width, QUICK_LIST_HOLDS if self._quick_list_holds else ""):
            write_line(text, **look)
        if self._link:
            write_line(self._link, yellow=True)
        if self._report.overall.exit_code is Exit.PROVEN and exitstatus != pytest.ExitCode.OK:
            write_line(f"but other tests of this session failed: exit {int(exitstatus)}", red=True)

    # --- inside ---

    def _open(self) -> Evidence:
        if self._evidence is None:
            run = new_run_id()
            self._evidence = Evidence.create(self.reports, run, self._contract_path)
            self._record = Record(
                run=run,
                started=now(),
                mode=self.mode,
                command=self._command(),
                commit=project_commit(PROJECT),
                machine=self._config.getoption("--machine"),
            )
            self._evidence.write_planned(self._sentences)
            self._ourselves = {SEALPROOF: ourselves.files_of(PROJECT), PYTHON: ourselves.packages()}
            is_commit = re.fullmatch("[0-9a-f]+", self._record.commit)
            if is_commit and not ourselves.are_committed(PROJECT, self._ourselves[SEALPROOF]):
                self._record = dataclasses.replace(self._record, commit=f"{self._record.commit}-dirty")
            self.identify(
                made_of={name: hashlib.sha256(text.encode()).hexdigest() for name, text in self._ourselves.items()},
                files={LISTS[name]: text for name, text in self._ourselves.items()},
            )
        return self._evidence

    def _note(self, **changes: Any) -> None:
        """Write the run's record, if the run is open."""
        if self._evidence is not None and self._record is not None:
            self._record = dataclasses.replace(
                self._record, **self._identity, problems=tuple(self._problems), **changes
            )
            self._evidence.write_record(self._record)

    @staticmethod
    def _keep(evidence: Evidence, trial: Trial) -> None:
        try:
            evidence.append(trial.result())
        except (
            OSError,
            SealproofError,
        ) as error:  # a full disk, a folder that was moved away: nothing can be proved now
            pytest.exit(f"the run's folder is no longer writable: {error}", returncode=Exit.NOT_PROVEN)

    def _end(self, session: pytest.Session, exitstatus: int) -> None:
        if session.config.option.dry_run:
            return
        if self._contract is None:
            claims = self._only_collected or surroundings.asks_for_claims(session.config, self._contract_path)
            if claims and self._sentences and exitstatus == pytest.ExitCode.OK and not _beside(session):
                session.exitstatus = Exit.NOT_PROVEN
            return
        try:
            self._report = self._finish(session, self._contract)
        except Exception as error:  # noqa: BLE001  whatever it was: an exit code of 1 would mean that a claim FAILed
            self._broken = str(error) if isinstance(error, SealproofError) else f"{type(error).__name__}: {error}"
            session.exitstatus = Exit.NOT_PROVEN
            return
        code = self._report.overall.exit_code
        self._quick_list_holds = exitstatus == pytest.ExitCode.OK and self._holds_quickly(session, self._report)
        if self._quick_list_holds:
            code = Exit.PROVEN
        if code is not Exit.PROVEN or exitstatus == pytest.ExitCode.OK:
            session.exitstatus = code

    def _holds_quickly(self, session: pytest.Session, report: Report) -> bool:
        """Whether the quick list alone was asked for, and each of its claims is PASS, an attack among them.

        The report of such a run says NOT PROVEN, as nobody tried the other claims. Whoever asks for the list by its
        name wants to know of the list.
        """
        option = session.config.option
        if option.markexpr.strip() != QUICK or option.keyword or report.problems:
            return False
        rows = {row.claim.id: row for row in report.rows}
        passed = {name for name, row in rows.items() if row.result.status is Status.PASS}
        return (
            passed == self._quick
            and set(rows) - passed == self._deselected
            and any(rows[name].claim.kind is Kind.ATTACK for name in passed)
        )

    def _finish(self, session: pytest.Session, contract: Contract) -> Report:
        evidence = self._open()
        for claim in contract.claims:
            if claim.id not in self._ended:
                evidence.append(self._without_test(claim, session, evidence))
        self._problems += self._changed_files()
        # What everybody else may do with it we do first, by code that shares nothing with the judge's.
        faults = derive(load_tree(evidence.folder)).faults
        self._problems += [f"the claims do not match their evidence: {fault}" for fault in faults[:MOST]]
        self._note(ended=now(), interrupted=self._interrupted, given_up=self._given_up.partition("\n")[0])
        evidence.end()
        key = own_key(config_root())
        put_key(evidence.folder, key)
        report = write(evidence.folder)
        sign(evidence.folder, key)
        self._link = evidence.publish()
        anchors = TrustAnchors((fingerprint(key.public_key()),), report.contract_sha256)
        if not faults and (wrong := verify(load_tree(evidence.folder), anchors).faults):
            raise SealproofError(f"the report contradicts its own evidence: {wrong[0]}", stage="report")
        return report

    def _without_test(self, claim: Claim, session: pytest.Session, evidence: Evidence) -> Result:
        """The result of a claim that was not tried: MISS; FAIL if the machines' health is what nobody could try."""
        sentence = self._sentences.get(claim.id, "")
        if self._harm and claim.kind is Kind.HEALTH and sentence and claim.id not in self._deselected:
            trial = Trial(claim, self.mode, sentence, f"{self._command()} -k test_{claim.id}", evidence)
            trial.note_harm(self._harm)
            return trial.result()
        status, why = self._why_not(claim.id, session)
        return without_verdict(claim, self.mode, sentence, status, why)

    def _changed_files(self) -> list[str]:
        """What of this project, and of the code that it uses, is not what the report says it is."""
        before, after = (set(text.splitlines()) for text in (self._ourselves[SEALPROOF], ourselves.files_of(PROJECT)))
        changed = sorted({line.partition("  ")[2] for line in before ^ after})
        changes = [f"sealproof was changed during the run: {', '.join(changed[:MOST])}"] if changed else []
        if altered := ourselves.find_changed_files():
            changes.append(f"not as it was installed: {', '.join(altered[:MOST])}")
        root = self._config.rootpath
        strange = ourselves.strangers(self._ourselves[SEALPROOF], PROJECT)
        if root != PROJECT:  # another project's claims are no part of sealproof
            strange = [path for path in strange if not Path(path).is_relative_to(root)]
        if other := ourselves.other_byte_code():
            changes.append(f"not a sign-off: byte code that is not of its source was loaded: {', '.join(other[:MOST])}")
        if strange:
            changes.append(f"not a sign-off: code that no list names was loaded: {', '.join(strange[:MOST])}")
        return changes

    def _holds(self, condition: Condition) -> bool:
        """Whether a condition of the contract is the case on the host, as far as it is known."""
        return condition.holds(self._identity.get("tier"), self._identity["host"])

    def _host(self) -> HostFacts:
        """What is known of the host under test."""
        kernel: KernelIdentity | None = self._identity.get("kernel")
        return HostFacts.of(kernel.release if kernel else None, self._identity.get("tier"), self._identity["host"])

    def _why_not(self, name: str, session: pytest.Session) -> tuple[Status, str]:
        """The reason why a claim of the contract was not tried."""
        if name not in self._sentences:
            here = self._contract_path.parent
            if any(here.is_relative_to(path) for path in self._paths_to_collect(session)):
                return Status.ERROR, f"the contract has this claim, but there is no test named test_{name}"
            return Status.MISS, "not run: its test was not requested"
        if name in self._deselected:
            option = session.config.option
            by = [f"-k '{option.keyword}'"] if option.keyword else []
            by += [f"-m '{option.markexpr}'"] if option.markexpr else []
            return Status.MISS, f"not run: deselected{' by ' if by else ''}{', '.join(by)}"
        if self._interrupted:
            return Status.MISS, "not run: interrupted"
        stop = self._given_up or session.shouldfail or session.shouldstop
        return Status.MISS, f"not run: {stop}" if stop else "not run"

    def _paths_to_collect(self, session: pytest.Session) -> list[Path]:
        """The folders and files that this session was asked to collect."""
        return [
            (session.config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in session.config.args
        ]

    def _command(self) -> str:
        return " ".join(["pytest", *(shell_word(str(argument)) for argument in self._config.invocation_params.args)])


def parse_machine(text: str) -> str:
    """A machine's name from an option's text: the verifier refuses a name that could be read as a claim.

    :raises argparse.ArgumentTypeError: the text is not such a name.
    """
    if not _MACHINE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no machine's name: take letters, digits, ., - and _")
    return text


def _beside(session: pytest.Session) -> bool:
    """Whether tests of something else are all that was chosen."""
    return bool(session.items) and not any(_is_claim(item) for item in session.items)


def _is_claim(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ())


def _claim_id(item: pytest.Item) -> str:
    return str(getattr(item, "originalname", None) or item.name).removeprefix("test_")


def _sentence(item: pytest.Item) -> str:
    """The first line of the test's docstring; empty if it has none."""
    doc = getattr(getattr(item, "obj", None), "__doc__", None) or ""
    return next((line.strip() for line in doc.splitlines() if line.strip()), "")
